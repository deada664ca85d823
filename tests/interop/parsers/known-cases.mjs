// Cases that are always asked: each rule of the protocol, and each difference that is explained.

const binary = (packet, ...attachments) =>
  session(packet, ...attachments.map((attachment) => ({ binary: attachment })));
const session = (...messages) => ({
  socketIo: messages.map((message) => (typeof message === "string" ? { text: message } : message)),
});
const bytes = (body) => ({ payload: Buffer.from(body).toString("base64") });
const body = (packets) => bytes(packets.replaceAll("|", "\u001e"));
const placeholder = (num) => `{"_placeholder":true,"num":${num}}`;

const taken = [
  // Each type, with and without each part.
  ...[
    "0", '0{"token":"123"}', '0/admin,{"token":"123"}', "0/custom", "0/custom?a=b,", '07{"a":1}', "1", "1/admin,",
    "1/admin", "2", "21", "2/a,", '2["ev",1]', '21["ev",1]', '2/admin,007["ev",{"a":[]}]', "31[]",
    '3/admin,1[{"ok":true}]', "31", "3", "3[]", '2["a"] ', '2[ "a" , 1 ]\n', '2["\\u0061\\n\\ud83c\\udf88","\\ud800"]',
    '2["m",{"_placeholder":true,"num":9}]', '2["a",1e400,-0,12345678901234567890,{"a":1,"a":2},{"__proto__":{"b":1}}]',
  ].map((packet) => session(packet)),
  binary('51-["m",{"_placeholder":true,"num":0}]', "AQID"),
  binary('61-7[{"_placeholder":true,"num":0}]', "AQID"),
  binary('52-/a,3["m",{"b":[{"num":1,"_placeholder":true},{"_placeholder":true,"num":0}]}]', "AQID", ""),
  binary('51-["m"]', "AQID"),
  binary('52-["m",{"_placeholder":true,"num":1},{"_placeholder":true,"num":1}]', "AQ==", "Ag=="),
  binary('501-["m",{"_placeholder":true,"num":0}]', "AQID"),
  binary('51-["m",{"\\u005fplaceholder":true,"n\\u0075m":0}]', "AQID"),
  binary('51-["m",{"num":9,"_placeholder":true,"num":0}]', "AQID"),
  binary(`510-["m"${',{"_placeholder":true,"num":9}'.repeat(10)}]`, ...Array(10).fill("AQ==")),
  ...["false", "1", '"true"', "null", "[true]", "{}"].map((flag) =>
    binary(`51-["m",{"_placeholder":${flag},"num":9}]`, "AQID"),
  ),
  session("0", '51-["a"]', { binary: "" }, '2["b"]', "1"),
  // Engine.IO.
  ...[
    "0", "1", "2", "2probe", "3", "3x", "4", "4é\u0000\u{1F388}", "5", "6", "b", "bAQID", "bAQI=", "bAQ==",
    "bAQID\nAQI=\n",
  ].map((engineIo) => ({ engineIo })),
  ...["4a", "4a|4b|bAQID", "3|0|5|6|4a", "4a|1|9", "b|4", "4é|4\u{1F388}"].map((packets) => body(packets)),
  // What a server sends.
  ...[
    { connect: { namespace: "/", sid: "x" } },
    { connect: { namespace: "/a", sid: '"\\\n\u0000\u007f\u2028é\u{1F388}' } },
    { connectError: { namespace: "/a", message: 'no "entry"' } },
    { connectError: { namespace: "/", message: "no", data: '{"code":1}' } },
    { disconnect: { namespace: "/" } },
    { disconnect: { namespace: "/a" } },
    { event: { namespace: "/", name: "\b\u001e/", args: "[]", attachments: [] } },
    { event: { namespace: "/a", name: "m", args: '[1,"\\ud800"]', ackId: 9007199254740991, attachments: [] } },
    { event: { namespace: "/a", name: "m", args: `[${placeholder(0)}]`, ackId: 0, attachments: ["AQID"] } },
    { ack: { namespace: "/", args: "[]", ackId: 0, attachments: [] } },
    { ack: { namespace: "/a", args: `[[${placeholder(0)}],${placeholder(1)}]`, ackId: 12, attachments: ["", "AQID"] } },
  ].map((encode) => ({ encode })),
];

const refused = [
  ...[
    "", "7", "9", "a", "é", "٤", ' 2["a"]', "2[]", "2{}", '2"a"', "2[{}]", "2[null]", "2[", '2["a"', '2["a",]', '2["a"]x',
    "2[01]", '2["connect"]', '2["connect_error"]', '2["disconnect"]', '2["disconnecting"]', '2["newListener"]',
    '2["removeListener"]', '2["\\u0063onnect"]', "0[]", '0"a"', "0null", "0{", "01[", "1{}", "31{}", "3null", "4[]", "5",
    '5["a"]', '50-["a"]', "5-[]", '511-["a"]', '51e-1-["a"]', '51-["connect"]', "51-[]", "61-1{}",
    '2٤["a"]', '2["a",1.]', '2["a",01]', '2["a\u0001"]', '2["a",\f1]', '2["a",\u00a01]',
  ].map((packet) => session(packet)),
  // Binary that nobody announced, text where binary is due; and each error leaves nothing behind.
  session({ binary: "AQID" }),
  session('51-["a"]', { binary: "AQ==" }, { binary: "AQ==" }, '2["b"]'),
  session('51-["a"]', '2["b"]', '2["c"]'),
  session('52-["a"]', { binary: "AQ==" }, '51-["b"]', '51-["c"]', { binary: "Ag==" }, { binary: "Aw==" }, '2["d"]'),
  session('51-["connect"]', { binary: "AQ==" }, '2["b"]'),
  ...["", "7", "9", "B", " 4", "٤", "é"].map((engineIo) => ({ engineIo })),
  ...["", "4a|", "|4a", "4a||4b", "4a|2|4b", "4a|9|4b"].map((packets) => body(packets)),
];

const explained = {
  "white space where an ack id may stand": [
    session('2 ["a"]'),
    session('2/a,\n["a"]'),
    session('21 2["a"]'),
    session('2\u00a0["a"]'),
    session("0 "),
    session("1 "),
    session("2 "),
    session("3 "),
    session("3 []"),
    session(" "),
    session(" /a,{}"),
    binary('51- ["a"]', ""),
  ],
  "attachments counted in another form": [
    session('5+1-["a"]'),
    session('51.0-["a"]'),
    session('51e0-["a"]'),
    session('50x1-["a"]'),
    session('5 1-["a"]'),
  ],
  "binary packet without a payload": [session("51-"), session("51-/a,7")],
  "binary ack without an id": [session("61-[]"), session("61-/a,[]"), session("61- []")],
  "ack id of more than 64 bits": [session('218446744073709551616["a"]'), session("3100000000000000000000[]")],
  "ack id from 2^53 up to 64 bits": [session('29007199254740993["a"]'), session("318446744073709551615[]")],
  "event name over 256 bytes": [
    session(`2["${"n".repeat(257)}"]`),
    session(`2["${"é".repeat(129)}"]`),
    session(`2[${"1".repeat(257)}]`),
  ],
  "namespace over 512 bytes": [session(`0/${"n".repeat(512)},`), session(`2/${"é".repeat(256)},["a"]`)],
  "event name with half a surrogate pair": [session('2["\\ud800"]'), session('2["a\\udf88\\ud83c"]')],
  "number as an event name": [
    session("2[1]"),
    session("2[1e2,1]"),
    session("2[-0]"),
    session("2[1e400]"),
    binary("51-[1]", ""),
  ],
  "CONNECT_ERROR from a client": [session("4"), session("4{}"), session('4"no"'), session('4/a,{"message":"no"}')],
  "placeholder for no attachment": [
    session(`51-["a",${placeholder(1)}]`),
    session('51-["a",{"_placeholder":true}]'),
    session(`61-1[[${placeholder(-1)}]]`),
  ],
  "placeholder with a number in another form": [
    session(`51-["a",${placeholder("-0")}]`),
    session(`51-["a",${placeholder("0.5")}]`),
    session(`51-["a",${placeholder("0e1")}]`),
  ],
  "placeholder where nobody reads it": [
    session(`51-["a",{"_placeholder":true,"num":0,"x":${placeholder(1)}}]`),
    session(`51-["a",{"x":${placeholder(1)},"x":${placeholder(0)}}]`),
    session(`51-["a",{"x":${placeholder(1)},"x":0}]`),
    session('51-["a",{"x":{"_placeholder":true,"num":0,"num":{}},"x":0}]'),
  ],
  "JSON that is nested over 64 levels": [
    binary(`51-["a",${"[".repeat(65)}${"]".repeat(65)}]`, ""),
    session(`2["a",${"[".repeat(65)}${"]".repeat(65)}]`),
  ],
  "base64 that is not canonical": ["bAQ", "bAQ=", "b-_-_", "bAR==", "bAQ==AQ==", "b AQID", "bé"]
    .map((engineIo) => ({ engineIo }))
    .concat(body("4a|b!|4b")),
  "body that is not UTF-8": [bytes([0x34, 0xff]), bytes([0x34, 0xc3, 0x1e, 0x34, 0x61])],
  "member `__proto__` beside attachments": [
    {
      encode: { event: { namespace: "/", name: "a", args: `[{"__proto__":1},${placeholder(0)}]`, attachments: [""] } },
    },
  ],
  "more than 10 attachments to send": [
    {
      encode: {
        ack: {
          namespace: "/",
          args: `[${Array.from({ length: 11 }, (_, num) => placeholder(num))}]`,
          ackId: 1,
          attachments: Array(11).fill(""),
        },
      },
    },
  ],
  "U+001E in a namespace, on long-polling": [
    session('2/\u001e,["a"]'),
    { encode: { disconnect: { namespace: "/\u001e" } } },
  ],
};

/** Each case with what becomes of it: whether something in it is refused by both, or what explains the difference. */
export const KNOWN_CASES = [
  ...taken.map((input) => ({ input, isRefused: false })),
  ...refused.map((input) => ({ input, isRefused: true })),
  ...Object.entries(explained).flatMap(([name, inputs]) => inputs.map((input) => ({ input, name }))),
];
