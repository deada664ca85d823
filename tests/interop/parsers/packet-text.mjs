// Takes the text of a packet apart as loosely as the reference parser does.

/** What a text of 5 or 6 has before the first dash is the count, right or wrong. */
export function parts(text) {
  const type = text.charAt(0);
  let rest = text.slice(1);
  let count;
  if ((type === "5" || type === "6") && rest.includes("-")) {
    count = rest.slice(0, rest.indexOf("-"));
    rest = rest.slice(count.length + 1);
  }
  let namespace = "/";
  if (rest.startsWith("/")) {
    [namespace] = rest.split(",", 1);
    rest = rest.slice(namespace.length + 1);
  }
  // What JavaScript's Number() takes for 0: digits, and white space.
  const [ackId] = rest.match(/^[0-9\s]*/);
  return { type, count, namespace, ackId, payload: rest.slice(ackId.length) };
}
