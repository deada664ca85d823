// The stock socket.io-client across the upgrade, and at the end of an edge that it polls.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { ask, connect, connected, next } from "./clients.mjs";
import { eventually, startThreeProcesses, token } from "./system.mjs";

const DEFAULTS = ["polling", "websocket"];

describe("the stock client's transports", () => {
  let backend;
  let system;
  const open = [];

  before(async () => {
    backend = await startBackend();
    // Several shards: the requests of one session arrive at any of them.
    const edge = ["--edge-shards=3", "--edge-ping-interval=200ms", `--edge-route=${backend.namespace}=${backend.url}`];
    const limits = ["--edge-events-per-second=1000", "--edge-events-burst=2000"];
    system = await startThreeProcesses({ edge: [...edge, ...limits, "--edge-session-binding=authorization,origin"] });
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

  test("moves to a WebSocket with a token in its headers", async () => {
    const extraHeaders = { authorization: `Bearer ${token("alice")}` };
    const socket = await enter("alice", { transports: DEFAULTS, namespace: backend.namespace, extraHeaders });

    await eventually("the upgrade", () => socket.io.engine.transport.name === "websocket");
    assert.equal(await ask(socket, "echo", "after"), "after");
  });

  test("stays on long-polling where only that has the token, and goes on", async () => {
    const polling = { extraHeaders: { authorization: `Bearer ${token("alice")}` } };
    const options = { transports: DEFAULTS, namespace: backend.namespace, transportOptions: { polling } };
    const socket = connect(system, "alice", options);
    open.push(socket);
    const refused = next(socket.io.engine, "upgradeError");
    await next(socket, "connect");

    await refused;

    assert.equal(await ask(socket, "echo", "after"), "after");
    assert.equal(socket.io.engine.transport.name, "polling");
  });

  test("tells a client on long-polling that the edge is being stopped", async () => {
    const own = await startThreeProcesses();
    try {
      const socket = connect(own, "alice", { transports: ["polling"] });
      open.push(socket);
      await next(socket, "connect");
      // Between two polls there is nobody to tell. A later request that is answered has let the poll come first.
      await eventually("the client polls", () => socket.io.engine.transport._polling);
      await own.ready();
      const gone = next(socket, "disconnect");

      await own.edge.stop("SIGTERM");

      assert.equal((await gone)[0], "transport close");
      assert.ok(socket.active, "it will try again");
    } finally {
      await own.stop();
    }
  });
});
