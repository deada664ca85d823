// What hostile connections cost the edge, by what their clients do: memory of the real process, and how long another client waits.
//
// SOCKEYE_CONNECTIONS says how many there are of each kind. With SOCKEYE_BIN_DIR it measures a release build.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import tls from "node:tls";

import { makeCertificate } from "./certificate.mjs";
import { ask, connected } from "./clients.mjs";
import { eventually, startThreeProcesses } from "./system.mjs";

const CONNECTIONS = Number(process.env.SOCKEYE_CONNECTIONS ?? 200);
const KIB = 1024;
/** What a connection may cost, whatever its client does. */
const BOUND_BYTES = 256 * KIB;
/** The largest message of a client that nobody knows yet. */
const STRANGERS_PAYLOAD_BYTES_MAX = 65_536;
/** How often in a row the process must have grown no more before it is taken to be at rest. */
const QUIET_SAMPLES = 15;

/** Sessions are opened while 64 are left, and again once 128 are. */
const SPARE_DESCRIPTORS = 200;

/** How long the other client waits before it asks again: no more often than it may. */
const PACE_MS = 50;

const OPEN = "/socket.io/?EIO=4&transport=";

/** A masked frame of a client; the mask is zero. */
function frame(opcode, payload, { isFinal = true, length = payload.length } = {}) {
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = (isFinal ? 0x80 : 0) | opcode;
  if (length < 126) {
    head[1] = 0x80 | length;
  } else if (length < 65_536) {
    head[1] = 0x80 | 126;
    head.writeUInt16BE(length, 2);
  } else {
    head[1] = 0x80 | 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([head, Buffer.alloc(4), payload]);
}

function repeat(count, one) {
  return Buffer.concat(Array.from({ length: count }, () => one));
}

const ONE_BYTE = Buffer.from("4");
const NOTHING = Buffer.alloc(0);

/** What clients do once they have a WebSocket, or instead of asking for one. */
const KINDS = {
  "is idle": { onWebSocket: NOTHING },
  "sends pings and never reads": { onWebSocket: repeat(40_000, frame(9, randomBytes(125))), isDeaf: true },
  "sends fragments of one byte": {
    onWebSocket: Buffer.concat([frame(1, ONE_BYTE, { isFinal: false }), repeat(1_000, frame(0, ONE_BYTE, { isFinal: false }))]),
  },
  "sends empty fragments": {
    onWebSocket: Buffer.concat([frame(1, ONE_BYTE, { isFinal: false }), repeat(1_000, frame(0, NOTHING, { isFinal: false }))]),
  },
  "promises a message and sends none": { onWebSocket: frame(1, NOTHING, { length: STRANGERS_PAYLOAD_BYTES_MAX }) },
  "sends nearly all of the largest message": {
    onWebSocket: frame(1, Buffer.alloc(STRANGERS_PAYLOAD_BYTES_MAX - 1, "4"), { length: STRANGERS_PAYLOAD_BYTES_MAX }),
  },
  "sends headers without an end": { instead: () => `GET ${OPEN}polling HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(15_000)}` },
  "posts a body without an end": {
    instead: async (url) => {
      const opened = await (await fetch(`${url}${OPEN}polling`)).text();
      const { sid } = JSON.parse(opened.slice(1));
      return `POST ${OPEN}polling&sid=${sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n4`;
    },
  },
  "asks for a WebSocket to move to and says nothing on it": {
    instead: async (url) => {
      const opened = await (await fetch(`${url}${OPEN}polling`)).text();
      return upgrade(`&sid=${JSON.parse(opened.slice(1)).sid}`);
    },
  },
};

/** The same over TLS, and what can be done before that is spoken. */
const KINDS_WITH_TLS = {
  "is idle": KINDS["is idle"],
  "sends nearly all of the largest message": KINDS["sends nearly all of the largest message"],
  "sends headers without an end": KINDS["sends headers without an end"],
  "begins no handshake": { handshake: NOTHING },
  "sends nearly all of the largest first message of a handshake": { handshake: clientHelloWithoutAnEnd() },
};

/** Records of TLS that hold the beginning of one message of a handshake, which may have 65,535 bytes. */
function clientHelloWithoutAnEnd() {
  const message = Buffer.alloc(65_000);
  message.set([1, 0, 0xff, 0xff]);
  const records = [];
  for (let begin = 0; begin < message.length; begin += 16_000) {
    const part = message.subarray(begin, begin + 16_000);
    const head = Buffer.from([22, 3, 1, 0, 0]);
    head.writeUInt16BE(part.length, 3);
    records.push(head, part);
  }
  return Buffer.concat(records);
}

function upgrade(rest = "") {
  const key = randomBytes(16).toString("base64");
  return [
    `GET ${OPEN}websocket${rest} HTTP/1.1`,
    "Host: a",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${key}`,
    "\r\n",
  ].join("\r\n");
}

/** One hostile client, once it has sent all that the edge takes. */
async function begin(system, { onWebSocket, instead, handshake, isDeaf = false }) {
  const [host, port] = system.address.split(":");
  const hasTls = system.url.startsWith("https:") && !handshake;
  const to = { host, port: Number(port), rejectUnauthorized: false };
  const socket = hasTls ? tls.connect(to) : net.connect(to);
  socket.on("error", () => {});
  await once(socket, hasTls ? "secureConnect" : "connect");
  if (handshake) {
    socket.write(handshake);
    return socket;
  }
  if (instead) {
    socket.write(await instead(system.url));
    return socket;
  }
  socket.write(upgrade());
  await once(socket, "data");
  if (isDeaf) socket.pause();
  else socket.resume();
  socket.write(onWebSocket);
  return socket;
}

function residentBytes(pid) {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(kib) * KIB;
}

/** What the process has in memory once it grows no more. */
function atRest(pid) {
  let [largest, quiet] = [0, 0];
  return eventually("the process grows no more", () => {
    const now = residentBytes(pid);
    quiet = now > largest ? 0 : quiet + 1;
    largest = Math.max(largest, now);
    return quiet >= QUIET_SAMPLES && largest;
  });
}

/** A client that asks something, again and again, and how long it waited for each answer. */
class Answers {
  times = [];

  constructor(client) {
    this.client = client;
  }

  start() {
    this.done = this.#ask();
    return this;
  }

  async #ask() {
    while (!this.isOver) {
      const askedAt = performance.now();
      const answer = await ask(this.client, "presence", { room: "lobby" });
      assert.equal(answer.error, undefined, "the good client is served");
      this.times.push(performance.now() - askedAt);
      await delay(PACE_MS);
    }
  }

  finish() {
    this.isOver = true;
    return this.done;
  }
}

/** Has so many clients do this, and looks at what the edge's memory grew by, and whether another client is served. */
async function measure(context, what, kind, flags = []) {
  const system = await startThreeProcesses({ edge: flags });
  if (flags.length > 0) system.url = system.url.replace("http:", "https:");
  const good = await connected(system, "good", { rejectUnauthorized: false });
  const sockets = [];
  try {
    const { pid } = system.edge.process;
    const before = await atRest(pid);

    await ask(good, "join", { room: "lobby" });
    const answers = new Answers(good).start();
    for (let index = 0; index < CONNECTIONS; index += 1) sockets.push(await begin(system, kind));
    const cost = (await atRest(pid)) - before;
    await answers.finish();

    const each = Math.round(cost / CONNECTIONS);
    const { times } = answers;
    context.diagnostic(
      `${(each / KIB).toFixed(1)} KiB each of ${CONNECTIONS} that a client ${what}; ` +
        `the slowest of ${times.length} answers to another took ${Math.max(...times).toFixed(0)} ms`,
    );
    assert.ok(each <= BOUND_BYTES, `${each} bytes`);
    assert.ok(times.length > 1, "the good client is served meanwhile");
  } finally {
    for (const socket of sockets) socket.destroy();
    good.disconnect();
    await system.stop();
  }
}

const skip = process.platform !== "linux" && "reads /proc";

describe("a hostile connection", { skip }, () => {
  for (const [what, kind] of Object.entries(KINDS)) {
    test(`that ${what} costs little, and others are served`, (context) => measure(context, what, kind));
  }
});

test("connections that take every descriptor leave others served, and new ones once they are gone", { skip }, async (context) => {
  const system = await startThreeProcesses();
  const good = await connected(system, "good");
  const sockets = [];
  try {
    const { pid } = system.edge.process;
    const inUse = () => readdirSync(`/proc/${pid}/fd`).length;
    const limit = inUse() + SPARE_DESCRIPTORS;
    execFileSync("prlimit", [`--pid=${pid}`, `--nofile=${limit}`]);
    await ask(good, "join", { room: "lobby" });

    const [host, port] = system.address.split(":");
    for (let index = 0; index < 2 * SPARE_DESCRIPTORS; index += 1) {
      const socket = net.connect({ host, port: Number(port) });
      socket.on("error", () => {});
      sockets.push(socket);
    }
    await eventually("no descriptor is left", () => inUse() >= limit);
    const answers = new Answers(good).start();
    await eventually("a second has passed for the good client", () => answers.times.length >= 1000 / PACE_MS);
    await answers.finish();
    assert.ok(inUse() >= limit, "there was none meanwhile");
    for (const socket of sockets) socket.destroy();
    const freedAt = performance.now();
    await eventually("a session is opened", async () => (await fetch(`${system.url}${OPEN}polling`)).ok);

    const { times } = answers;
    context.diagnostic(
      `without a descriptor the slowest of ${times.length} answers took ${Math.max(...times).toFixed(0)} ms, ` +
        `and sessions were opened ${(performance.now() - freedAt).toFixed(0)} ms after there were some again`,
    );
  } finally {
    for (const socket of sockets) socket.destroy();
    good.disconnect();
    await system.stop();
  }
});

describe("a hostile connection over TLS", { skip }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), "sockeye-hostile-"));
  let flags;

  before(() => {
    const { certificate, key } = makeCertificate(folder);
    flags = [`--edge-tls-cert-file=${certificate}`, `--edge-tls-key-file=${key}`];
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const [what, kind] of Object.entries(KINDS_WITH_TLS)) {
    test(`that ${what} costs little, and others are served`, (context) => measure(context, `${what}, over TLS`, kind, flags));
  }
});
