// Bytes inside JSON: `{"$bytes": "<base64>"}`, at any depth. For Node and for pages.

/** A copy of what came as JSON, with bytes where they are written, as `form` makes them of an array. */
export const read = (value, form = (bytes) => bytes) =>
  map(value, ({ $bytes }) => ($bytes === undefined ? undefined : form(Uint8Array.from(atob($bytes), (letter) => letter.charCodeAt(0)))));

/** A copy that can become JSON. */
export const write = (value) =>
  map(value, (object) => {
    if (!(object instanceof ArrayBuffer) && !ArrayBuffer.isView(object)) return undefined;
    const bytes = object instanceof ArrayBuffer ? new Uint8Array(object) : object;
    return { $bytes: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
  });

function map(value, replace) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map((item) => map(item, replace));
  return replace(value) ?? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, map(item, replace)]));
}
