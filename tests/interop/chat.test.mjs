// The stock socket.io-client against /chat, written as for the gateway of the NestJS documentation.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { Manager } from "socket.io-client";

import { ask, connect, connected, next, plainWebSocket } from "./clients.mjs";
import { eventually, startThreeProcesses, token } from "./system.mjs";

describe("the stock socket.io-client", () => {
  let system;
  const open = [];
  const client = async (subject, options) => {
    const socket = await connected(system, subject, options);
    open.push(socket);
    return socket;
  };

  before(async () => {
    system = await startThreeProcesses();
  });
  after(() => system.stop());
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  test("joins with a room's name and gets messages with user and text, as from the NestJS gateway", async () => {
    const alice = await client("alice");
    const bob = await client("bob");
    await ask(alice, "join", "nest");
    bob.emit("join", "nest");
    const heard = next(alice, "message");

    bob.emit("message", { room: "nest", text: "hello" });

    const [message] = await heard;
    assert.equal(message.text, "hello");
    assert.deepEqual(message.user, { id: "bob", name: "bob" });
  });

  test("gets its own message, and one sent right behind its join", async () => {
    const alice = await client("alice");
    const heard = next(alice, "message");

    alice.emit("join", "quick");
    alice.emit("message", { room: "quick", text: "first words" });

    const [message] = await heard;
    assert.equal(message.text, "first words");
  });

  test("gets every ack that it asks for", async () => {
    const alice = await client("alice");

    const joined = await alice.emitWithAck("join", "acks");
    const sent = await ask(alice, "message", { room: "acks", text: "hi", id: "m1" });
    const again = await ask(alice, "message", { room: "acks", text: "hi", id: "m1" });
    const unknown = await ask(alice, "no such event", 1, "two", { three: 3 });
    const invalid = await ask(alice, "message", { room: "acks" });

    assert.deepEqual(Object.keys(joined).sort(), ["members", "position", "room"]);
    assert.equal(sent.id, "m1");
    assert.equal(typeof sent.at, "number");
    assert.deepEqual(again, sent);
    assert.equal(unknown.error.code, "unknown_event");
    assert.equal(unknown.error.retryable, false);
    assert.equal(invalid.error.code, "invalid_payload");
  });

  test("gets errors that it did not ask for as `exception`, as from the NestJS gateway", async () => {
    const alice = await client("alice");
    const raised = next(alice, "exception");

    alice.emit("message", { room: "not joined", text: "secret words" });

    const [exception] = await raised;
    assert.equal(exception.status, "error");
    assert.equal(exception.code, "not_a_member");
    assert.ok(!JSON.stringify(exception).includes("secret words"));
  });

  test("is told why it is not let in, does not try again, and gets in once it has a good token", async () => {
    const socket = connect(system, "mallory", { auth: { token: token("mallory", { lifetimeSeconds: -60 }) } });
    open.push(socket);

    const [error] = await next(socket, "connect_error");

    assert.equal(error.message, "Unauthorized");
    assert.deepEqual(error.data, { code: "unauthorized" });
    assert.equal(socket.active, false);
    socket.auth = { token: token("alice") };
    const back = next(socket, "connect");
    socket.connect();
    await back;
  });

  test("is told of an unknown namespace", async () => {
    const socket = connect(system, "alice", { namespace: "/nope" });
    open.push(socket);

    const [error] = await next(socket, "connect_error");

    assert.equal(error.message, "Invalid namespace");
  });

  test("shares one connection between namespaces", async () => {
    const manager = new Manager(system.url, { transports: ["websocket"] });
    const auth = { token: token("alice") };
    const main = manager.socket("/", { auth });
    const chat = manager.socket("/chat", { auth });
    open.push(main, chat);
    await Promise.all([next(main, "connect"), next(chat, "connect")]);

    assert.notEqual(main.id, chat.id);
    assert.notEqual(main.id, manager.engine.id);
    await ask(main, "join", "shared");
    await ask(chat, "join", "shared");
    chat.disconnect();
    assert.equal((await ask(main, "presence", "shared")).count, 1);
    chat.connect();
    await next(chat, "connect");
  });

  test("talks to a plain WebSocket in the same room", async () => {
    const alice = await client("alice");
    await ask(alice, "join", "mixed");
    const plain = await plainWebSocket(system, "bob");
    plain.send({ event: "join", data: "mixed", id: 1 });
    await eventually("bob has joined", () => plain.heard.some((message) => message.id === 1));
    const heard = next(alice, "message");

    plain.send({ event: "message", data: { room: "mixed", text: "from the plain side" } });
    const [message] = await heard;
    await ask(alice, "message", { room: "mixed", text: "from the other side" });

    assert.equal(message.text, "from the plain side");
    await eventually("bob hears alice", () => plain.heard.some(({ data }) => data?.text === "from the other side"));
    plain.socket.close();
  });

  test("sees who comes and goes", async () => {
    const alice = await client("alice");
    await ask(alice, "join", "door");
    const came = next(alice, "presence");
    const bob = await client("bob");
    await ask(bob, "join", "door");

    assert.deepEqual((await came)[0], { room: "door", joined: [{ id: "bob", name: "bob" }], left: [], count: 2 });
    const went = next(alice, "presence");
    bob.disconnect();
    assert.deepEqual((await went)[0], { room: "door", joined: [], left: [{ id: "bob", name: "bob" }], count: 1 });
  });

  test("sends and gets any text and a message of the largest size", async () => {
    const alice = await client("alice");
    await ask(alice, "join", "texts");

    for (const text of ["é 😀 \u2028 \\ \" / \0", "x".repeat(16_384)]) {
      const heard = next(alice, "message");
      await ask(alice, "message", { room: "texts", text });
      assert.equal((await heard)[0].text, text);
    }
  });

  test("keeps the order of what it sends", async () => {
    const alice = await client("alice");
    const bob = await client("bob");
    await ask(bob, "join", "order");
    const texts = [];
    bob.on("message", ({ text }) => texts.push(text));
    await ask(alice, "join", "order");
    const expected = Array.from({ length: 50 }, (_, number) => `number ${number}`);

    for (const text of expected) alice.emit("message", { room: "order", text });

    await eventually("all have arrived", () => texts.length === expected.length);
    assert.deepEqual(texts, expected);
  });
});
