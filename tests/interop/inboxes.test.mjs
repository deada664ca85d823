// What is kept for a user, as the stock socket.io-client gets it: on every device, also on one that was away.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import { startBalancer } from "./balancer.mjs";
import { ask, connected, next, owner, plainWebSocket } from "./clients.mjs";
import { eventually, startThreeProcesses, startTwoEdges } from "./system.mjs";

const CONTRACTS = path.join(import.meta.dirname, "../../proto");
const EVENTS = `
[namespace."/chat"]
inbox_issuer = "sockeye"
delivery_watermark = true

[namespace."/chat".event.note]
audience = "user"
logged = true
schema = { required = ["n"], properties = { n = { type = "integer" } } }
`;

describe("what is kept for a user reaches", () => {
  const cleanUp = [];
  let folder;

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), "sockeye-"));
    writeFileSync(path.join(folder, "edge.toml"), `[namespace."/chat"]\nrecovery = "1m"\n`);
    writeFileSync(path.join(folder, "chat.toml"), EVENTS);
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
  });

  const start = async ({ startSystem = startThreeProcesses, recovers = false } = {}) => {
    const data = mkdtempSync(path.join(folder, "data-"));
    const onDisk = [`--chat-data-dir=${data}`, "--chat-durability=disk"];
    const chat = [`--chat-namespaces-file=${path.join(folder, "chat.toml")}`, ...onDisk];
    const edge = recovers ? [`--edge-namespaces-file=${path.join(folder, "edge.toml")}`] : [];
    const system = await startSystem({ edge, chat });
    cleanUp.push(() => system.stop());

    const definition = loadSync("sockeye/chat/v1/chat.proto", { includeDirs: [CONTRACTS], arrays: true });
    const { ChatService } = loadPackageDefinition(definition).sockeye.chat.v1;
    const service = new ChatService(await system.chat.address("chat-service", "grpc"), credentials.createInsecure());
    cleanUp.push(() => service.close());
    const call = (method, request) =>
      new Promise((resolve) => service[method](request, (error, response) => resolve(error ? null : response)));
    /** Publishes until it is acknowledged. Trying again is harmless. */
    const notify = async (user, n) => {
      const request = { user, event: "note", data: JSON.stringify({ n }), idempotencyKey: `note-${n}` };
      return (await eventually(`note ${n} is published`, () => call("publish", request))).position;
    };
    /** Whether a user is known to have got what stands at a position. */
    const hasGot = async (user, position) => {
      const response = await call("deliveredTo", { inboxOf: user, behind: position });
      return response.users.length === 0;
    };
    return { system, notify, hasGot };
  };
  const keep = (socket) => {
    cleanUp.push(() => socket.close());
    return socket;
  };
  /** A device, in its user's inbox from what it says it has seen. `notes` holds what it has got, in order. */
  const device = async (system, user, { since, ...options } = {}) => {
    const socket = keep(await connected(system, user, options));
    const notes = [];
    let position = since;
    const take = (note) => {
      notes.push(note.n);
      position = note.position;
    };
    socket.on("note", take);
    const joined = await ask(socket, "join", since === undefined ? "@me" : { room: "@me", since });
    assert.deepEqual([joined.error, joined.members], [undefined, []]);
    joined.messages?.forEach(take);
    position ??= joined.position;
    return { socket, notes, joined, seen: () => position };
  };

  test("each device once and in order, whether it was away or not, and nobody else", async () => {
    const { system, notify, hasGot } = await start();
    const bob = await device(system, "bob");
    bob.socket.onAny((event) => assert.fail(`${event} for bob`));
    const laptop = await device(system, "alice");
    const phone = await device(system, "alice");
    laptop.socket.on("presence", () => assert.fail("devices are not told of each other"));
    await notify("alice", 1);
    await eventually("the phone has it", () => phone.notes.length === 1);
    phone.socket.disconnect();

    await notify("alice", 2);
    await notify("alice", 3);
    const back = await device(system, "alice", { since: phone.seen() });
    const last = await notify("alice", 4);

    await eventually("the phone has all", () => back.notes.length === 3);
    await eventually("the laptop has all", () => laptop.notes.length === 4);
    await eventually("the service knows", () => hasGot("alice", last));
    assert.equal(await hasGot("carol", await notify("carol", 5)), false, "she was never there");
    assert.deepEqual([back.joined.recovered, back.notes], [true, [2, 3, 4]]);
    assert.deepEqual(laptop.notes, [1, 2, 3, 4]);
    const plain = await plainWebSocket(system, "alice");
    cleanUp.push(() => plain.socket.close());
    plain.send({ event: "join", data: { room: "@me", since: phone.seen() }, id: 1 });
    const answer = await eventually("an answer", () => plain.heard.find(({ id }) => id === 1));
    assert.deepEqual(answer.data.messages.map(({ n }) => n), [2, 3, 4]);
    const { messages } = await ask(back.socket, "history", { room: "@me", limit: 2 });
    assert.deepEqual(messages.map(({ n }) => n), [3, 4]);
    assert.match((await ask(bob.socket, "join", "@alice")).error.message, /must not begin with @/);
  });

  test("each device once and in order, although the chat service is killed", async () => {
    const { system, notify } = await start();
    const laptop = await device(system, "alice");
    const phone = await device(system, "alice");
    const disturbances = [];
    for (const event of ["disconnect", "exception"]) laptop.socket.on(event, () => disturbances.push(event));
    const first = await notify("alice", 1);
    await eventually("the phone has it", () => phone.notes.length === 1);
    phone.socket.disconnect();
    await notify("alice", 2);

    await system.chat.stop("SIGKILL");
    const underWay = notify("alice", 3);
    await system.chat.start();
    await underWay;

    assert.equal(await notify("alice", 1), first, "the retry gets the first one's position");
    const back = await device(system, "alice", { since: phone.seen() });
    await notify("alice", 4);
    await eventually("the phone has all", () => back.notes.length === 3);
    await eventually("the laptop has all", () => laptop.notes.length === 4);
    assert.deepEqual([back.notes, laptop.notes], [[2, 3, 4], [1, 2, 3, 4]]);
    assert.deepEqual(disturbances, []);
  });

  test("a device that recovers its connection, without asking", async () => {
    const { system, notify } = await start({ recovers: true });
    const phone = await device(system, "alice", { reconnection: false });
    await notify("alice", 1);
    await eventually("the phone has it", () => phone.notes.length === 1);

    const lost = next(phone.socket, "disconnect");
    phone.socket.io.engine.close();
    await lost;
    await notify("alice", 2);
    await system.chat.stop("SIGKILL");
    await system.chat.start();
    await notify("alice", 3);
    const back = next(phone.socket, "connect");
    phone.socket.connect();
    await back;
    await notify("alice", 4);

    await eventually("the phone has all", () => phone.notes.length === 4);
    assert.deepEqual([phone.socket.recovered, phone.notes], [true, [1, 2, 3, 4]]);
  });

  test("a device whose edge is killed, at another one", async () => {
    const { system, notify } = await start({ startSystem: startTwoEdges, recovers: true });
    const balancer = await startBalancer(system.edges.map(({ address }) => address));
    cleanUp.push(() => balancer.stop());
    const phone = await device(balancer, "alice");
    const there = owner(phone.socket);
    const laptop = await device(system.edges[1 - there], "alice");
    await notify("alice", 1);
    await eventually("the phone has it", () => phone.notes.length === 1);

    const back = next(phone.socket, "connect");
    await system.edges[there].service.stop("SIGKILL");
    await notify("alice", 2);
    await back;
    await notify("alice", 3);

    await eventually("the phone has all", () => phone.notes.length === 3);
    await eventually("the laptop has all", () => laptop.notes.length === 3);
    assert.equal(phone.socket.recovered, true);
    assert.deepEqual([phone.notes, laptop.notes], [[1, 2, 3], [1, 2, 3]]);
  });
});
