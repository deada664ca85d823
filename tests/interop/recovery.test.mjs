// Connection state recovery, as the stock socket.io-client does it.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { startBalancer } from "./balancer.mjs";
import { ask, canBeCut, connected, next, owner } from "./clients.mjs";
import { eventually, startThreeProcesses, startTwoEdges, token } from "./system.mjs";

describe("the stock socket.io-client recovers its connection", () => {
  const cleanUp = [];
  let folder;
  let flags;

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), "sockeye-"));
    const file = path.join(folder, "namespaces.toml");
    writeFileSync(file, `[namespace."/chat"]\nrecovery = "1m"\n`);
    flags = [`--edge-namespaces-file=${file}`, "--edge-events-per-second=100000", "--edge-events-burst=100000"];
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
  });

  const start = async () => {
    const system = await startThreeProcesses({ edge: flags });
    cleanUp.push(() => system.stop());
    return system;
  };
  const keep = (socket) => {
    cleanUp.push(() => socket.close());
    return socket;
  };
  /** Both are in the lobby; `heard` holds the texts that the second has heard, `seen` what the first saw of who is there. */
  const twoInTheLobby = async (system, options) => {
    const alice = keep(await connected(system, "alice"));
    const bob = keep(await connected(system, "bob", options));
    const [heard, seen] = [[], []];
    alice.on("presence", ({ joined, left }) => {
      seen.push(...joined.map(({ id }) => `${id} came`), ...left.map(({ id }) => `${id} went`));
    });
    bob.on("message", ({ text }) => heard.push(text));
    await ask(alice, "join", "lobby");
    await ask(bob, "join", "lobby");
    return { alice, bob, heard, seen };
  };
  /** Says it until it is in the log: what was sent to a service that ends is answered so that one may try again. */
  const say = (socket, text) =>
    eventually(`${text} is said`, async () => {
      const { error } = await ask(socket, "message", { room: "lobby", text, id: text });
      assert.ok(error?.retryable ?? true, error?.code);
      return !error;
    });
  /** Loses the transport, as a network does. */
  const cut = (socket) => socket.io.engine.close();

  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
    test(`with what it missed, over ${transports.join(" and ")}`, async () => {
      const system = await start();
      const { alice, bob, heard } = await twoInTheLobby(system, { transports, reconnectionDelay: 300 });
      const id = bob.id;
      await say(alice, "before");
      await eventually("bob hears it", () => heard.length === 1);

      await eventually("bob can be cut", () => canBeCut(bob));
      cut(bob);
      const back = next(bob, "connect");
      for (const text of ["one", "two", "three"]) await say(alice, text);
      await back;
      await say(alice, "after");

      await eventually("bob hears all", () => heard.length === 5);
      assert.deepEqual(heard, ["before", "one", "two", "three", "after"]);
      assert.deepEqual([bob.recovered, bob.id], [true, id]);
      assert.equal((await ask(bob, "message", { room: "lobby", text: "still a member" })).error, undefined);
    });
  }

  test("although it has heard nothing yet, and others notice nothing", async () => {
    const system = await start();
    const { alice, bob, heard, seen } = await twoInTheLobby(system, { reconnection: false });
    await eventually("bob is there", () => seen.length === 1);

    cut(bob);
    await say(alice, "first");
    const back = next(bob, "connect");
    bob.connect();
    await back;

    assert.equal(bob.recovered, true);
    await eventually("bob hears it", () => heard.length === 1);
    assert.equal((await ask(alice, "presence", "lobby")).count, 2);
    assert.deepEqual(seen, ["bob came"]);
  });

  test("only with a token that is still good, and gets nothing before", async () => {
    const system = await start();
    let credentials = { token: token("bob") };
    const { alice, bob, heard } = await twoInTheLobby(system, { auth: (answer) => answer(credentials), reconnection: false });

    cut(bob);
    await say(alice, "secret");
    credentials = { token: token("bob", { secret: "another-secret-0123456789-abcdefghij" }) };
    const refused = next(bob, "connect_error");
    bob.connect();
    assert.equal((await refused)[0].message, "Unauthorized");
    assert.deepEqual(heard, []);

    credentials = { token: token("bob") };
    const back = next(bob, "connect");
    bob.connect();
    await back;
    assert.equal(bob.recovered, true);
    await eventually("bob hears it", () => heard.length === 1);
  });

  test("over a restart of the chat service", async () => {
    const system = await start();
    const { alice, bob, heard } = await twoInTheLobby(system, { reconnectionDelay: 1500, reconnectionDelayMax: 1500 });

    cut(bob);
    const back = next(bob, "connect");
    await say(alice, "before the restart");
    await system.chat.stop("SIGKILL");
    await system.chat.start();
    await system.ready();
    await say(alice, "after the restart");
    await back;

    assert.equal(bob.recovered, true);
    await eventually("bob hears both", () => heard.length === 2);
    assert.deepEqual(heard, ["before the restart", "after the restart"]);
  });

  /** Says numbers and cuts bob every so often, until he has come back so many times. Returns all that was said, once it is heard. */
  const sayThroughCuts = async ({ alice, bob, heard }, times) => {
    const recovered = [];
    bob.on("connect", () => recovered.push(bob.recovered));
    const said = [];
    while (recovered.length < times) {
      if (said.length % 40 === 0 && canBeCut(bob)) cut(bob);
      said.push(String(said.length));
      await say(alice, said.at(-1));
      assert.ok(said.length < 1000 * times, "bob comes back");
    }
    await eventually("all is heard", () => heard.length >= said.length);
    assert.deepEqual(recovered, Array(times).fill(true));
    return said;
  };
  const quick = { reconnectionDelay: 20, reconnectionDelayMax: 20 };

  test("again and again under traffic, on whichever shard: nothing lost, nothing twice", async () => {
    const system = await start();
    const room = await twoInTheLobby(system, quick);

    const said = await sayThroughCuts(room, 30);

    assert.deepEqual(room.heard, said);
  });

  const startCluster = async (more = []) => {
    const system = await startTwoEdges({ edge: [...flags, ...more] });
    cleanUp.push(() => system.stop());
    const balancer = await startBalancer(system.edges.map((edge) => edge.address));
    cleanUp.push(() => balancer.stop());
    return { ...system, balancer };
  };
  const recoveries = async ({ edges }, outcome) => {
    const counts = edges.map((edge) => edge.count(`sockeye_edge_recoveries_total{outcome="${outcome}"}`));
    return (await Promise.all(counts)).reduce((sum, count) => sum + count);
  };

  test("under traffic on whichever edge: nothing lost, nothing twice", async () => {
    const { balancer, ...system } = await startCluster();
    const room = await twoInTheLobby(balancer, quick);
    const { bob, heard } = room;
    const { id } = bob;

    const said = await sayThroughCuts(room, 30);

    assert.deepEqual(heard, said);
    assert.equal(bob.id, id);
    assert.ok((await recoveries(system, "handed_over")) > 5, "between shards and edges");
  });

  test("on another edge when its own is stopped", async () => {
    // With several shards the last one to hear of the stop might take bob in once more.
    const { balancer, edges } = await startCluster(["--edge-shards=1"]);
    const alice = keep(await connected(edges[0], "alice"));
    const bob = keep(await connected(balancer, "bob", { reconnectionDelay: 100 }));
    const heard = [];
    bob.on("message", ({ text }) => heard.push(text));
    await ask(alice, "join", "lobby");
    await ask(bob, "join", "lobby");
    // The edge that alice is not on has bob, or will have.
    await eventually("bob is on the other edge", async () => {
      if (owner(bob) === 1) return true;
      const back = next(bob, "connect");
      cut(bob);
      await back;
    });
    const { id } = bob;
    await say(alice, "before");
    await eventually("bob hears it", () => heard.length === 1);

    const back = next(bob, "connect");
    const stopped = edges[1].service.stop("SIGTERM");
    for (const text of ["one", "two"]) await say(alice, text);
    await back;
    await say(alice, "after");

    await eventually("bob hears all", () => heard.length === 4);
    assert.deepEqual(heard, ["before", "one", "two", "after"]);
    assert.deepEqual([bob.id, bob.recovered], [id, true]);
    assert.equal(await stopped, 0);
  });
});
