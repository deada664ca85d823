// Damages cases: characters of texts, bytes of bodies, and the order of messages.

const SPLICES = [
  "0", "1", "2", "5", "6", "9", "-", "1-", "10-", "11-", ",", "/", "/a,", "[", "]", "{", "}", '"', ":", "\\", "\\u", " ",
  "\t", "\n", "\u001e", "e", "E+", ".", "b", "b=", "=", "true", "null", "\u0000", "é", "\u{1F388}", "\u00a0", "\ufeff",
  "\ud800", "connect", "[]", "{}", '"a"', '{"_placeholder":true,"num":0}', '"_placeholder":true', '"num":1', "__proto__",
  "18446744073709551616",
];

/** Returns `input` with one thing changed, or a few. The parts that are put in come from `others`, too. */
export function mutated(random, input, others) {
  let result = input;
  const changes = random.weighted([[50, 1], [30, 2], [20, 5]]);
  for (let change = 0; change < changes; change += 1) result = changed(random, result, others);
  return result;
}

function changed(random, input, others) {
  if (input.engineIo !== undefined) return { engineIo: changedText(random, input.engineIo, others) };
  if (input.payload !== undefined)
    return { payload: changedBytes(random, Buffer.from(input.payload, "base64")).toString("base64") };
  const messages = [...input.socketIo];
  const at = random.below(messages.length);
  if (random.chance(80)) {
    const { text, binary } = messages[at];
    messages[at] =
      text === undefined
        ? { binary: changedBytes(random, Buffer.from(binary, "base64")).toString("base64") }
        : { text: changedText(random, text, others) };
  } else if (messages.length > 1 && random.chance(50)) {
    messages.splice(at, 1);
  } else {
    const { socketIo } = random.pick(others);
    messages.splice(at, 0, ...(socketIo?.length < 12 ? socketIo : [messages[at]]));
  }
  return { socketIo: messages };
}

function changedText(random, text, others) {
  const at = random.below(text.length + 1);
  const length = random.chance(80) ? 1 : random.below(text.length - at + 1);
  const changes = [
    () => text.slice(0, at) + random.pick(SPLICES) + text.slice(at),
    () => text.slice(0, at) + random.pick(SPLICES) + text.slice(at + length),
    () => text.slice(0, at) + text.slice(at + length),
    () => text.slice(0, at) + text.slice(at, at + length) + text.slice(at),
    () => text.slice(0, at),
    () => text.slice(0, at) + String.fromCharCode(random.below(random.chance(80) ? 128 : 65536)) + text.slice(at + 1),
    () => {
      const other = random.pick(others).socketIo?.[0].text ?? "";
      return text.slice(0, at) + other.slice(random.below(other.length + 1));
    },
    // One byte, whatever character it belongs to.
    () => changedBytes(random, Buffer.from(text)).toString(),
  ];
  return random.pick(changes)().toWellFormed();
}

function changedBytes(random, bytes) {
  const at = random.below(bytes.length + 1);
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
  const changes = [
    () => Buffer.concat([before, random.bytes(1), after.subarray(1)]),
    () => Buffer.concat([before, random.bytes(1), after]),
    () => Buffer.concat([before, after.subarray(1)]),
    () => Buffer.concat([before, Buffer.from(random.pick(SPLICES)), after]),
    () => before,
  ];
  return random.pick(changes)();
}
