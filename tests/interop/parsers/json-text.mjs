// Makes up JSON texts, and texts that are nearly JSON.

const NUMBERS = [
  "0", "-0", "1", "7", "-1", "10", "255", "1.0", "0.1", "-1.5e-3", "1e5", "1E+2", "1e400", "-1e400", "5e-324",
  "9007199254740993", "18446744073709551616", "123456789012345678901234567890", "0.30000000000000004",
  "1.7976931348623157e308",
];
const NO_NUMBERS = ["01", "+1", "1.", ".5", "-", "1e", "0x1", "NaN", "Infinity", "1_0", "-01", "1e+"];

const STRING_PARTS = [
  "a", "hello", " ", "é", "漢", "\u{1F388}", "\u2028", "\u007f", "\u00a0", "\ufeff", "/", "-", ",", "[", "]", "{", "}", ":",
  "'", "\\n", "\\t", "\\b", "\\f", "\\r", "\\/", '\\"', "\\\\", "\\u0041", "\\u00e9", "\\u0000", "\\u001e", "\\u2028",
  "\\ud83c\\udf88", "\\ud800", "\\udc00", "\\uD83C", "\\u005f", "_placeholder", "num", "true", "0",
];
const NO_STRING_PARTS = ["\n", "\t", "\u0000", "\u001e", "\\x", "\\u12", "\\u12g4", "\\", '"'];

const KEYS = [
  "a", "b", "", "0", "1", "num", "_placeholder", "__proto__", "toJSON", "length", "constructor", "hasOwnProperty",
  "base64", "\\u005fplaceholder", "n\\u0075m", "\\ud800", "é", "a",
];

const NAMES = [
  '"message"', '"m"', '""', '"é"', '"\\u0041"', '"connect"', '"connect_error"', '"disconnect"', '"disconnecting"',
  '"newListener"', '"removeListener"', '"\\u0063onnect"', '"Connect"', '"connecting"', '"error"', '"__proto__"', "1", "0",
  "-0", "1.0", "1e2", "1e400", "12345678901234567890", '"\\ud800"', '"\\ud83c\\udf88"', "null", "true", "[]", "{}",
];

const PLACEHOLDER_NUMS = [
  "-1", "-0", "0.5", "1e0", "1.0", "1e400", "10", "99999999999999999999", '"0"', "null", "true", "[0]", '{"num":0}',
];

/** Writes JSON with the habits of one client: how much white space, and how likely something wrong is. */
export class JsonText {
  constructor(random, { attachments = 0 } = {}) {
    this.random = random;
    this.attachments = attachments;
    this.spacesPercent = random.weighted([[70, 0], [20, 15], [10, 60]]);
    this.wrongPercent = random.weighted([[90, 0], [10, 3]]);
  }

  event() {
    const { random } = this;
    if (random.chance(2)) return random.pick(["[]", "{}", "null", '"a"', "1", '{"0":"a","length":1}', "false"]);
    const elements = [this.name(), ...Array.from({ length: random.below(4) }, () => this.value(random.below(5)))];
    return this.#array(elements);
  }

  ack() {
    const { random } = this;
    if (random.chance(2)) return random.pick(["{}", "null", '"a"', "1", "false", "[", "]"]);
    return this.#array(Array.from({ length: random.below(4) }, () => this.value(random.below(5))));
  }

  object() {
    if (this.random.chance(5)) return this.random.pick(["[]", "null", '"a"', "1", "true", "{"]);
    return this.#object(this.random.below(4));
  }

  name() {
    const { random } = this;
    return random.weighted([
      [80, () => random.pick(NAMES)],
      [15, () => this.#string()],
      [2, () => `"${"n".repeat(250 + random.below(12))}"`],
      [1, () => `"${"é".repeat(125 + random.below(6))}"`],
      [1, () => `"${"\\u006e".repeat(250 + random.below(12))}"`],
      [1, () => "9".repeat(250 + random.below(12))],
    ])();
  }

  value(depth) {
    const { random } = this;
    if (this.attachments > 0 && random.chance(35)) return this.#placeholder(depth);
    return random.weighted([
      [20, () => this.#number()],
      [20, () => this.#string()],
      [10, () => random.pick(["true", "false", "null"])],
      [depth > 0 ? 25 : 0, () => this.#array(Array.from({ length: random.below(4) }, () => this.value(depth - 1)))],
      [depth > 0 ? 25 : 0, () => this.#object(depth)],
      [random.chance(5) ? 1 : 0, () => this.#deep()],
    ])();
  }

  #number() {
    const { random } = this;
    if (random.chance(this.wrongPercent)) return random.pick(NO_NUMBERS);
    return random.chance(60) ? random.pick(NUMBERS) : String(random.below(2 ** 32));
  }

  #string() {
    const { random } = this;
    const part = () => (random.chance(this.wrongPercent) ? random.pick(NO_STRING_PARTS) : random.pick(STRING_PARTS));
    return `"${random.several(5, part)}"`;
  }

  #array(elements) {
    return `[${elements.map((element) => this.#spaced(element)).join(this.#comma())}${this.#wrong([",", ""])}]`;
  }

  #object(depth) {
    const { random } = this;
    const member = () => {
      const key = random.chance(this.wrongPercent) ? random.pick(["a", "1", "null", "'a'"]) : `"${random.pick(KEYS)}"`;
      return `${this.#spaced(key)}${this.#wrong(["", "=", "::"]) || ":"}${this.#spaced(this.value(depth - 1))}`;
    };
    return `{${random.several(4, member, this.#comma())}${this.#wrong([","])}}`;
  }

  /** Where an attachment belongs, or nearly so. */
  #placeholder(depth) {
    const { random } = this;
    const right = () => String(random.below(this.attachments));
    const flag = `"_placeholder":${random.weighted([
      [92, "true"],
      [8, random.pick(["false", "1", '"true"', "null", "[true]"])],
    ])}`;
    const num = `"num":${random.weighted([
      [90, right()],
      [10, random.pick(PLACEHOLDER_NUMS)],
    ])}`;
    const more = random.chance(10) && depth > 0 ? [`"${random.pick(KEYS)}":${this.value(depth - 1)}`] : [];
    const members = random.chance(90) ? [flag, num, ...more] : [...more, num, flag];
    return `{${members.map((member) => this.#spaced(member)).join(",")}}`;
  }

  #deep() {
    const { random } = this;
    const depth = random.weighted([[80, 70], [19, 2000], [1, 30_000]]);
    const inside = this.value(0);
    return random.chance(50)
      ? `${"[".repeat(depth)}${inside}${"]".repeat(depth)}`
      : `${'{"a":'.repeat(depth)}${inside}${"}".repeat(depth)}`;
  }

  #comma() {
    return this.#wrong([";", "", ",,"]) || ",";
  }

  #wrong(texts) {
    return this.random.chance(this.wrongPercent) ? this.random.pick(texts) : "";
  }

  #spaced(text) {
    return `${this.#space()}${text}${this.#space()}`;
  }

  #space() {
    const { random } = this;
    if (!random.chance(this.spacesPercent)) return "";
    return random.chance(this.wrongPercent)
      ? random.pick(["\u00a0", "\f", "\v", "\ufeff", "/**/"])
      : random.pick([" ", "\n", "\t", "\r", "  "]);
  }
}
