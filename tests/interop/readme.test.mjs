// The scripts of the README, as a reader would run them.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { io } from "socket.io-client";

import { next } from "./clients.mjs";
import { readmeBlocks } from "./readme.mjs";
import { DEADLINE_MS, startAllInOne } from "./system.mjs";

const DEFAULT_URL = "http://127.0.0.1:3000";
/** Below the installed packages, so that the scripts find them, and out of the way of version control. */
const SCRIPTS_DIR = path.join(import.meta.dirname, "node_modules/.cache/readme");

describe("the README", () => {
  let system;

  before(async () => {
    system = await startAllInOne();
  });
  after(() => system.stop());

  async function run({ title, code }) {
    assert.ok(code.includes(DEFAULT_URL), `${title} names the address that the gateway has by default`);
    mkdirSync(SCRIPTS_DIR, { recursive: true });
    const script = path.join(SCRIPTS_DIR, title);
    writeFileSync(script, code.replaceAll(DEFAULT_URL, system.url));
    return promisify(execFile)(process.execPath, [script], { env: {}, timeout: DEADLINE_MS });
  }

  async function witness() {
    const response = await fetch(`${system.url}/dev/token`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: "Witness" }),
    });
    const { token } = await response.json();
    const socket = io(`${system.url}/chat`, { transports: ["websocket"], auth: { token } });
    await socket.timeout(DEADLINE_MS).emitWithAck("join", "lobby");
    return socket;
  }

  test("has one script, of fifteen lines or so, that chats with the stock client", async () => {
    const scripts = readmeBlocks().filter(({ language }) => language === "js");
    assert.deepEqual(scripts.map(({ title }) => title), ["hello.mjs"]);
    assert.ok(scripts[0].code.trim().split("\n").length <= 18);
    const socket = await witness();
    const heard = next(socket, "message");

    const { stdout, stderr } = await run(scripts[0]);

    assert.deepEqual(stdout.trim().split("\n"), [
      "in the lobby with 2 user(s)",
      "Node: Hello from Node",
      "it is in the log",
    ]);
    assert.equal(stderr, "");
    const [{ user, text }] = await heard;
    assert.deepEqual([user.name, text], ["Node", "Hello from Node"]);
    socket.close();
  });
});
