// What the stock socket.io-client goes through when parts of the system end and come back.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";

import { ask, connect, connected, next } from "./clients.mjs";
import { eventually, startThreeProcesses, token } from "./system.mjs";

describe("the stock socket.io-client", () => {
  const cleanUp = [];
  const start = async (options) => {
    const system = await startThreeProcesses(options);
    cleanUp.push(() => system.stop());
    return system;
  };
  const keep = (socket) => {
    cleanUp.push(() => socket.close());
    return socket;
  };

  afterEach(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
  });

  test("does not notice that the chat service is killed and started again", async () => {
    const system = await start();
    const alice = keep(await connected(system, "alice"));
    const bob = keep(await connected(system, "bob"));
    await ask(alice, "join", "lobby");
    await ask(bob, "join", "lobby");
    const [aliceId, bobId] = [alice.id, bob.id];
    const disturbances = [];
    for (const socket of [alice, bob]) {
      for (const event of ["disconnect", "connect", "connect_error"]) {
        socket.on(event, () => disturbances.push(event));
      }
    }

    await system.chat.stop("SIGKILL");
    const heard = next(bob, "message");
    const answer = ask(alice, "message", { room: "lobby", text: "patience" });
    await system.chat.start();

    const outcome = await answer;
    if (outcome.error) {
      assert.deepEqual([outcome.error.code, outcome.error.retryable], ["unavailable", true]);
      await ask(alice, "message", { room: "lobby", text: "patience" });
    }
    assert.equal((await heard)[0].text, "patience");
    assert.equal((await ask(bob, "presence", "lobby")).count, 2);
    assert.deepEqual([alice.id, bob.id], [aliceId, bobId]);
    assert.deepEqual(disturbances, []);
  });

  for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`comes back by itself after ${signal} to the edge, with a fresh token`, async () => {
      // With several shards the last one to hear of the signal might let the client in once more.
      const system = await start({ edge: ["--edge-shards=1"] });
      let tokens = 0;
      const auth = (answer) => {
        tokens += 1;
        answer({ token: token("alice") });
      };
      const alice = keep(await connected(system, "alice", { auth }));
      await ask(alice, "join", "lobby");
      const lost = next(alice, "disconnect");
      const back = next(alice, "connect");

      const code = await system.edge.stop(signal);
      assert.equal(code, signal === "SIGTERM" ? 0 : null);
      const [reason] = await lost;
      assert.equal(reason, "transport close");
      assert.equal(alice.active, true);
      await system.edge.start();

      await back;
      assert.equal(tokens, 2);
      assert.equal((await ask(alice, "join", "lobby")).members.length, 1);
    });
  }

  test("gets what it missed while it was away", async () => {
    const system = await start();
    const alice = keep(await connected(system, "alice"));
    const bob = keep(await connected(system, "bob"));
    await ask(alice, "join", "lobby");
    const { position } = await ask(bob, "join", "lobby");
    const lost = next(bob, "disconnect");
    const back = next(bob, "connect");

    bob.io.engine.close();
    await lost;
    await ask(alice, "message", { room: "lobby", text: "missed" });
    await back;
    const { recovered, messages } = await ask(bob, "join", { room: "lobby", since: position });

    assert.equal(recovered, true);
    assert.ok(messages.some(({ text }) => text === "missed"));
  });

  test("comes back with a fresh token when the old one expires", async () => {
    const system = await start();
    const lifetimes = [2, 600];
    const auth = (answer) => answer({ token: token("alice", { lifetimeSeconds: lifetimes.shift() }) });
    const alice = keep(await connected(system, "alice", { auth }));
    const lost = next(alice, "disconnect");
    const back = next(alice, "connect");

    assert.equal((await lost)[0], "transport close");
    await back;
    await ask(alice, "join", "lobby");
  });

  test("keeps trying while the auth service is away, and gets in when it is back", async () => {
    const system = await start({ edge: ["--edge-connect-timeout=500ms"] });
    const alice = keep(await connected(system, "alice"));
    await ask(alice, "join", "lobby");
    await system.auth.stop("SIGKILL");

    const bob = keep(connect(system, "bob"));
    const refusals = [];
    bob.on("connect_error", (error) => refusals.push(error.message));
    await next(bob.io, "reconnect_attempt");
    assert.equal(bob.connected, false);
    assert.equal(bob.active, true);
    await ask(alice, "message", { room: "lobby", text: "still here" });

    const back = next(bob, "connect");
    await system.auth.start();
    await back;
    assert.ok(!refusals.includes("Unauthorized"), refusals.join());
  });

  test("keeps its acks' deadlines while nobody answers", async () => {
    const system = await start();
    const alice = keep(await connected(system, "alice"));
    await ask(alice, "join", "lobby");
    await system.chat.stop("SIGKILL");

    await assert.rejects(alice.timeout(200).emitWithAck("message", { room: "lobby", text: "?" }), /timed out/);

    await system.chat.start();
    await eventually("the chat service answers again", async () => (await ask(alice, "presence", "lobby")).count === 1);
  });
});
