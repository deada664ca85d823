// Arguments of events and answers: on a link JSON text beside attachments, in JavaScript values that may have Buffers in them.

/** The values of a list. A placeholder stands for bytes only where there are attachments; else it is data like any other. */
export function decode(args, attachments) {
  const text = args.toString();
  if (attachments.length === 0) return JSON.parse(text);
  return JSON.parse(text, (_, value) => (value?._placeholder === true ? attachments[value.num] : value));
}

/** A list of values, as the members that emits and answers have in common. */
export function encode(values) {
  const attachments = [];
  const text = JSON.stringify(values, function (key, value) {
    // `value` is what the Buffer has made of itself.
    if (!Buffer.isBuffer(this[key])) return value;
    attachments.push(this[key]);
    return { _placeholder: true, num: attachments.length - 1 };
  });
  return { args: Buffer.from(text), attachments };
}
