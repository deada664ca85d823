// The stock client on WebTransport, in the browser that has it built in.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { launch } from "./browser.mjs";
import { makeCertificate } from "./certificate.mjs";
import { BUNDLE, ClientPages } from "./client-pages.mjs";
import { eventually, startThreeProcesses } from "./system.mjs";

describe("the stock client on WebTransport", () => {
  let backend;
  let browser;
  let certificate;
  let folder;
  let pages;
  let system;

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
    pages = new ClientPages({ browser, url: system.url, namespace: backend.namespace, hash: certificate.hash });
  });
  after(async () => {
    await browser?.close();
    await system?.stop();
    backend?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(() => pages.close());

  const transportName = (page) => page.evaluate(() => globalThis.socket.io.engine.transport.name);

  test("connects, asks and is answered, with bytes both ways", async () => {
    const page = await pages.enter(["webtransport"]);

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
    const page = await pages.enter(["polling", "webtransport"]);

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
    const page = await pages.enter(["webtransport"]);

    const isConnected = await page.evaluate(async () => {
      const { engine } = globalThis.socket.io;
      for (let pings = 0; pings < 5; pings += 1) await new Promise((resolve) => engine.once("ping", resolve));
      return globalThis.socket.connected;
    });

    assert.equal(isConnected, true);
  });

  test("is gone when it disconnects, and hears when the edge is stopped", async () => {
    const areConnected = (count) => async () => (await system.count("sockeye_edge_connections")) === count;
    const page = await pages.enter(["webtransport"]);
    await eventually("the others are gone", areConnected(1));

    await page.evaluate(() => globalThis.socket.disconnect());
    await eventually("it is gone as well", areConnected(0));

    const other = await pages.enter(["webtransport"]);
    await other.evaluate(() => {
      globalThis.gone = new Promise((resolve) => globalThis.socket.once("disconnect", resolve));
    });
    await system.edge.stop("SIGTERM");
    // Which one depends on what the browser hears first: the end of the stream, or that of the connection.
    assert.match(await other.evaluate(() => globalThis.gone), /^transport (close|error)$/);
    // And so does what becomes of the client's unhandled promise.
    pages.forgetErrors();
  });
});
