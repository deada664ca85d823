// Stock clients on two edges that are put out of a room while everybody talks and some of them move.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import { startBalancer } from "./balancer.mjs";
import { ask, canBeCut, connected, owner } from "./clients.mjs";
import { eventually, startTwoEdges } from "./system.mjs";

const CONTRACTS = path.join(import.meta.dirname, "../../proto");
const KICKS = 20;
const LATER = 30;

describe("two edges and a room", () => {
  let folder;
  let system;
  let balancer;
  let call;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "sockeye-"));
    const file = path.join(folder, "namespaces.toml");
    writeFileSync(file, `[namespace."/chat"]\nrecovery = "1m"\n`);
    const data = `--chat-data-dir=${path.join(folder, "rooms")}`;
    const limits = ["--edge-events-per-second=100000", "--edge-events-burst=100000"];
    system = await startTwoEdges({
      edge: [`--edge-namespaces-file=${file}`, "--edge-shards=2", ...limits],
      chat: [data, "--chat-history-count-max=100000"],
    });
    balancer = await startBalancer(system.edges.map((edge) => edge.address));

    const definition = loadSync("sockeye/chat/v1/chat.proto", { includeDirs: [CONTRACTS], arrays: true });
    const { ChatService } = loadPackageDefinition(definition).sockeye.chat.v1;
    const address = await system.chat.address("chat-service", "grpc");
    const service = new ChatService(address, credentials.createInsecure());
    call = (method, request) =>
      new Promise((resolve, reject) => {
        service[method](request, (error, response) => (error ? reject(error) : resolve(response)));
      });
  });
  after(async () => {
    balancer?.stop();
    await system?.stop();
    rmSync(folder, { recursive: true });
  });

  /** Ann as she is put out: `heard` are the positions of what she heard, `told` the codes of her exceptions. */
  async function enter(room) {
    const socket = await connected(balancer, "ann", { reconnectionDelay: 1, reconnectionDelayMax: 20 });
    const [heard, told] = [[], []];
    socket.on("message", ({ position }) => heard.push(position));
    socket.on("exception", ({ code }) => told.push(code));
    await ask(socket, "join", room);
    return { socket, heard, told };
  }

  test("hear nothing behind the kick, whether they stay or are on their way to the other edge", async () => {
    let moved = 0;
    for (let number = 0; number < KICKS; number += 1) {
      const room = `room-${number}`;
      const users = await Promise.all([enter(room), enter(room), enter(room)]);
      const owners = users.map(({ socket }) => owner(socket));
      let talking = true;
      const publish = (text) => call("publish", { room, data: JSON.stringify({ text }) });
      const talk = async () => {
        while (talking) await publish("x");
      };
      const talks = [talk(), talk()];
      await eventually("all hear something", () => users.every(({ heard }) => heard.length > 3));

      // One stays, two are cut and come back, on the other edge if no more connections come between.
      balancer.skip();
      for (const { socket } of users.slice(1)) {
        await eventually("it can be cut", () => canBeCut(socket));
        socket.io.engine.close();
      }
      await new Promise((resolve) => setTimeout(resolve, number));
      const kicked = await call("kick", { room, user: { issuer: "sockeye", subject: "ann" } });
      assert.equal(kicked.durability, "disk+fsync");
      for (let later = 0; later < LATER; later += 1) await publish("later");
      talking = false;
      await Promise.all(talks);

      const { entries } = await call("history", { room, after: kicked.position, limit: 1000 });
      const behind = new Set(entries.map(({ position }) => position));
      assert.ok(behind.size >= LATER);
      for (const [index, { socket, heard, told }] of users.entries()) {
        await eventually("it is back", () => socket.connected);
        const { error } = await ask(socket, "presence", room);
        assert.equal(error?.code, "not_a_member");
        assert.deepEqual(heard.filter((position) => behind.has(position)), []);
        // A client that could not be given what it missed is another socket, and was never put out.
        if (index === 0 || socket.recovered) await eventually("it is told", () => told.includes("kicked"));
        if (owner(socket) !== owners[index]) moved += 1;
        socket.close();
      }
    }
    assert.ok(moved > 0, "some have moved");
  });

  test("a ban holds on both edges, past kill -9, until it is lifted", async () => {
    const users = await Promise.all([enter("lobby"), enter("lobby"), enter("lobby")]);
    const user = { issuer: "sockeye", subject: "ann" };
    assert.equal((await call("ban", { room: "lobby", user })).sockets, 3);
    for (const { told } of users) await eventually("it is told", () => told.includes("banned"));

    await system.chat.stop("SIGKILL");
    await system.chat.start();

    for (const { socket } of users) {
      const code = await eventually("the service is back", async () => {
        const { error } = await ask(socket, "join", "lobby");
        return error?.code !== "unavailable" && error?.code;
      });
      assert.equal(code, "banned");
    }
    const { bans } = await call("listBans", { room: "lobby" });
    assert.deepEqual(bans.map((ban) => ban.user.subject), ["ann"]);
    assert.equal((await call("unban", { room: "lobby", user })).wasBanned, true);
    for (const { socket } of users) {
      assert.equal((await ask(socket, "join", "lobby")).room, "lobby");
      socket.close();
    }
  });
});
