// Makes up cases: packets as clients write them, packets with something odd in each place, and mutations of both.

import { CORPUS } from "./corpus.mjs";
import { JsonText } from "./json-text.mjs";
import { mutated } from "./mutations.mjs";
import { Random } from "./random.mjs";
import { KNOWN_CASES } from "./known-cases.mjs";

const SEEDS = [...CORPUS, ...KNOWN_CASES.map(({ input }) => input).filter((input) => !input.encode)];

const ATTACHMENTS_MAX = 10;
const ODD_COUNTS = [
  "", "0", "00", "01", "010", "11", "12", "99999", "-1", "+1", "1.0", "1e0", "1e1", "0x1", " 1", "1 ", "a", "1-1", "1e-1",
];
const ODD_TYPES = ["", " ", "7", "8", "9", "-", "a", "é", "٤", "\u00a0", "\u0000", "b", "10", "22"];
const NAMESPACES = [
  "/chat", "/a/b", "/chat?token=x&y=[1]", "/é", "/\u{1F388}", "/ ", "/0", "/a b", "/-", '/"', "/[", "/\u0000", "/\u001e",
  "//",
];
const IDS = ["0", "1", "7", "12", "007", "00", "4294967296", "9007199254740991"];
const ODD_IDS = [
  "9007199254740992",
  "9007199254740993",
  "18446744073709551615",
  "18446744073709551616",
  "100000000000000000000000",
  "9".repeat(400),
  "0".repeat(40) + "5",
  " ",
  "1 ",
  " 1",
  "1 2",
  "\t",
  "\u00a0",
  "\ufeff1",
  "-1",
  "1.5",
  "1e3",
  "٤",
];

/** Makes case `index` of a seed. */
export function makeCase(seed, index) {
  const random = new Random(seed, index);
  return random.weighted([
    [55, () => ({ socketIo: session(random) })],
    [23, () => mutated(random, random.pick(SEEDS), SEEDS)],
    [10, () => mutated(random, { socketIo: session(random) }, SEEDS)],
    [4, () => ({ engineIo: engineIoPacket(random) })],
    [4, () => ({ payload: payload(random).toString("base64") })],
    [4, () => ({ encode: outgoing(random) })],
  ])();
}

/** The messages of a client: one packet or a few, mostly with the attachments that they announce. */
function session(random) {
  const messages = [];
  const packets = random.weighted([[70, 1], [20, 2], [10, 4]]);
  for (let packet = 0; packet < packets; packet += 1) {
    const { text, attachments } = socketIoPacket(random);
    messages.push({ text: text.toWellFormed() });
    const sent = random.weighted([[90, attachments], [4, attachments - 1], [4, attachments + 1], [2, 0]]);
    for (let count = 0; count < sent; count += 1) messages.push(attachment(random));
    if (random.chance(2))
      messages.splice(
        1 + random.below(messages.length),
        0,
        random.pick([attachment(random), { text: "2[]" }, { text: "" }]),
      );
  }
  return messages;
}

function attachment(random) {
  return {
    binary: random
      .bytes(
        random.weighted([[20, 0], [70, 3], [10, 300]]),
      )
      .toString("base64"),
  };
}

function socketIoPacket(random) {
  const type = random.weighted([
    [30, "2"],
    [14, "3"],
    [10, "0"],
    [4, "1"],
    [2, "4"],
    [22, "5"],
    [12, "6"],
    [3, random.pick(ODD_TYPES)],
  ]);
  let count = "";
  let attachments = 0;
  if ("56".includes(type) && type !== "") {
    attachments = random.chance(80) ? 1 + random.below(3) : 1 + random.below(ATTACHMENTS_MAX);
    count = `${attachments}-`;
    if (random.chance(4)) {
      const odd = random.pick(ODD_COUNTS);
      attachments = Math.max(0, Math.min(ATTACHMENTS_MAX + 2, Number(odd) || 0));
      count = `${odd}${random.chance(90) ? "-" : ""}`;
    }
  } else if (random.chance(1)) {
    count = "1-";
  }
  const text = `${type}${count}${namespace(random)}${ackId(random, type)}${socketIoPayload(random, type, attachments)}`;
  return { text, attachments };
}

function namespace(random) {
  return random.weighted([
    [60, () => ""],
    [20, () => "/chat,"],
    [4, () => "/,"],
    [10, () => `${random.pick(NAMESPACES)},`],
    [2, () => `/${"n".repeat(508 + random.below(6))},`],
    [1, () => `/${"é".repeat(254 + random.below(3))},`],
    [3, () => random.pick(NAMESPACES)],
  ])();
}

function ackId(random, type) {
  const usual = "36".includes(type) ? 90 : 30;
  if (random.chance(4)) return random.pick(ODD_IDS);
  if (!random.chance(usual)) return "";
  return random.chance(70) ? random.pick(IDS) : String(random.below(2 ** 32));
}

function socketIoPayload(random, type, attachments) {
  const json = new JsonText(random, { attachments });
  if (random.chance(3)) return random.pick(["", " ", json.value(2), "[", '["a"]x', '["a"] ', ' ["a"]']);
  switch (type) {
    case "0":
      return random.chance(40) ? "" : json.object();
    case "1":
      return random.chance(90) ? "" : json.value(1);
    case "3":
    case "6":
      return random.chance(5) ? "" : json.ack();
    case "4":
      return random.chance(50) ? json.object() : json.value(1);
    default:
      return json.event();
  }
}

function engineIoPacket(random) {
  const data = random.weighted([
    [30, () => socketIoPacket(random).text],
    [20, () => base64(random)],
    [20, () => "probe"],
    [30, () => ""],
  ])();
  return `${random.pick(["0", "1", "2", "3", "4", "4", "5", "6", "b", "b", "b", "7", "9", "B", "", " ", "é", "_"])}${data}`.toWellFormed();
}

function base64(random) {
  const text = random.bytes(random.below(90)).toString("base64");
  return random.weighted([
    [60, () => text],
    [10, () => text.replace(/(.{76})/g, "$1\n")],
    [5, () => text.replace(/=/g, "")],
    [5, () => Buffer.from(text, "base64").toString("base64url")],
    [
      20,
      () => {
        const at = random.below(text.length + 1);
        return (
          text.slice(0, at) +
          random.pick(["=", " ", "\n", "\r\n", "-", "_", "A", "AB", "é", "\u0000", "!"]) +
          text.slice(at + random.below(2))
        );
      },
    ],
  ])();
}

function payload(random) {
  const packet = () => {
    if (random.chance(5)) return Buffer.concat([Buffer.from("4"), random.bytes(random.below(12))]);
    return Buffer.from(random.chance(60) ? `4${socketIoPacket(random).text.toWellFormed()}` : engineIoPacket(random));
  };
  const packets = Array.from({ length: 1 + random.below(4) }, packet);
  const separated = packets.flatMap((part) => [Buffer.from(random.chance(98) ? "\u001e" : ""), part]);
  return Buffer.concat(random.chance(98) ? separated.slice(1) : separated);
}

/** What a server sends, with its arguments as V8 writes them. */
function outgoing(random) {
  const path = random.chance(40) ? "/" : random.pick(NAMESPACES);
  const text = () =>
    random.several(6, () =>
      random.pick(["a", "é", '"', "\\", "/", "\n", "\b", "\u0000", "\u001e", "\u007f", "\u2028", "\u{1F388}"]),
    );
  const json = () => `{"a":${JSON.stringify(text())}}`;
  const withArgs = () => {
    const { args, count } = outgoingArgs(random);
    const attachments = Array.from({ length: count }, () => attachment(random).binary);
    const id = random.chance(80) ? random.below(2 ** 32) : Number.MAX_SAFE_INTEGER;
    return { namespace: path, args, ackId: id, attachments };
  };
  return random.weighted([
    [10, () => ({ connect: { namespace: path, sid: text() } })],
    [10, () => ({ connectError: { namespace: path, message: text(), ...(random.chance(50) && { data: json() }) } })],
    [5, () => ({ disconnect: { namespace: path } })],
    [30, () => ({ ack: withArgs() })],
    [
      45,
      () => {
        const { ackId: id, ...event } = withArgs();
        return { event: { name: text(), ...event, ...(random.chance(30) && { ackId: id }) } };
      },
    ],
  ])();
}

function outgoingArgs(random) {
  const attachment = Symbol("attachment");
  const value = (depth) =>
    random.weighted([
      [20, () => attachment],
      [20, () => random.below(1000) / 8],
      [20, () => random.pick(["", "a", "é\n", "\u2028", "\ud800", "_placeholder", "\u{1F388}"])],
      [10, () => random.pick([true, false, null])],
      [depth > 0 ? 15 : 0, () => Array.from({ length: random.below(4) }, () => value(depth - 1))],
      [
        depth > 0 ? 15 : 0,
        () =>
          Object.fromEntries(
            Array.from({ length: random.below(4) }, () => [
              random.pick(["b", "a", "1", "num", "__proto__"]),
              value(depth - 1),
            ]),
          ),
      ],
    ])();
  const isBinary = random.chance(50);
  let count = 0;
  // In the order in which they are written, as the reference encoder numbers them.
  const numbered = (_, item) => (item === attachment ? (isBinary ? { _placeholder: true, num: count++ } : 0) : item);
  const elements = random.chance(3)
    ? Array(9 + random.below(4)).fill(attachment)
    : Array.from({ length: random.below(5) }, () => value(3));
  const args = JSON.stringify(elements, numbered);
  return { args, count };
}
