// Recovery in front of a business service that does nothing for it: no history, no positions, one emit over each link.

import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { setInterval } from "node:timers/promises";

import { io } from "socket.io-client";

import { canBeCut, next } from "./clients.mjs";
import { startProfile } from "./profiles/start.mjs";
import { eventually } from "./system.mjs";

const ROOM = "numbers";
const EVERY_MS = 3;
const COMEBACKS = 30;

/** Whoever enters hears every number that somebody says. */
const numbers = (shards) => ({
  edge: [`--edge-shards=${shards}`],
  recovery: "1m",
  namespaces: {
    "/": {
      enter(socket) {
        socket.accept();
        socket.join(ROOM);
      },
      event(socket, _, [number]) {
        socket.emitTo(ROOM, { self: true }, "number", number);
      },
    },
  },
});

describe("the stock client recovers its connection to a service without history", () => {
  const cleanUp = [];
  afterEach(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
  });

  async function enter({ url }, transports) {
    const quick = { reconnectionDelay: 20, reconnectionDelayMax: 20 };
    const socket = io(url, { forceNew: true, transports, ...quick });
    cleanUp.push(() => socket.close());
    await next(socket, "connect");
    return socket;
  }

  /** What is said, and what a client hears of it that is cut again and again. */
  async function throughCuts(shards, transports) {
    const system = await startProfile(numbers(shards));
    cleanUp.push(() => system.stop());
    const speaker = await enter(system, ["websocket"]);
    const listener = await enter(system, transports);
    const { id } = listener;
    const [said, heard, recovered] = [[], [], []];
    listener.on("number", (number) => heard.push(number));
    listener.on("connect", () => recovered.push(listener.recovered));

    for await (const _ of setInterval(EVERY_MS)) {
      if (recovered.length === COMEBACKS) break;
      assert.ok(said.length < 1000 * COMEBACKS, "it comes back");
      speaker.emit("say", said.length);
      said.push(said.length);
      if (said.length % 40 === 0 && canBeCut(listener)) listener.io.engine.close();
    }

    await eventually("the last is heard", () => heard.at(-1) === said.length - 1);
    assert.equal(listener.id, id);
    assert.deepEqual(recovered, Array(COMEBACKS).fill(true));
    return { said, heard };
  }

  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
    test(`on one shard with each number once and in order, over ${transports.join(" and ")}`, async () => {
      const { said, heard } = await throughCuts(1, transports);

      assert.deepEqual(heard, said);
    });

    test(`between shards with each number once and in order, over ${transports.join(" and ")}`, async () => {
      const { said, heard } = await throughCuts(2, transports);

      assert.deepEqual(heard, said);
    });
  }
});
