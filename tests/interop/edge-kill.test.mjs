// One of two edges is killed under traffic: its clients go on at the other one, and every message is accounted for.
//
// SOCKEYE_CLIENTS and SOCKEYE_MESSAGES_PER_SECOND make it as hard as one likes.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";

import WebSocket from "ws";

import { startBalancer } from "./balancer.mjs";
import { connect } from "./clients.mjs";
import { eventually, startTwoEdges, token } from "./system.mjs";
import { logged, share, sum, talk } from "./talk.mjs";

const CLIENTS = Number(process.env.SOCKEYE_CLIENTS ?? 2000);
const MESSAGES_PER_SECOND = Number(process.env.SOCKEYE_MESSAGES_PER_SECOND ?? 400);
/** Each is in two rooms. */
const MEMBERS_PER_ROOM = 20;
/** Clients that enter at the same time. */
const ENTER_AT_ONCE = 50;

/** One client in some rooms, which comes back by itself and sends again what was not answered, as an application would. */
class Member {
  constructor(name, rooms, balancer) {
    Object.assign(this, { name, balancer, sent: 0, stalls: [], errors: [] });
    this.rooms = new Map(rooms.map((room) => [room, { seen: [], position: undefined }]));
    Object.assign(this, { isIn: false, losses: 0, returns: 0, recoveries: 0, repeats: 0, stalledFor: null });
    this.unanswered = new Map();
  }

  get underWay() {
    return this.unanswered.size;
  }

  /** All that it has said in a room. */
  sentTo(room) {
    const names = [...this.rooms.keys()];
    const numbers = [...Array(this.sent).keys()].filter((number) => names[number % names.length] === room);
    return numbers.map((number) => `${room}/${this.name}/${number}`);
  }

  /** While it is away, what it would say waits. */
  say() {
    const room = [...this.rooms.keys()][this.sent % this.rooms.size];
    const id = `${room}/${this.name}/${this.sent}`;
    this.sent += 1;
    this.unanswered.set(id, performance.now());
    if (this.isIn) this.send(id);
  }

  send(id) {
    this.ask("message", { room: id.split("/")[0], text: id, id }, (answer) => {
      if (answer.error || !answer.position) return this.errors.push(answer);
      this.stalls.push(performance.now() - this.unanswered.get(id));
      this.unanswered.delete(id);
    });
  }

  heard(event, data) {
    if (event === "message") this.see(data);
    else if (event !== "presence") this.errors.push({ event, data });
  }

  see({ room, text, position }) {
    this.rooms.get(room).seen.push(text);
    this.rooms.get(room).position = position;
  }

  lost() {
    if (!this.isIn) return;
    this.isIn = false;
    this.losses += 1;
    this.lostAt = performance.now();
  }

  /** It is connected: with all that it missed if it is the socket that it was, and else it asks for that. */
  connected(recovered) {
    if (recovered) return this.entered();
    let joined = 0;
    for (const [name, room] of this.rooms) {
      this.ask("join", { room: name, ...(room.position && { since: room.position }) }, (answer) => {
        if (answer.error || answer.recovered === false) return this.errors.push(answer);
        for (const message of answer.messages ?? []) this.see(message);
        room.position = answer.position;
        joined += 1;
        if (joined === this.rooms.size) this.entered();
      });
    }
  }

  entered() {
    this.isIn = true;
    if (this.losses > this.returns) {
      this.returns += 1;
      this.stalledFor = performance.now() - this.lostAt;
      this.repeats += this.unanswered.size;
    }
    for (const id of this.unanswered.keys()) this.send(id);
  }

  history(room, page) {
    return new Promise((resolve) => this.ask("history", { room, ...page }, resolve));
  }
}

class StockMember extends Member {
  enter() {
    this.socket = connect(this.balancer, this.name, { extraHeaders: { "x-client": this.name } });
    this.socket.on("disconnect", () => this.lost());
    this.socket.on("connect", () => {
      if (this.socket.recovered) {
        this.recoveries += 1;
        assert.equal(this.socket.id, this.id, "it is the same socket");
      }
      this.id = this.socket.id;
      this.connected(this.socket.recovered);
    });
    this.socket.onAny((event, data) => this.heard(event, data));
  }

  /** Answers of a connection that is gone are of no interest. */
  ask(event, data, settle) {
    const { engine } = this.socket.io;
    this.socket.emit(event, data, (answer) => engine === this.socket.io.engine && settle(answer));
  }

  close() {
    this.socket.close();
  }
}

class PlainMember extends Member {
  enter() {
    this.waiting = [];
    const headers = { authorization: `Bearer ${token(this.name)}`, "x-client": this.name };
    this.socket = new WebSocket(`${this.balancer.url.replace("http", "ws")}/ws`, { headers });
    this.socket.on("error", () => {}); // "close" follows
    this.socket.on("message", (data) => this.#receive(JSON.parse(data.toString())));
    this.socket.on("close", () => {
      this.lost();
      if (!this.isClosed) this.enter();
    });
  }

  #receive(message) {
    if (message.event === "connected") return this.connected(false);
    if (message.event) return this.heard(message.event, message.data);
    this.waiting[message.id](message.error ? message : message.data);
  }

  ask(event, data, settle) {
    const id = this.waiting.push(settle) - 1;
    this.socket.send(JSON.stringify({ event, data, id }));
  }

  close() {
    this.isClosed = true;
    this.socket.close();
  }
}

async function enter(members) {
  for (let first = 0; first < members.length; first += ENTER_AT_ONCE) {
    const some = members.slice(first, first + ENTER_AT_ONCE);
    for (const member of some) member.enter();
    await eventually("they are in", () => some.every(({ isIn }) => isIn));
  }
}

/** In a room's log is once what its members sent there, in the order of each, and all have seen it so. */
function assertAccounted(room, members, log) {
  for (const member of members) {
    const own = log.filter((text) => text.split("/")[1] === member.name);
    assert.deepEqual(own, member.sentTo(room), `${member.name} is there once, in its order`);
    assert.deepEqual(member.rooms.get(room).seen, log, `${member.name} has seen what the log has, once and in its order`);
  }
  assert.equal(sum(members, (member) => member.sentTo(room).length), log.length, "nothing else is there");
}

describe("an edge that is killed under traffic", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "sockeye-"));
  const cleanUp = [];
  after(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
    rmSync(folder, { recursive: true });
  });

  async function start() {
    const file = path.join(folder, "namespaces.toml");
    writeFileSync(file, '[namespace."/chat"]\nrecovery = "2m"\n');
    const system = await startTwoEdges({
      edge: [`--edge-namespaces-file=${file}`, "--edge-ws-namespace=/chat", "--edge-shards=2"],
      chat: [`--chat-data-dir=${path.join(folder, "data")}`],
    });
    cleanUp.push(() => system.stop());
    const balancer = await startBalancer(system.edges.map((edge) => edge.address));
    cleanUp.push(() => balancer.stop());
    return { system, balancer };
  }

  test(`loses and doubles nothing for ${CLIENTS} clients`, async (context) => {
    const { system, balancer } = await start();
    const rooms = Math.ceil((2 * CLIENTS) / MEMBERS_PER_ROOM);
    const members = Array.from({ length: CLIENTS }, (_, number) => {
      const isStock = (Math.floor(number / 2) + Math.floor(number / rooms)) % 2 === 0;
      const kind = isStock ? StockMember : PlainMember;
      return new kind(`client-${number}`, [`room-${number % rooms}`, `room-${(number + 1) % rooms}`], balancer);
    });
    cleanUp.push(() => members.forEach((member) => member.close()));
    await enter(members);
    const there = members.filter(({ name }) => balancer.placeOf(name) === 0);
    const here = members.filter(({ name }) => balancer.placeOf(name) === 1);
    assert.ok(there.length > CLIENTS / 4 && here.length > CLIENTS / 4, "both edges have clients");

    const stop = talk(members, MESSAGES_PER_SECOND);
    cleanUp.push(stop);
    const acknowledged = () => sum(members, ({ stalls }) => stalls.length);
    const progress = async () => {
      const enough = acknowledged() + 2 * MESSAGES_PER_SECOND;
      await eventually("messages are acknowledged", () => acknowledged() >= enough);
    };
    await progress();
    await system.edges[0].service.stop("SIGKILL");
    await eventually("all of them are back", () => there.every(({ isIn, returns }) => isIn && returns > 0));
    await progress();
    stop();
    await eventually("all is answered", () => members.every(({ underWay }) => underWay === 0));

    for (let number = 0; number < rooms; number += 1) {
      const room = `room-${number}`;
      const here = members.filter((member) => member.rooms.has(room));
      const total = sum(here, (member) => member.sentTo(room).length);
      const seen = () => here.every((member) => member.rooms.get(room).seen.length >= total);
      await eventually("everyone has seen everything", seen);
      assertAccounted(room, here, await logged((page) => here[0].history(room, page)));
    }
    assert.deepEqual(members.flatMap(({ errors }) => errors), []);
    assert.equal(sum(here, ({ losses }) => losses), 0, "the other edge's clients notice nothing");
    const stock = there.filter((member) => member instanceof StockMember);
    assert.equal(sum(stock, ({ recoveries }) => recoveries), stock.length, "stock clients go on as the same sockets");
    const away = there.map(({ stalledFor }) => stalledFor);
    const answers = members.flatMap(({ stalls }) => stalls);
    context.diagnostic(
      `${there.length} of ${CLIENTS} clients lost their edge, all ${stock.length} stock ones were recovered; ` +
        `away: p50 ${share(away, 0.5)} ms, p99 ${share(away, 0.99)} ms; ` +
        `${answers.length} messages, ${sum(there, ({ repeats }) => repeats)} sent again or late; from message to ack: p50 ${share(answers, 0.5)} ms, p99 ${share(answers, 0.99)} ms, ` +
        `longest ${share(answers, 1)} ms`,
    );
  });
});
