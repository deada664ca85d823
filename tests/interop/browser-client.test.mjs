// The stock socket.io-client in a browser.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { launch, openTab } from "./browser.mjs";
import { startThreeProcesses, token } from "./system.mjs";

const BUNDLE = path.join(path.dirname(createRequire(import.meta.url).resolve("socket.io-client/package.json")), "dist/socket.io.js");

describe("the stock socket.io-client in Chromium", () => {
  let browser;
  let system;

  before(async () => {
    browser = await launch();
    system = await startThreeProcesses({ edge: ["--edge-cors-origin=http://shop.example"] });
  });
  after(async () => {
    await browser?.close();
    await system?.stop();
  });

  /** A tab of another origin with the client's own bundle in it. */
  async function tab() {
    const { page } = await openTab(browser);
    await page.route("http://shop.example/", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html>" }));
    await page.route("http://shop.example/socket.io.js", (route) => route.fulfill({ path: BUNDLE }));
    await page.goto("http://shop.example/");
    await page.addScriptTag({ url: "http://shop.example/socket.io.js" });
    return page;
  }

  test("connects with its defaults, joins, sends and hears, from another origin", async () => {
    const page = await tab();

    const heard = await page.evaluate(
      async ({ url, token }) => {
        const socket = window.io(`${url}/chat`, { auth: { token } });
        const upgraded = new Promise((resolve) => socket.io.engine.once("upgrade", ({ name }) => resolve(name)));
        const message = new Promise((resolve) => socket.once("message", resolve));
        const joined = await socket.emitWithAck("join", "lobby");
        const sent = await socket.emitWithAck("message", { room: "lobby", text: "from a browser" });
        return { joined, sent, message: await message, transport: await upgraded };
      },
      { url: system.url, token: token("alice") },
    );

    assert.equal(heard.joined.room, "lobby");
    assert.equal(heard.message.text, "from a browser");
    assert.equal(heard.transport, "websocket");
    assert.equal(heard.message.position, heard.sent.position);
  });

  test("is told why it is not let in", async () => {
    const page = await tab();

    const error = await page.evaluate(async (url) => {
      const socket = window.io(`${url}/chat`, { transports: ["websocket"], auth: { token: "garbage" } });
      const { message, data } = await new Promise((resolve) => socket.once("connect_error", resolve));
      return { message, data, active: socket.active };
    }, system.url);

    assert.deepEqual(error, { message: "Unauthorized", data: { code: "unauthorized" }, active: false });
  });
});
