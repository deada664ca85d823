// The bundles of socket.io-client that the edge serves, loaded by a page of the edge's own origin in Chromium.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { launch, openTab } from "./browser.mjs";
import { startThreeProcesses, token } from "./system.mjs";

const BUNDLE = path.join(path.dirname(createRequire(import.meta.url).resolve("socket.io-client/package.json")), "dist");

describe("the client's bundle, from the edge", () => {
  let browser;
  let system;

  before(async () => {
    browser = await launch();
    system = await startThreeProcesses({ edge: [`--edge-client-bundle=${BUNDLE}`] });
  });
  after(async () => {
    await browser?.close();
    await system?.stop();
  });

  /** A page that loads the client as its readers would write it. */
  async function shop(script) {
    const { page, errors } = await openTab(browser);
    const body = `<!doctype html>${script}`;
    await page.route(`${system.url}/shop`, (route) => route.fulfill({ contentType: "text/html", body }));
    await page.goto(`${system.url}/shop`);
    await page.waitForFunction(() => window.io);
    assert.deepEqual(errors, []);
    return page;
  }

  async function joinsLobby(page) {
    const joined = await page.evaluate(async (token) => {
      const socket = window.io("/chat", { auth: { token } });
      return socket.emitWithAck("join", "lobby");
    }, token("alice"));
    assert.equal(joined.room, "lobby");
  }

  for (const name of ["socket.io.js", "socket.io.min.js"]) {
    test(`a page loads ${name} and connects`, async () => {
      await joinsLobby(await shop(`<script src="/socket.io/${name}"></script>`));
    });
  }

  test("a page imports the module and connects", async () => {
    const source = 'import { io } from "/socket.io/socket.io.esm.min.js"; window.io = io;';
    await joinsLobby(await shop(`<script type="module">${source}</script>`));
  });

  test("every file is the one of the package", async () => {
    for (const name of readdirSync(BUNDLE)) {
      const response = await fetch(`${system.url}/socket.io/${name}`);
      assert.equal(response.status, 200, name);
      assert.equal(response.headers.get("content-encoding"), "gzip");
      assert.deepEqual(Buffer.from(await response.arrayBuffer()), readFileSync(path.join(BUNDLE, name)), name);
    }
  });
});
