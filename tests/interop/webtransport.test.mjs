// The stock client on WebTransport, in the browser that has it built in.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { launch, openTab } from "./browser.mjs";
import { makeCertificate } from "./certificate.mjs";
import { eventually, startThreeProcesses, token } from "./system.mjs";

const BUNDLE = path.join(import.meta.dirname, "node_modules/socket.io-client/dist");

/** The client copies its packets to the stream with a promise that nobody handles. It is rejected at the end of each session. */
const UNHANDLED = "The session is closed.";

describe("the stock client on WebTransport", () => {
  let backend;
  let browser;
  let certificate;
  let folder;
  let system;
  const tabs = [];

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "sockeye-webtransport-"));
    certificate = makeCertificate(folder);
    backend = await startBackend();
    const edge = ["--edge-shards=3", "--edge-ping-interval=200ms", "--edge-ping-timeout=5s", `--edge-route=${backend.namespace}=${backend.url}`];
    system = await startThreeProcesses({ edge: [...edge, "--edge-events-per-second=1000", "--edge-events-burst=2000"] });
    // Browsers look for it on the port they know, so that the port must be known before.
    await system.edge.stop();
    system.edge.flags.push(
      `--edge-client-bundle=${BUNDLE}`,
      `--edge-webtransport-listen=${system.address}`,
      `--edge-webtransport-certificate=${certificate.certificate}`,
      `--edge-webtransport-key=${certificate.key}`,
    );
    await system.edge.start();
    await system.ready();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await system?.stop();
    backend?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(async () => {
    const errors = tabs.flatMap((tab) => tab.errors);
    for (const { context } of tabs.splice(0)) await context.close();
    assert.deepEqual(errors.filter((error) => error !== UNHANDLED), [], "the page raises no errors");
  });

  /** A page whose client is in the backend's namespace, as `socket`. */
  async function enter(transports) {
    const tab = await openTab(browser);
    tabs.push(tab);
    // Any page of that origin serves.
    await tab.page.goto(`${system.url}/socket.io/socket.io.min.js`);
    await tab.page.addScriptTag({ url: "/socket.io/socket.io.min.js" });
    const settings = { url: system.url + backend.namespace, transports, hash: certificate.hash, token: token("alice") };
    await tab.page.evaluate(async ({ url, transports, hash, token }) => {
      const serverCertificateHashes = [{ algorithm: "sha-256", value: new Uint8Array(hash) }];
      const transportOptions = { webtransport: { serverCertificateHashes } };
      globalThis.socket = globalThis.io(url, { transports, transportOptions, reconnection: false, auth: { token } });
      await new Promise((resolve, reject) => {
        globalThis.socket.on("connect", resolve).on("connect_error", reject);
      });
    }, settings);
    return tab.page;
  }

  const transportName = (page) => page.evaluate(() => globalThis.socket.io.engine.transport.name);

  test("connects, asks and is answered, with bytes both ways", async () => {
    const page = await enter(["webtransport"]);

    const answers = await page.evaluate(async () => {
      const { socket } = globalThis;
      const [text, large] = [await socket.emitWithAck("echo", "é 😀"), await socket.emitWithAck("echo", "x".repeat(500_000))];
      const [bytes] = [await socket.emitWithAck("echo", new Uint8Array(100_000).fill(7))];
      const all = await Promise.all(Array.from({ length: 500 }, (_, number) => socket.emitWithAck("echo", number)));
      return [text, large.length, new Uint8Array(bytes).length, all];
    });

    assert.deepEqual(answers, ["é 😀", 500_000, 100_000, Array.from({ length: 500 }, (_, number) => number)]);
    assert.equal(await transportName(page), "webtransport");
  });

  test("loses, doubles and reorders nothing when it moves there from long-polling", async () => {
    const page = await enter(["polling", "webtransport"]);

    const answers = await page.evaluate(async () => {
      const { socket } = globalThis;
      const { engine } = socket.io;
      let hasMoved = engine.transport.name === "webtransport";
      engine.once("upgrade", () => (hasMoved = true));
      const answers = [];
      while (!hasMoved || answers.length < 200) {
        answers.push(socket.emitWithAck("echo", answers.length));
        if (answers.length % 10 === 0) await answers.at(-1);
      }
      return Promise.all(answers);
    });

    assert.deepEqual(answers, [...answers.keys()]);
    assert.equal(await transportName(page), "webtransport");
  });

  test("lives on as long as it answers pings", async () => {
    const page = await enter(["webtransport"]);

    const isConnected = await page.evaluate(async () => {
      const { engine } = globalThis.socket.io;
      for (let pings = 0; pings < 5; pings += 1) await new Promise((resolve) => engine.once("ping", resolve));
      return globalThis.socket.connected;
    });

    assert.equal(isConnected, true);
  });

  test("is gone when it disconnects, and hears when the edge is stopped", async () => {
    const areConnected = (count) => async () => (await system.count("sockeye_edge_connections")) === count;
    const page = await enter(["webtransport"]);
    await eventually("the others are gone", areConnected(1));

    await page.evaluate(() => globalThis.socket.disconnect());
    await eventually("it is gone as well", areConnected(0));

    const other = await enter(["webtransport"]);
    await other.evaluate(() => {
      globalThis.gone = new Promise((resolve) => globalThis.socket.once("disconnect", resolve));
    });
    await system.edge.stop("SIGTERM");
    // Which one depends on what the browser hears first: the end of the stream, or that of the connection.
    assert.match(await other.evaluate(() => globalThis.gone), /^transport (close|error)$/);
    // And so does what becomes of the client's unhandled promise.
    for (const tab of tabs) tab.errors.length = 0;
  });
});
