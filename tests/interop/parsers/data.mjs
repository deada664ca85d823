// Compares what JSON texts say, and puts attachments into it. Neither recurs, so neither minds depth.

const isObject = (value) => typeof value === "object" && value !== null && !Buffer.isBuffer(value);

/** Whether two values say the same: also -0 is not 0, and members have an order. */
export function isSame(one, other) {
  const pairs = [[one, other]];
  while (pairs.length > 0) {
    const [a, b] = pairs.pop();
    if (Object.is(a, b)) continue;
    if (Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.equals(b)) continue;
    if (!isObject(a) || !isObject(b) || Array.isArray(a) !== Array.isArray(b)) return false;
    const [keys, otherKeys] = [Object.keys(a), Object.keys(b)];
    if (keys.length !== otherKeys.length || keys.some((key, index) => key !== otherKeys[index])) return false;
    for (const key of keys) pairs.push([a[key], b[key]]);
  }
  return true;
}

/** Puts attachments in the places of their placeholders in an array. */
export function filledIn(elements, attachments) {
  const parents = [elements];
  while (parents.length > 0) {
    const parent = parents.pop();
    for (const key of Object.keys(parent)) {
      const value = parent[key];
      if (!isObject(value)) continue;
      if (value._placeholder === true) parent[key] = attachments[value.num];
      else parents.push(value);
    }
  }
  return elements;
}
