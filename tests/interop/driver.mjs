// Tells a client that runs elsewhere what to do, and waits for what it reports: one JSON object a line, both ways.
//
//   {"do": "connect", "socket", "url", "namespace", "token", "transports"}
//   {"do": "emit", "socket", "event", "args"}, {"do": "ask", …, "id"}, {"do": "close", "socket"}
//
//   {"socket", "saw": "connected"}, "disconnected", or "refused" with "message" and "data"
//   {"socket", "saw": "event", "event", "args"}, {"socket", "saw": "answer", "id", "args"}
//
// `socket` is a name. An event that asks for an answer gets "answer" and its own arguments. Bytes are as bytes.mjs says.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";

import { read, write } from "./javascript/bytes.mjs";
import { eventually, token } from "./system.mjs";

export class Driver {
  #send;
  #sockets = new Map();
  /** Why nothing more will be reported. */
  lost = null;

  /** `send` takes one command; what the client reports goes to `accept`. */
  constructor(send, stop) {
    this.#send = send;
    this.stop = stop;
  }

  accept({ socket, ...record }) {
    this.#sockets.get(socket).records.push(record);
  }

  /** Begins to connect; what becomes of it is a record. */
  connect(subject, { url, namespace, transports, credentials = token(subject) }) {
    const name = `${subject} ${this.#sockets.size}`;
    const send = (command) => this.#send({ socket: name, ...command });
    const socket = new RemoteSocket(this, send);
    this.#sockets.set(name, socket);
    send({ do: "connect", url, namespace, transports, token: credentials });
    return socket;
  }
}

class RemoteSocket {
  #driver;
  #send;
  #asked = 0;
  records = [];

  constructor(driver, send) {
    this.#driver = driver;
    this.#send = send;
  }

  emit(event, ...args) {
    this.#send({ do: "emit", event, args: write(args) });
  }

  /** All arguments of the answer. */
  async ask(event, ...args) {
    const id = (this.#asked += 1);
    this.#send({ do: "ask", event, args: write(args), id });
    const answer = await this.#take(`the answer to ${event}`, (record) => record.saw === "answer" && record.id === id);
    return read(answer.args);
  }

  /** The arguments of the next such event that no one has taken. */
  async heard(event) {
    const { args } = await this.#take(event, (record) => record.saw === "event" && record.event === event);
    return read(args);
  }

  /** The next such record that no one has taken. */
  saw(what) {
    return this.#take(what, (record) => record.saw === what);
  }

  close() {
    this.#send({ do: "close" });
  }

  async #take(what, isIt) {
    const find = () => {
      const index = this.records.findIndex(isIt);
      if (index < 0 && this.#driver.lost) throw this.#driver.lost;
      return index < 0 ? null : this.records.splice(index, 1)[0];
    };
    return eventually(what, find).catch((error) => {
      throw new Error(`${error.message}, of ${JSON.stringify(this.records)}`);
    });
  }
}

/** A client that is a program. It needs a file that `./test` makes. */
export function startProgram(command, args, { needs = command } = {}) {
  if (!existsSync(needs)) throw new Error(`${needs} is not there: run \`./test interop\``);
  const program = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const driver = new Driver(
    (message) => program.stdin.write(`${JSON.stringify(message)}\n`),
    async () => {
      program.stdin.end();
      await ended;
    },
  );
  const ended = once(program, "exit").then(
    ([code]) => (driver.lost = new Error(`${command} ended with ${code}`)),
    (error) => (driver.lost = error),
  );
  // Of a program that has ended; whoever waits for it is told above.
  program.stdin.on("error", () => {});
  createInterface({ input: program.stdout }).on("line", (line) => driver.accept(JSON.parse(line)));
  return driver;
}
