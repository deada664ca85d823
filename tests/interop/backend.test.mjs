// The stock socket.io-client, and a business service in JavaScript behind the gateway.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { ask, connect, next } from "./clients.mjs";
import { Ends } from "./ends.mjs";
import { eventually, ownAddress, startThreeProcesses, token } from "./system.mjs";

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

  test("keys that name prototypes arrive as keys, and change nothing else", async () => {
    const alice = await entered("alice");
    const members = '"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"a":[{"__proto__":{"polluted":1}}],"a":[]';
    const sent = JSON.parse(`{${members}}`);

    const answer = await ask(alice, "echo", sent);

    assert.equal(Object.hasOwn(answer, "__proto__"), true);
    assert.equal(JSON.stringify(answer), JSON.stringify(sent));

    // The client's own encoder would leave the key out beside an attachment.
    const received = next(alice, "from one");
    alice.io.engine.send(`51-/game,["to all",{${members},"b":{"_placeholder":true,"num":0}}]`);
    alice.io.engine.send(Buffer.from("attached"));

    const [value] = await received;
    assert.equal(Buffer.from(value.b).toString(), "attached");
    for (const one of [{}, [], Object.create(Object.prototype)]) assert.equal(one.polluted, undefined);
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

describe("what a business service in JavaScript knows of the ends of its sockets", () => {
  const cleanUp = [];
  afterEach(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
  });

  /** Starts everything, with one link to the service and one to the chat service. `ends` outlives what is killed. */
  async function start(ends) {
    const address = await ownAddress();
    let backend = await startBackend({ address, ends });
    cleanUp.push(() => backend.stop());
    const system = await startThreeProcesses({ edge: ["--edge-shards=1", `--edge-route=${backend.namespace}=${backend.url}`] });
    cleanUp.push(() => system.stop());
    const enter = async (subject) => {
      const socket = connect(system, subject, { namespace: backend.namespace });
      await next(socket, "welcome");
      const inChat = socket.io.socket("/chat", { auth: { token: token(subject) } });
      cleanUp.push(() => [socket, inChat].forEach((one) => one.close()));
      await next(inChat, "connect");
      const leave = async () => {
        socket.disconnect();
        await ask(inChat, "join", "lobby");
      };
      return { socket, leave };
    };
    const kill = async () => {
      backend.stop();
      await eventually("its link is down", async () => (await system.count("sockeye_edge_links_up")) === 1);
    };
    const startAgain = async () => {
      backend = await startBackend({ address, ends });
    };
    return { system, enter, kill, startAgain };
  }

  const known = (ends, count) => eventually(`${count} ends`, () => ends.concluded.length >= count && ends.concluded);

  test("includes once what came about while it was dead", async () => {
    const ends = new Ends();
    const { enter, kill, startAgain } = await start(ends);
    const [alice, bob, carol] = [await enter("alice"), await enter("bob"), await enter("carol")];
    await kill();
    await alice.leave();

    await startAgain();

    assert.deepEqual(await known(ends, 1), [["alice", "unknown"]]);
    await bob.leave();
    assert.deepEqual((await known(ends, 2))[1], ["bob", "client_disconnect"]);

    // What one life has concluded, or was told, the next does not conclude again.
    await kill();
    await startAgain();
    assert.equal(await ask(carol.socket, "echo", 1), 1);
    await carol.leave();
    assert.deepEqual((await known(ends, 3)).slice(1), [["bob", "client_disconnect"], ["carol", "client_disconnect"]]);
  });

  test("excludes sockets that live on another link", () => {
    const ends = new Ends();
    const [first, second] = [ends.attach("first"), ends.attach("second")];
    const opened = { socket_id: "a", identity: { subject: "alice" } };
    first.opened("1", opened);

    second.opened("7", { ...opened, recovered: true });
    first.closed("1", "moved");

    assert.deepEqual(ends.concluded, []);
    second.closed("7", "client_disconnect");
    assert.deepEqual(ends.concluded, [["alice", "client_disconnect"]]);
  });

  test("includes those of an edge that does not come back", async () => {
    const ends = new Ends(500);
    const { system, enter } = await start(ends);
    await (await enter("alice")).leave();
    await enter("bob");

    await system.edge.stop("SIGKILL");

    assert.deepEqual(await known(ends, 2), [["alice", "client_disconnect"], ["bob", "edge_lost"]]);
  });
});
