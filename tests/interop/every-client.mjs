// What a client of any language must go through, over each transport and from one to the other.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { ask, connected, next } from "./clients.mjs";
import { eventually, startThreeProcesses } from "./system.mjs";
import { startWire } from "./wire.mjs";

const BYTES = Uint8Array.from([0, 1, 2, 253, 254, 255]);
const MANY_BYTES = new Uint8Array(100_000).fill(7);
const REFUSAL = { message: "Unauthorized", data: { code: "unauthorized" } };
const VALUES = [1.5, "é 😀", { list: [null, true] }, "", 0, false, null];

/** Each gets a `client` to begin with, and what else there is. */
const TESTS = {
  async "joins a room, hears and is heard, and leaves"({ enter, peer, room }) {
    const alice = await enter("alice");
    const bob = await peer("bob");
    await ask(bob, "join", room);
    const heardByBob = next(bob, "message");

    const [joined] = await alice.ask("join", room);
    alice.emit("message", { room, text: "from alice" });
    const [message] = await heardByBob;
    assert.deepEqual(joined.members.map(({ id }) => id).sort(), ["alice", "bob"]);
    assert.deepEqual([message.user.id, message.text], ["alice", "from alice"]);
    // Awaited before the next: some clients call each handler on a thread of its own.
    assert.equal((await alice.heard("message"))[0].text, "from alice");
    await ask(bob, "message", { room, text: "from bob" });
    assert.equal((await alice.heard("message"))[0].text, "from bob");

    assert.deepEqual(await alice.ask("leave", room), [{ room }]);
    await ask(bob, "message", { room, text: "after alice" });
    await alice.ask("join", `${room}, other`);
    assert.deepEqual(alice.records.filter(({ event }) => event === "message"), []);
  },

  async "gets what it asks for"({ enterGame }) {
    const alice = await enterGame("alice");

    const answers = await Promise.all([alice.ask("echo", "one"), alice.ask("echo", ...VALUES), alice.ask("echo", { three: 3 })]);

    assert.deepEqual(answers, [["one"], VALUES, [{ three: 3 }]]);
  },

  async "answers when it is asked"({ enterGame }) {
    const alice = await enterGame("alice");

    alice.emit("quiz", "what", { is: "this" });

    assert.deepEqual(await alice.heard("thanks"), ["answer", "what", { is: "this" }]);
  },

  async "sends and gets bytes"(stage) {
    await exchange(BYTES, stage);
  },

  async "sends and gets many bytes"(stage) {
    await exchange(MANY_BYTES, stage);
  },

  async "asks and is answered with bytes"({ enterGame }) {
    const alice = await enterGame("alice");

    assert.deepEqual(await alice.ask("echo", BYTES, { nested: [{ deep: MANY_BYTES }] }), [BYTES, { nested: [{ deep: MANY_BYTES }] }]);
  },

  async "is asked and answers with bytes"({ enterGame }) {
    const alice = await enterGame("alice");

    alice.emit("quiz", { question: BYTES });

    assert.deepEqual(await alice.heard("thanks"), ["answer", { question: BYTES }]);
  },

  async "is not let in with a wrong token, and does not try again"({ connect, enterGame, rejected, refusal, namespacesEntered, timePasses }) {
    const before = await rejected();

    const mallory = connect("mallory", { credentials: "wrong" });

    const { message, data } = await mallory.saw("refused");
    assert.deepEqual({ message, data }, refusal);
    await enterGame("alice");
    await timePasses();
    assert.equal(await rejected(), before + namespacesEntered);
  },

  async "does not come back when it is disconnected"({ enterGame, timePasses }) {
    const alice = await enterGame("alice");
    await enterGame("bob");

    alice.emit("kick me");

    await alice.saw("disconnected");
    await timePasses();
    assert.deepEqual(alice.records, []);
  },

  async "comes back when its connection is closed"({ enterGame }) {
    const alice = await enterGame("alice");

    alice.emit("drop me");

    await alice.heard("welcome");
    assert.deepEqual(await alice.ask("echo", "back"), ["back"]);
  },

  async "comes back when the edge is killed and started again"({ enter, peer, system, room }) {
    const alice = await enter("alice");
    await alice.ask("join", room);

    await system.edge.stop("SIGKILL");
    await system.edge.start();

    await alice.saw("connected");
    await alice.ask("join", room);
    const bob = await peer("bob");
    await ask(bob, "join", room);
    await ask(bob, "message", { room, text: "again" });
    assert.equal((await alice.heard("message"))[0].text, "again");
  },

  async "answers pings, on the transports that it was told to use"({ enter, wire, transports, room }) {
    const alice = await enter("alice");
    const settled = transports.at(-1);

    await eventually(`nothing but ${settled}`, async () => {
      const [requests, sent] = [wire.requests.length, wire.sent];
      await eventually("pings are answered", () => wire.sent >= sent + 5);
      return wire.requests.slice(requests).includes("polling") === (settled === "polling");
    });
    assert.deepEqual([...new Set(wire.requests)], transports);
    assert.equal((await alice.ask("join", room))[0].room, room);
    assert.deepEqual(alice.records.filter(({ saw }) => saw !== "event"), []);
  },
};

/** Sends bytes to everyone, first as the client and then as another. */
async function exchange(bytes, { enterGame, peer, game }) {
  const alice = await enterGame("alice");
  const bob = await peer("bob", { namespace: game });

  for (const sender of [alice, bob]) {
    const heardByBob = next(bob, "from one");
    sender.emit("to all", bytes);

    assert.deepEqual(await alice.heard("from one"), [bytes]);
    assert.deepEqual(Uint8Array.from((await heardByBob)[0]), bytes);
  }
}

/**
 * Tests a client. `start` returns its driver; `cannot` has the reason for each test that is beyond this client, by its
 * name, or by its name and transports: "asks over polling". A wrong token shows it the `refusal`, once for each namespace
 * that it enters.
 */
export function testClient(name, { start, edge = [], cannot = {}, refusal = REFUSAL, namespacesEntered = 1 }) {
  describe(name, () => {
    const open = [];
    let backend;
    let system;
    let driver;
    let wire;
    let rooms = 0;

    before(async () => {
      backend = await startBackend();
      const route = `--edge-route=${backend.namespace}=${backend.url}`;
      system = await startThreeProcesses({ edge: ["--edge-shards=3", "--edge-ping-interval=200ms", route, ...edge] });
      driver = await start();
    });
    after(async () => {
      await driver?.stop();
      await system?.stop();
      backend?.stop();
    });
    beforeEach(async () => {
      wire = await startWire(system.address);
    });
    afterEach(() => {
      for (const socket of open.splice(0)) socket.close();
      wire?.stop();
    });

    const keep = (socket) => {
      open.push(socket);
      return socket;
    };
    const stage = (transports) => {
      const connect = (subject, options) => keep(driver.connect(subject, { url: wire.url, namespace: "/chat", transports, ...options }));
      return {
        system,
        wire,
        transports,
        refusal,
        namespacesEntered,
        connect,
        game: backend.namespace,
        room: `room ${(rooms += 1)}`,
        async enter(subject) {
          const socket = connect(subject);
          await socket.saw("connected");
          return socket;
        },
        async enterGame(subject) {
          const socket = connect(subject, { namespace: backend.namespace });
          await socket.saw("connected");
          await socket.heard("welcome");
          return socket;
        },
        peer: async (subject, options) => keep(await connected(system, subject, options)),
        /** Longer than any client waits before it tries again: it answers some pings. */
        async timePasses() {
          const { sent } = wire;
          await eventually("pings are answered", () => wire.sent >= sent + 5);
        },
        rejected: () => system.count('sockeye_edge_connects_total{outcome="rejected"}'),
      };
    };

    const names = [];
    for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
      for (const [what, check] of Object.entries(TESTS)) {
        const name = `${what} over ${transports.join(" and ")}`;
        names.push(what, name);
        test(name, { skip: cannot[name] ?? cannot[what] }, () => check(stage(transports)));
      }
    }
    for (const name of Object.keys(cannot)) assert.ok(names.includes(name), `no test is called ${name}`);
  });
}
