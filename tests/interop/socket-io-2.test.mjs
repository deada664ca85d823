// The stock client of Socket.IO 2, which speaks Engine.IO 3, with the setting that lets it in.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import ioOf2 from "socket.io-client-2";

import { startBackend } from "./backend.mjs";
import { ask as askOf4, connect as connectOf4, connected as connectedOf4, next } from "./clients.mjs";
import { DEADLINE_MS, eventually, startThreeProcesses, token } from "./system.mjs";

const WEBSOCKET = { transports: ["websocket"] };
const WAYS = {
  "long-polling": { transports: ["polling"] },
  WebSocket: WEBSOCKET,
  "long-polling and then WebSocket": { transports: ["polling", "websocket"] },
  "WebSocket without bytes": { ...WEBSOCKET, forceBase64: true },
};
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

describe("the stock client of Socket.IO 2", () => {
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

  for (const [way, options] of Object.entries(WAYS)) {
    test(`chats over ${way}`, async () => {
      const room = `room for ${way} 😀`;
      const alice = await connected("alice", options);
      const bob = await connectedNew("bob");
      const { members } = await ask(alice, "join", room);
      await askOf4(bob, "join", room);
      const text = `é 😀 … from ${way}`;
      const heard = [next(alice, "message"), next(bob, "message")];

      const answer = await ask(alice, "message", { room, text });

      assert.deepEqual(members, [{ id: "alice", name: "alice" }]);
      assert.equal(typeof answer.position, "string");
      for (const [message] of await Promise.all(heard)) assert.equal(message.text, text);
    });

    test(`carries binary data and acks both ways over ${way}`, async () => {
      const alice = await connected("alice", { ...options, namespace: backend.namespace });
      const bob = await connectedNew("bob", { namespace: backend.namespace });
      const bytes = Buffer.from([0, 1, 4, 253, 254, 255]);
      const big = Buffer.alloc(100_000, 7);
      alice.on("question", (question, answer) => answer(question, bytes));

      const echoed = await ask(alice, "echo", { file: bytes, nested: [{ big }], text: "é😀" });
      assert.deepEqual(Buffer.from(echoed.file), bytes);
      assert.deepEqual(Buffer.from(echoed.nested[0].big), big);
      assert.equal(echoed.text, "é😀");
      const thanks = next(alice, "thanks");
      alice.emit("quiz", big);
      assert.deepEqual((await thanks).map((part) => Buffer.from(part)), [big, bytes]);
      const heard = [next(alice, "from one"), next(bob, "from one")];
      alice.emit("to all", bytes, big, "and text");
      for (const [first, second, text] of await Promise.all(heard)) {
        assert.deepEqual([Buffer.from(first), Buffer.from(second), text], [bytes, big, "and text"]);
      }
    });

    test(`stays for several of its own pings over ${way}`, async () => {
      const alice = await connected("alice", options);
      let isHere = true;
      alice.on("disconnect", () => (isHere = false));

      for (let pings = 0; pings < 5; pings += 1) await next(alice, "pong");

      assert.ok(isHere);
      assert.equal((await ask(alice, "join", "pings")).room, "pings");
    });
  }

  test("loses, doubles and reorders nothing across the upgrade", async () => {
    const options = { ...WAYS["long-polling and then WebSocket"], namespace: backend.namespace };
    const socket = await connected("alice", options);
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

  for (const [way, options] of Object.entries(WAYS)) {
    test(`comes back after the edge has cut its connection, over ${way}`, async () => {
      const alice = await connected("alice", { ...options, namespace: backend.namespace });
      const [gone, back] = [next(alice, "disconnect"), next(alice, "reconnect")];

      alice.emit("drop me");

      assert.deepEqual(await gone, ["transport close"]);
      await back;
      await next(alice, "connect");
      assert.equal(await ask(alice, "echo", "still here"), "still here");
    });
  }

  test("is taken out of a namespace", async () => {
    const alice = await connected("alice", { namespace: backend.namespace });
    const gone = next(alice, "disconnect");

    alice.emit("kick me");

    assert.deepEqual(await gone, ["io server disconnect"]);
  });

  test("shows its token to no log", async () => {
    const query = { token: token("alice") };
    const alice = await connected("alice", { query });
    await ask(alice, "join", "log");

    assert.ok(system.edge.log.some((line) => line.includes("connect ended")), "debug lines are there");
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
