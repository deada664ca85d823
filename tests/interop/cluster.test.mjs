// The stock socket.io-client in front of two edges and a load balancer that is not sticky.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { startBalancer } from "./balancer.mjs";
import { ask, connected, next, owner } from "./clients.mjs";
import { eventually, startTwoEdges, token } from "./system.mjs";

const MESSAGES = 300;
const DEFAULTS = ["polling", "websocket"];

for (const certificates of [false, true]) describe(`two edges without a sticky load balancer${certificates ? ", with certificates" : ""}`, () => {
  let backend;
  let system;
  let balancer;
  const open = [];

  before(async () => {
    backend = await startBackend();
    const route = `--edge-route=${backend.namespace}=${backend.url}`;
    const limits = ["--edge-events-per-second=2000", "--edge-events-burst=4000"];
    system = await startTwoEdges({ certificates, edge: [route, "--edge-allow-eio3", "--edge-shards=2", "--edge-ping-interval=300ms", ...limits] });
    balancer = await startBalancer(system.edges.map((edge) => edge.address));
  });
  after(async () => {
    balancer?.stop();
    await system?.stop();
    backend?.stop();
  });
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  async function enter(subject, options) {
    const socket = await connected(balancer, subject, { namespace: backend.namespace, ...options });
    open.push(socket);
    return socket;
  }

  /** A client whose session is on the edge with this number. */
  async function enterOn(number, options) {
    return eventually(`a session on edge ${number}`, async () => {
      const socket = await enter("alice", options);
      if (owner(socket) === number) return socket;
      socket.close();
      balancer.skip();
    });
  }

  for (const transports of [["polling"], DEFAULTS]) {
    test(`brings every message once and in order over ${transports.join(" and ")}`, async () => {
      const before = await forwarded(system);
      for (const number of [0, 1]) {
        const socket = await enterOn(number, { transports });
        const [answers, heard] = [[], []];
        socket.on("from one", (...values) => heard.push(values));
        socket.on("question", (question, answer) => answer(`${question}!`));

        for (let message = 0; message < MESSAGES; message += 1) {
          answers.push(ask(socket, "echo", message));
          socket.emit("to all", message, Buffer.from([message & 255]));
          // A request of its own for every few, and time for polls between.
          if (message % 10 === 0) await answers.at(-1);
        }

        assert.deepEqual(await Promise.all(answers), [...answers.keys()]);
        await eventually("all broadcasts", () => heard.length >= MESSAGES);
        assert.deepEqual(heard.map(([message]) => message), [...answers.keys()]);
        for (const [message, bytes] of heard) assert.deepEqual([...bytes], [message & 255]);
        const thanks = next(socket, "thanks");
        socket.emit("quiz", "once");
        assert.deepEqual(await thanks, ["once!"]);
        if (transports.length > 1) await eventually("the upgrade", () => socket.io.engine.transport.name === "websocket");
        socket.close();
      }
      const after = await forwarded(system);
      for (const number of [0, 1]) assert.ok(after[number] > before[number], `edge ${number} forwards: ${before} ${after}`);
    });
  }

  test("carries WebSockets to the edge that has their session, for as long as they live", async () => {
    const sockets = [];
    for (let count = 0; count < 8; count += 1) sockets.push(await enter("alice", { transports: DEFAULTS }));
    for (const socket of sockets) {
      await eventually("the upgrade", () => socket.io.engine.transport.name === "websocket");
      assert.equal(await ask(socket, "echo", "after"), "after");
    }
    // Several pings, which the owner sends.
    for (const socket of sockets) await next(socket.io.engine, "heartbeat");
    const big = Buffer.alloc(600_000, 7);
    for (const socket of sockets) assert.deepEqual(Buffer.from(await ask(socket, "echo", big)), big);
  });

  test("brings bodies of bytes, as clients of Socket.IO 2 send and get them", async () => {
    const [first, second] = system.edges;
    const query = `EIO=3&transport=polling&token=${token("alice")}`;
    const opened = await (await fetch(`http://${first.address}/socket.io/?${query}`)).text();
    const { sid } = JSON.parse(opened.slice(opened.indexOf("{")));
    const there = (options) => fetch(`http://${second.address}/socket.io/?${query}&sid=${sid}`, options);
    /** A text and one attachment of three bytes, each behind its length: a digit a byte, then 255. */
    const body = (text) => Buffer.from([0, ...String(text.length).split("").map(Number), 255, ...Buffer.from(text), 1, 4, 255, 4, 1, 2, 255]);
    await there({ method: "POST", body: "8:40/game," });
    let heard = "";
    // The main namespace is another service's, so its answer may be the last one.
    while (!/welcome/.test(heard) || !/(?:^|\D)2:40/.test(heard)) heard += await (await there()).text();

    const sent = body('451-/game,1["echo",{"_placeholder":true,"num":0}]');
    const headers = { "content-type": "application/octet-stream" };
    const posted = await there({ method: "POST", headers, body: sent });
    const answer = await there();

    assert.equal(await posted.text(), "ok");
    assert.equal(answer.headers.get("content-type"), "application/octet-stream");
    const expected = body('461-/game,1[{"_placeholder":true,"num":0}]');
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), expected);
  });

  test("keeps the sessions of an edge while another one is stopped and started again", async () => {
    const socket = await enterOn(1, { transports: ["polling"] });
    const lost = [];
    socket.on("disconnect", (reason) => lost.push(reason));
    const { id } = socket;
    const [first] = system.edges;

    assert.equal(await first.service.stop("SIGTERM"), 0);
    for (let message = 0; message < 50; message += 1) assert.equal(await ask(socket, "echo", message), message);
    await first.service.start();
    await first.ready();
    const before = await forwarded(system);
    for (let message = 0; message < 50; message += 1) assert.equal(await ask(socket, "echo", message), message);

    assert.deepEqual([lost, socket.id], [[], id]);
    assert.ok((await forwarded(system))[0] > before[0], "the new process reaches its peer");
  });

  test("lets a client begin anew when the edge of its session is killed, and finds that edge again", async () => {
    const socket = await enterOn(1, { transports: ["polling"] });
    const [, second] = system.edges;
    const [lost, back] = [next(socket, "disconnect"), next(socket, "connect")];

    await second.service.stop("SIGKILL");
    await lost;
    await back;
    assert.equal(await ask(socket, "echo", "again"), "again");
    await second.service.start();
    await second.ready();

    const anew = await enterOn(1, { transports: ["polling"] });
    for (let message = 0; message < 50; message += 1) assert.equal(await ask(anew, "echo", message), message);
  });
});

/** How many requests each edge has brought to the other one. */
function forwarded(system) {
  return Promise.all(system.edges.map(async ({ opsUrl }) => {
    const metrics = await (await fetch(`${opsUrl}/metrics`)).text();
    const found = /^sockeye_edge_forwards_total\{outcome="answered"\} (\d+)/m.exec(metrics);
    return Number(found?.[1] ?? 0);
  }));
}
