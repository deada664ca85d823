// What only a client of Socket.IO 2 does, with the setting that lets it in. What all clients do is in every-client.mjs.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import ioOf2 from "socket.io-client-2";

import { startBackend } from "./backend.mjs";
import { connect as connectOf4, connected as connectedOf4, next } from "./clients.mjs";
import { DEADLINE_MS, eventually, startThreeProcesses, token } from "./system.mjs";

const WEBSOCKET = { transports: ["websocket"] };
const RECONNECTION = { reconnectionDelay: 50, reconnectionDelayMax: 500 };

/** Asks and waits for the one value of the answer. */
function ask(socket, event, ...data) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${event} was not answered`)), DEADLINE_MS);
    socket.emit(event, ...data, (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
  });
}

describe("a client of Socket.IO 2", () => {
  let backend;
  let system;
  const open = [];

  before(async () => {
    backend = await startBackend();
    // Several shards: the requests of one session arrive at any of them.
    const edge = ["--edge-allow-eio3", "--edge-shards=3", "--edge-ping-interval=200ms", "--log-filter=debug"];
    system = await startThreeProcesses({ edge: [...edge, `--edge-route=${backend.namespace}=${backend.url}`] });
  });
  after(async () => {
    await system?.stop();
    backend?.stop();
  });
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  /** Connects as an application of that time does: `query` is in the URL, and behind the namespace. */
  function connect(subject, { namespace = "/chat", query = { token: token(subject) }, ...options } = {}) {
    const socket = ioOf2(`${system.url}${namespace}`, { ...WEBSOCKET, ...RECONNECTION, forceNew: true, query, ...options });
    open.push(socket);
    return socket;
  }

  async function connected(subject, options) {
    const socket = connect(subject, options);
    await next(socket, "connect");
    return socket;
  }

  async function connectedNew(subject, options) {
    const socket = await connectedOf4(system, subject, options);
    open.push(socket);
    return socket;
  }

  test("is sent no bytes where it says that it cannot take them, and others of the same room are", async () => {
    const alice = await connected("alice", { forceBase64: true, namespace: backend.namespace });
    const carol = await connected("carol", { namespace: backend.namespace });
    const bob = await connectedNew("bob", { namespace: backend.namespace });
    const bytes = Buffer.from([0, 1, 4, 253, 254, 255]);
    const big = Buffer.alloc(100_000, 7);
    const frames = [];
    alice.io.engine.transport.ws.addEventListener("message", ({ data }) => frames.push(typeof data));
    alice.on("question", (question, answer) => answer(question, bytes));

    const echoed = await ask(alice, "echo", { file: bytes, nested: [{ big }], text: "é😀" });
    const thanks = next(alice, "thanks");
    alice.emit("quiz", big);
    const answered = await thanks;
    const heard = [alice, carol, bob].map((socket) => next(socket, "from one"));
    alice.emit("to all", bytes, big, "and text");

    assert.deepEqual([Buffer.from(echoed.file), Buffer.from(echoed.nested[0].big), echoed.text], [bytes, big, "é😀"]);
    assert.deepEqual(answered.map((part) => Buffer.from(part)), [big, bytes]);
    for (const [first, second, text] of await Promise.all(heard)) {
      assert.deepEqual([Buffer.from(first), Buffer.from(second), text], [bytes, big, "and text"]);
    }
    assert.deepEqual([...new Set(frames)], ["string"]);
  });

  test("loses, doubles and reorders nothing across the upgrade", async () => {
    const socket = await connected("alice", { transports: ["polling", "websocket"], namespace: backend.namespace });
    const answers = [];

    for (let number = 0; number < 80; number += 1) {
      answers.push(ask(socket, "echo", number));
      if (number % 10 === 0) await answers.at(-1);
    }

    assert.deepEqual(await Promise.all(answers), [...answers.keys()]);
    await eventually("the upgrade", () => socket.io.engine.transport.name === "websocket");
    assert.equal(await ask(socket, "echo", "after"), "after");
  });

  test("is in the main namespace without asking, and leaves others by themselves", async () => {
    const manager = new ioOf2.Manager(system.url, { ...WEBSOCKET, query: { token: token("alice") } });
    const main = manager.socket("/");
    const chat = manager.socket("/chat");
    open.push(main, chat);
    await Promise.all([next(main, "connect"), next(chat, "connect")]);

    await ask(main, "join", "shared by 2");
    await ask(chat, "join", "shared by 2");
    assert.equal(main.id, manager.engine.id);
    assert.equal(chat.id, `/chat#${manager.engine.id}`);
    chat.disconnect();

    assert.equal((await ask(main, "presence", "shared by 2")).count, 1);
  });

  test("brings the token of a namespace that has one of its own, whatever became of the main one", async () => {
    const manager = new ioOf2.Manager(system.url, WEBSOCKET);
    const chat = manager.socket("/chat", { query: { token: token("bob") } });
    open.push(chat);
    const refused = next(chat, "error");
    await next(chat, "connect");

    const { members } = await ask(chat, "join", "bob's own");

    assert.deepEqual(members, [{ id: "bob", name: "bob" }]);
    // As from the reference server: what the main namespace says, sockets of all namespaces hear.
    assert.deepEqual(await refused, [{ code: "unauthorized" }]);
  });

  test("is told why it is not let in", async () => {
    const expired = token("mallory", { lifetimeSeconds: -60 });
    const refusals = [
      [{ query: { token: expired } }, { code: "unauthorized" }],
      [{ query: {} }, { code: "unauthorized" }],
      [{ namespace: "/nope" }, { message: "Invalid namespace" }],
    ];

    for (const [options, expected] of refusals) {
      assert.deepEqual(await next(connect("mallory", options), "error"), [expected]);
    }
    const cheater = connect("cheater", { namespace: backend.namespace });
    assert.deepEqual(await next(cheater, "error"), [{ until: "2030" }]);
  });

  test("shows its token to no log", async () => {
    const query = { token: token("alice") };
    const alice = await connected("alice", { query });
    await ask(alice, "join", "log");

    await eventually("debug lines are there", () => system.edge.log.some((line) => line.includes("connect ended")));
    assert.ok(!system.edge.log.some((line) => line.includes(query.token)));
  });

  test("a token in the URL lets in no client of today", async () => {
    const query = { token: token("alice") };
    const socket = connectOf4(system, "alice", { auth: {}, query });
    open.push(socket);

    assert.equal((await next(socket, "connect_error"))[0].message, "Unauthorized");
  });

  test("is refused without the setting, as by the reference server", async () => {
    const strict = await startThreeProcesses();
    try {
      const response = await fetch(`${strict.url}/socket.io/?EIO=3&transport=polling&token=${token("alice")}`);
      assert.equal(response.status, 400);
      assert.deepEqual(await response.json(), { code: 5, message: "Unsupported protocol version" });

      const socket = ioOf2(`${strict.url}/chat`, { ...WEBSOCKET, forceNew: true, query: { token: token("alice") } });
      open.push(socket);
      assert.equal((await next(socket, "connect_error"))[0].message, "websocket error");
    } finally {
      await strict.stop();
    }
  });
});
