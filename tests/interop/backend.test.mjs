// The stock socket.io-client, and a business service in JavaScript behind the gateway.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { ask, connect, next } from "./clients.mjs";
import { startThreeProcesses, token } from "./system.mjs";

describe("a business service in JavaScript", () => {
  let backend;
  let system;
  const open = [];

  before(async () => {
    backend = await startBackend();
    system = await startThreeProcesses({ edge: [`--edge-route=${backend.namespace}=${backend.url}`] });
  });
  after(async () => {
    await system?.stop();
    backend?.stop();
  });
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  function enter(subject) {
    const socket = connect(system, subject, { namespace: backend.namespace });
    open.push(socket);
    return socket;
  }

  async function entered(subject) {
    const socket = enter(subject);
    const [welcome] = await next(socket, "welcome");
    assert.deepEqual(welcome, { subject, socket: socket.id });
    return socket;
  }

  test("answers with what it was sent", async () => {
    const alice = await entered("alice");

    assert.deepEqual(await ask(alice, "echo", { n: 1.5, list: [null, "é"] }), { n: 1.5, list: [null, "é"] });
  });

  test("asks a client and hears its answer", async () => {
    const alice = await entered("alice");
    alice.on("question", (question, answer) => answer(`${question}: 42`));
    const thanks = next(alice, "thanks");

    alice.emit("quiz", "the answer");

    assert.deepEqual(await thanks, ["the answer: 42"]);
  });

  test("refuses a client, which does not try again", async () => {
    const socket = enter("cheater");

    const [error] = await next(socket, "connect_error");

    assert.equal(error.message, "Banned");
    assert.deepEqual(error.data, { until: "2030" });
    assert.equal(socket.active, false);
  });

  test("disconnects a client, which does not come back", async () => {
    const alice = await entered("alice");
    const inChat = alice.io.socket("/chat", { auth: { token: token("alice") } });
    open.push(inChat);
    await next(inChat, "connect");
    const lost = next(alice, "disconnect");

    assert.equal(await ask(alice, "kick me", 1), 1);

    assert.equal((await lost)[0], "io server disconnect");
    assert.equal(alice.active, false);
    assert.equal((await ask(inChat, "join", "lobby")).room, "lobby", "its connection stays");
  });

  test("closes a connection, and the client comes back", async () => {
    const alice = await entered("alice");
    const lost = next(alice, "disconnect");
    const back = next(alice, "welcome");

    alice.emit("drop me");

    assert.equal((await lost)[0], "transport close");
    await back;
  });
});
