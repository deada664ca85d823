// Cases that mutations start from: those that the fuzzer starts from, too.

import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

const FOLDER = path.join(import.meta.dirname, "../../../fuzz/corpus");
const SEPARATOR = "\u001e";
/** Mutations of longer files cost much and tell little. */
const BYTES_MAX = 8192;

function files(target) {
  const folder = path.join(FOLDER, target);
  const contents = readdirSync(folder)
    .sort()
    .map((name) => readFileSync(path.join(folder, name)));
  return contents.filter((bytes) => bytes.length <= BYTES_MAX);
}

/** The messages that a file stands for: a U+001E between them, a `b` before those that are binary. */
function messages(bytes) {
  return bytes
    .toString("latin1")
    .split(SEPARATOR)
    .map((part) => {
      const message = Buffer.from(part, "latin1");
      if (part.startsWith("b")) return { binary: message.subarray(1).toString("base64") };
      return { text: message.toString() };
    });
}

export const CORPUS = [
  ...files("engine_io_packet").map((bytes) => ({ engineIo: bytes.toString() })),
  ...files("engine_io_payload").map((bytes) => ({ payload: bytes.toString("base64") })),
  ...files("socket_io_packet").map((bytes) => ({ socketIo: [{ text: bytes.toString() }] })),
  ...files("socket_io_binary").map((bytes) => ({ socketIo: messages(bytes) })),
];
