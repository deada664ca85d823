// The stock socket.io-client on each transport, across the upgrade, and with binary data.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { ask, connect, connected, next } from "./clients.mjs";
import { eventually, startThreeProcesses } from "./system.mjs";

const DEFAULTS = ["polling", "websocket"];

describe("the stock client's transports", () => {
  let backend;
  let system;
  const open = [];

  before(async () => {
    backend = await startBackend();
    // Several shards: the requests of one session arrive at any of them.
    const edge = ["--edge-shards=3", "--edge-ping-interval=200ms", `--edge-route=${backend.namespace}=${backend.url}`];
    system = await startThreeProcesses({ edge: [...edge, "--edge-events-per-second=1000", "--edge-events-burst=2000"] });
  });
  after(async () => {
    await system?.stop();
    backend?.stop();
  });
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  async function enter(subject, options) {
    const socket = await connected(system, subject, options);
    open.push(socket);
    return socket;
  }

  for (const transports of [["polling"], ["websocket"], DEFAULTS]) {
    test(`chats over ${transports.join(" and ")}`, async () => {
      const alice = await enter("alice", { transports });
      const bob = await enter("bob");
      await ask(alice, "join", "lobby");
      await ask(bob, "join", "lobby");
      const heard = [next(alice, "message"), next(bob, "message")];

      await ask(alice, "message", { room: "lobby", text: transports.join() });

      for (const [message] of await Promise.all(heard)) assert.equal(message.text, transports.join());
    });
  }

  test("loses, doubles and reorders nothing across the upgrade", async () => {
    for (let round = 0; round < 5; round += 1) {
      const socket = await enter("alice", { transports: DEFAULTS, namespace: backend.namespace });
      const answers = [];

      for (let number = 0; number < 200; number += 1) {
        answers.push(ask(socket, "echo", number));
        if (number % 20 === 0) await answers.at(-1);
      }

      assert.deepEqual(await Promise.all(answers), [...answers.keys()]);
      await eventually("the upgrade", () => socket.io.engine.transport.name === "websocket");
      assert.equal(await ask(socket, "echo", "after"), "after");
    }
  });

  test("stays on long-polling through several pings", async () => {
    const socket = await enter("alice", { transports: ["polling"] });
    for (let pings = 0; pings < 5; pings += 1) await next(socket.io.engine, "heartbeat");

    assert.equal((await ask(socket, "join", "lobby")).room, "lobby");
  });

  for (const transports of [["polling"], ["websocket"], DEFAULTS]) {
    test(`carries binary data over ${transports.join(" and ")}`, async () => {
      const alice = await enter("alice", { transports, namespace: backend.namespace });
      const heard = next(alice, "from one");
      const bytes = Buffer.from([0, 1, 2, 253, 254, 255]);
      const big = Buffer.alloc(100_000, 7);

      const answer = await ask(alice, "echo", { file: bytes, nested: [{ big }] });
      assert.deepEqual(Buffer.from(answer.file), bytes);
      assert.deepEqual(Buffer.from(answer.nested[0].big), big);
      alice.emit("to all", "file", bytes);

      const [name, file] = await heard;
      assert.equal(name, "file");
      assert.deepEqual(Buffer.from(file), bytes);
    });
  }

  test("tells a client on long-polling that the edge is being stopped", async () => {
    const own = await startThreeProcesses();
    try {
      const socket = connect(own, "alice", { transports: ["polling"] });
      open.push(socket);
      await next(socket, "connect");
      const gone = next(socket, "disconnect");

      await own.edge.stop("SIGTERM");

      assert.equal((await gone)[0], "transport close");
      assert.ok(socket.active, "it will try again");
    } finally {
      await own.stop();
    }
  });
});
