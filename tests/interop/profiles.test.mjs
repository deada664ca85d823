// The stock client and business services that do what a Socket.IO server's handlers do: those that the client's own suite
// needs, and a chat.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { io } from "socket.io-client";

import { ask, next } from "./clients.mjs";
import { chat, chatToken } from "./profiles/chat.mjs";
import { sioClient } from "./profiles/sio-client.mjs";
import { startProfile } from "./profiles/start.mjs";

const BYTES = Buffer.from("asdfasdf");
const MIXED = { hello: "lol", message: BYTES, goodbye: "gotcha" };
const TEXTS = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];

/** What is emitted, and the events that come of it. */
const CONVERSATIONS = [
  { sent: [["hi"]], heard: [["hi"]] },
  { sent: [["false"]], heard: [["false", false]] },
  { sent: [["getUtf8"]], heard: TEXTS.map((text) => ["takeUtf8", text]) },
  { sent: [["doge"]], heard: [["doge", BYTES]] },
  { sent: [["getbin"]], heard: [["takebin", BYTES]] },
  { sent: [["buffa", BYTES]], heard: [["buffack"]] },
  { sent: [["jsonbuff", MIXED]], heard: [["jsonbuff-ack"]] },
  { sent: [["abuff1", BYTES], ["abuff2", "second"]], heard: [["abuff2-ack"]] },
  { sent: [["blob", BYTES]], heard: [["back"]] },
  { sent: [["jsonblob", MIXED]], heard: [["jsonblob-ack"]] },
  { sent: [["blob1", BYTES], ["blob2", "second"], ["blob3", BYTES]], heard: [["blob3-ack"]] },
  { sent: [["buffa", "no bytes"], ["abuff2", "second"], ["unknown"]], heard: [] },
];

describe("the stock client and what its suite has a server do", () => {
  const open = [];
  let system;

  before(async () => {
    system = await startProfile(sioClient());
  });
  after(() => system?.stop());
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  function enter(namespace = "/", options = {}) {
    const socket = io(`${system.url}${namespace}`, { forceNew: true, ...options });
    open.push(socket);
    return socket;
  }

  for (const transports of [["websocket"], ["polling", "websocket"]]) {
    test(`talks over ${transports.join(" and ")}`, async () => {
      const socket = enter("/", { transports });
      const events = [];
      // The last is where the client was, for when it comes back.
      socket.onAny((...event) => events.push(event.slice(0, -1)));

      for (const { sent, heard } of CONVERSATIONS) {
        for (const event of sent) socket.emit(...event);
        await ask(socket, "echo", "the last");
        assert.deepEqual(events.splice(0), heard, sent[0][0]);
      }
    });
  }

  test("gets back whatever it asks with", async () => {
    const socket = enter();

    for (const value of [null, false, 0, "", [], { a: [BYTES] }, "text"]) {
      assert.deepEqual(await ask(socket, "echo", value), value);
    }
    assert.ok(Date.now() - Date.parse(await ask(socket, "getAckDate")) < 60_000);
  });

  test("is asked, and its answer is heard", async () => {
    const socket = enter();
    socket.on("ack", (answer) => answer(5, { test: true }));
    const heard = next(socket, "got it");

    socket.emit("ack");

    await heard;
  });

  test("gets dates as text", async () => {
    const socket = enter();
    const heard = [next(socket, "takeDate"), next(socket, "takeDateObj")];

    socket.emit("getDate");
    socket.emit("getDateObj");

    const [[date], [{ date: within }]] = await Promise.all(heard);
    for (const text of [date, within]) assert.match(text, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  test("is told what it said of itself, decoded", async () => {
    const socket = enter("/abc", { query: { e: "f", "&a": "&=?a" }, auth: { a: "b", c: "d" } });

    const [{ query, auth, address }] = await next(socket, "handshake");

    assert.deepEqual([query.e, query["&a"], query.EIO, query.a], ["f", "&=?a", "4", undefined]);
    assert.deepEqual([auth, address], [{ a: "b", c: "d" }, "127.0.0.1"]);
  });

  test("is in several namespaces under a name of its own in each", async () => {
    const main = enter();
    const foo = main.io.socket("/foo");
    open.push(foo);

    const [inMain, inFoo] = [await ask(main, "getId"), await ask(foo, "getId")];

    assert.deepEqual([inMain, inFoo], [main.id, foo.id]);
    assert.notEqual(inMain, inFoo);
    assert.notEqual(inMain, main.io.engine.id);
  });

  test("is refused where nobody may enter, or with a query that is not wanted", async () => {
    const refused = [next(enter("/no"), "connect_error"), next(enter("/", { query: { fail: "true" } }), "connect_error")];

    const [[inNo], [inMain]] = await Promise.all(refused);

    assert.equal(inNo.message, "Auth failed (custom namespace)");
    assert.equal(inMain.message, "Auth failed (main namespace)");
  });

  test("leaves its namespace and comes back as another", async () => {
    const socket = enter();
    await next(socket, "connect");
    const before = socket.id;

    await Promise.all([next(socket, "connect"), socket.disconnect().connect()]);

    assert.notEqual(socket.id, before);
    assert.equal(socket.recovered, false);
    assert.equal(await ask(socket, "echo", "back"), "back");
  });

  test("loses its connection and comes back as the same, over and over", async () => {
    const socket = enter("/", { reconnectionDelay: 10, reconnectionDelayMax: 10 });
    await next(socket, "connect");
    const { id, _pid: pid } = socket;
    assert.deepEqual([typeof pid, socket.recovered], ["string", false]);
    const offsets = [];

    for (let times = 0; times < 5; times += 1) {
      const said = next(socket, "hi");
      socket.emit("hi");
      offsets.push(...(await said));
      const back = next(socket, "connect");
      socket.io.engine.close();
      await back;
      assert.deepEqual([socket.recovered, socket.id, socket._pid], [true, id, pid]);
    }

    assert.deepEqual(offsets.map((offset) => typeof offset), Array(5).fill("string"));
    assert.equal(new Set(offsets).size, 5);
    assert.equal(await ask(socket, "getId"), id);
  });
});

describe("the stock client and a chat", () => {
  const open = [];
  const systems = [];

  after(async () => {
    for (const system of systems) await system.stop();
  });
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  async function startChat(refuse) {
    systems.push(await startProfile(chat({ refuse }), { flags: ["--edge-shards=3"] }));
    return systems.at(-1);
  }

  function enter({ url }, token) {
    const socket = io(`${url}/chat`, { forceNew: true, auth: { token } });
    open.push(socket);
    return socket;
  }

  test("hear one another in a room, on whatever shard they are", async () => {
    const system = await startChat("disconnect");
    const [alice, ...others] = ["alice", "bob", "carol", "dan", "eve"].map((name) => enter(system, chatToken(name)));
    for (const socket of [alice, ...others]) {
      assert.deepEqual(await ask(socket, "join", { room: "lobby" }), { ok: true, room: "lobby" });
    }
    const toAlice = [];
    alice.on("message", ({ body }) => toAlice.push(body));
    const heard = others.map((socket) => next(socket, "message"));

    await ask(alice, "others", { room: "lobby", body: "to the others" });
    const expected = { room: "lobby", from: "alice", body: "to the others" };
    for (const [message] of await Promise.all(heard)) assert.deepEqual(message, expected);
    const bytes = others.map((socket) => next(socket, "message"));
    await ask(alice, "message", { room: "lobby", body: BYTES });
    for (const [message] of await Promise.all(bytes)) assert.deepEqual(message, { ...expected, body: BYTES });

    assert.deepEqual(toAlice, [BYTES]);
  });

  test("is let in and put out by a service that looks at the token late", async () => {
    const system = await startChat("disconnect");
    for (const token of [undefined, "bad", chatToken("alice", { lifetimeSeconds: -1 })]) {
      const socket = enter(system, token);
      const welcomed = [];
      socket.on("welcome", (welcome) => welcomed.push(welcome));

      const [, [reason]] = await Promise.all([next(socket, "connect"), next(socket, "disconnect")]);

      assert.deepEqual([reason, socket.active, welcomed], ["io server disconnect", false, []]);
    }
  });

  test("is refused by a service that looks at the token at once", async () => {
    const system = await startChat("error");
    for (const token of [undefined, "bad", chatToken("alice", { lifetimeSeconds: -1 })]) {
      const socket = enter(system, token);

      const [{ message, data }] = await next(socket, "connect_error");

      assert.deepEqual([message, data, socket.active], ["Unauthorized", { code: "E_AUTH" }, false]);
    }
  });
});
