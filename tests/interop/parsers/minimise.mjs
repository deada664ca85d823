// Makes a case smaller for as long as it stays wrong.

const TRIES_MAX = 2000;

/** Returns the smallest case found for which `isWrong` still holds. */
export async function minimised(input, isWrong) {
  let smallest = input;
  let tries = 0;
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false;
    for (const candidate of smaller(smallest)) {
      if ((tries += 1) > TRIES_MAX) return smallest;
      if (!(await isWrong(candidate))) continue;
      smallest = candidate;
      isSmaller = true;
      break;
    }
  }
  return smallest;
}

function* smaller(input) {
  if (input.engineIo !== undefined) {
    for (const engineIo of shorter(input.engineIo)) yield { engineIo: engineIo.toWellFormed() };
  } else if (input.payload !== undefined) {
    const bytes = Buffer.from(input.payload, "base64").toString("latin1");
    for (const part of shorter(bytes)) yield { payload: Buffer.from(part, "latin1").toString("base64") };
  } else if (input.socketIo !== undefined) {
    for (const [at, { text }] of input.socketIo.entries()) {
      if (input.socketIo.length > 1) yield { socketIo: input.socketIo.toSpliced(at, 1) };
      for (const part of shorter(text ?? ""))
        yield { socketIo: input.socketIo.with(at, { text: part.toWellFormed() }) };
    }
  }
}

/** The text without a half of it, without a quarter, … and without one character. */
function* shorter(text) {
  for (let length = Math.ceil(text.length / 2); length >= 1; length = Math.floor(length / 2)) {
    for (let at = 0; at < text.length; at += length) yield text.slice(0, at) + text.slice(at + length);
  }
}
