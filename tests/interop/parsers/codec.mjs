// Asks our decoders and encoders, in a process of their own.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

const BIN_DIR = process.env.SOCKEYE_BIN_DIR ?? path.join(import.meta.dirname, "../../../target/debug");

export class Codec {
  #waiting = [];
  #errors = "";
  #hasEnded = false;
  #process;

  constructor() {
    const binary = path.join(BIN_DIR, "examples/codec-pipe");
    if (!existsSync(binary)) throw new Error(`${binary} is not built: run \`cargo build --workspace --all-targets\``);
    this.#process = spawn(binary);
    // Its end is told by `close`.
    this.#process.stdin.on("error", () => {});
    this.#process.stderr.on("data", (data) => (this.#errors += data));
    createInterface({ input: this.#process.stdout }).on("line", (line) =>
      this.#waiting.shift().resolve(JSON.parse(line)),
    );
    this.#process.on("close", () => {
      this.#hasEnded = true;
      // Answers come in order: it is the first one that ended the process.
      for (const { input, reject } of this.#waiting.splice(0))
        reject(new Error(`no answer to ${JSON.stringify(input)}\n${this.#errors}`));
    });
  }

  /** Returns the answer to each case. */
  async answers(inputs) {
    if (this.#hasEnded) throw new Error("the codec has ended");
    const answers = inputs.map(
      (input) => new Promise((resolve, reject) => this.#waiting.push({ input, resolve, reject })),
    );
    this.#process.stdin.write(inputs.map((input) => `${JSON.stringify(input)}\n`).join(""));
    return Promise.all(answers);
  }

  stop() {
    this.#process.stdin.end();
  }
}
