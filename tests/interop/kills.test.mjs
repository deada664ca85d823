// The chat service is killed again and again under traffic, with its rooms on disk: every message is accounted for.
//
// SOCKEYE_KILLS and SOCKEYE_MESSAGES_PER_SECOND make it as long and as hard as one likes.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";

import { ask, connected, next, plainWebSocket } from "./clients.mjs";
import { eventually, startThreeProcesses } from "./system.mjs";
import { logged, share, sum, talk } from "./talk.mjs";

const KILLS = Number(process.env.SOCKEYE_KILLS ?? 5);
/** So often at most, until something was under way. */
const KILLS_MAX = 50;
const MESSAGES_PER_SECOND = Number(process.env.SOCKEYE_MESSAGES_PER_SECOND ?? 400);
const ROOMS = 8;
/** Longer than a busy machine takes to start a process. */
const EVENT_TIMEOUT = "60s";

/** One client in one room: what it sent, and what came of it. */
class Member {
  constructor(name, room) {
    Object.assign(this, { name, room, sent: 0, answered: 0, errors: [], seen: [], disturbances: [], stalls: [] });
  }

  get underWay() {
    return this.sent - this.answered;
  }

  /** Every other message has an id of its own; the rest have none that anybody could tell them by. */
  message() {
    const text = `${this.name}/${this.sent}`;
    const id = this.sent % 2 === 0 ? { id: text } : {};
    this.sent += 1;
    return { room: this.room, text, ...id };
  }

  heard(event, data) {
    if (event === "message") this.seen.push(data.text);
    else if (event !== "presence") this.disturbances.push(`${event} ${JSON.stringify(data)}`);
  }

  settle(sentAt, answer) {
    this.answered += 1;
    this.stalls.push(performance.now() - sentAt);
    if (answer.error || !answer.position) this.errors.push(answer);
  }
}

class StockMember extends Member {
  async enter(system) {
    this.socket = await connected(system, this.name);
    this.id = this.socket.id;
    for (const event of ["connect", "disconnect", "connect_error"]) {
      this.socket.on(event, (reason) => this.disturbances.push(`${event} ${reason}`));
    }
    this.socket.onAny((event, data) => this.heard(event, data));
    const { error } = await ask(this.socket, "join", this.room);
    assert.equal(error, undefined);
  }

  say() {
    const sentAt = performance.now();
    this.socket.emit("message", this.message(), (answer) => this.settle(sentAt, answer));
  }

  history(page) {
    return ask(this.socket, "history", { room: this.room, ...page });
  }

  close() {
    this.socket.close();
  }
}

class PlainMember extends Member {
  #waiting = new Map();

  async enter(system) {
    const { socket } = await plainWebSocket(system, this.name);
    this.socket = socket;
    socket.on("close", () => this.disturbances.push("close"));
    socket.on("message", (data) => this.#receive(JSON.parse(data.toString())));
    const joined = next(socket, "message");
    socket.send(JSON.stringify({ event: "join", data: this.room, id: "join" }));
    await joined;
  }

  #receive(message) {
    const sentAt = this.#waiting.get(message.id);
    if (sentAt !== undefined) {
      this.#waiting.delete(message.id);
      this.settle(sentAt, message.error ? message : message.data);
    } else if (message.event) {
      this.heard(message.event, message.data);
    }
  }

  say() {
    const id = this.sent + 1;
    this.#waiting.set(id, performance.now());
    this.socket.send(JSON.stringify({ event: "message", data: this.message(), id }));
  }

  close() {
    this.socket.removeAllListeners("close").close();
  }
}

function assertAccounted(members, log) {
  for (const member of members) {
    assert.deepEqual(member.errors, [], `${member.name}: all is acknowledged`);
    assert.deepEqual(member.disturbances, [], `${member.name} notices nothing`);
    assert.equal(member.answered, member.sent, `${member.name} has one answer to each`);
    assert.deepEqual(member.seen, log, `${member.name} has seen what the log has, once and in its order`);
    const own = log.filter((text) => text.startsWith(`${member.name}/`));
    const expected = Array.from({ length: member.sent }, (_, number) => `${member.name}/${number}`);
    assert.deepEqual(own, expected, `what ${member.name} has sent is there once and in its order`);
  }
}

describe("a chat service that is killed under traffic", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "sockeye-"));
  const cleanUp = [];
  after(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
    rmSync(folder, { recursive: true });
  });

  test(`loses and doubles nothing, in ${KILLS} kills at ${MESSAGES_PER_SECOND} messages/s`, async (context) => {
    const system = await startThreeProcesses({
      edge: ["--edge-shards=2", `--edge-event-timeout=${EVENT_TIMEOUT}`, "--edge-events-per-second=100000", "--edge-events-burst=100000"],
      chat: [`--chat-data-dir=${folder}`, "--chat-history-count-max=1000000"],
    });
    cleanUp.push(() => system.stop());
    const members = [];
    for (let room = 0; room < ROOMS; room += 1) {
      for (const [kind, make] of [["stock-a", StockMember], ["stock-b", StockMember], ["plain", PlainMember]]) {
        const member = new make(`${kind}-${room}`, `room-${room}`);
        await member.enter(system);
        cleanUp.push(() => member.close());
        members.push(member);
      }
    }

    const startedAt = performance.now();
    const stop = talk(members, MESSAGES_PER_SECOND);
    cleanUp.push(stop);
    const acknowledged = () => sum(members, (member) => member.answered);
    const progress = async () => {
      const enough = acknowledged() + MESSAGES_PER_SECOND / 2;
      await eventually("messages are acknowledged", () => acknowledged() >= enough);
    };
    await progress();
    const repeated = () => system.count("sockeye_edge_repeated_events_total");
    // What sends and what kills are timers that may keep step, so that nothing is under way at any of so few kills.
    for (let kill = 0; kill < KILLS || (kill < KILLS_MAX && (await repeated()) === 0); kill += 1) {
      await system.chat.stop("SIGKILL");
      await system.chat.start();
      await progress();
    }
    const seconds = (performance.now() - startedAt) / 1000;
    const rate = acknowledged() / seconds;
    stop();
    await eventually("all is answered", () => members.every(({ underWay }) => underWay === 0));

    for (let room = 0; room < ROOMS; room += 1) {
      const here = members.filter((member) => member.room === `room-${room}`);
      const total = sum(here, (member) => member.sent);
      await eventually("everyone has seen everything", () => here.every(({ seen }) => seen.length >= total));
      assertAccounted(here, await logged((page) => here[0].history(page)));
    }
    const stalls = members.flatMap((member) => member.stalls);
    const at = (part) => `${share(stalls, part)} ms`;
    const repeats = await repeated();
    context.diagnostic(
      `${stalls.length} messages at ${Math.round(rate)}/s, ${repeats} sent again; from message to ack: ` +
        `p50 ${at(0.5)}, p99 ${at(0.99)}, longest ${at(1)}`,
    );
    assert.ok(repeats > 0, "some were in flight whenever it was killed");
  });
});
