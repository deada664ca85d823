// Finds placeholders as they are written, which is more than JSON.parse() leaves of them.

const STRING_AND_WHAT_FOLLOWS = /("(?:[^"\\]|\\.)*")(\s*:\s*(-?[0-9][-+.0-9eE]*|[[{])?)?/g;

/**
 * Returns the number in each placeholder of a JSON text as it is written, or undefined where it is none. A placeholder may be
 * within another one, and within a member that a later one of the same name replaces.
 */
export function numbersInPlaceholders(json) {
  let members = 0;
  // Gives each member a name of its own. Those that make a placeholder keep theirs, but hold nothing in which more could be.
  const apart = json.replace(STRING_AND_WHAT_FOLLOWS, (whole, string, colon, value) => {
    if (colon === undefined) return whole;
    const key = JSON.parse(string);
    const isInside = value === "[" || value === "{";
    if (key === "num" && value !== undefined && !isInside) return `"num":["${value}"]`;
    const own = `"${(members += 1)}"${colon}`;
    if (key !== "_placeholder" && key !== "num") return own;
    return isInside ? `"${key}":null,${own}` : `"${key}"${colon}`;
  });
  const found = [];
  const values = [JSON.parse(apart)];
  while (values.length > 0) {
    const next = values.pop();
    if (typeof next !== "object" || next === null) continue;
    if (next._placeholder === true) found.push(Array.isArray(next.num) ? next.num[0] : undefined);
    for (const value of Object.values(next)) values.push(value);
  }
  return found;
}
