// The stock client in a page of a real browser, on an edge that ends TLS itself.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { startBackend } from "./backend.mjs";
import { launch, openTab } from "./browser.mjs";
import { makeCertificate } from "./certificate.mjs";
import { BUNDLE, ClientPages } from "./client-pages.mjs";
import { eventually, startThreeProcesses } from "./system.mjs";

describe("the stock client in Chromium over https", () => {
  let backend;
  let browser;
  let certificate;
  let folder;
  let pages;
  let system;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "sockeye-https-"));
    backend = await startBackend();
    const edge = ["--edge-shards=3", "--edge-ping-interval=200ms", "--edge-ping-timeout=5s", `--edge-route=${backend.namespace}=${backend.url}`];
    system = await startThreeProcesses({ edge: [...edge, "--edge-events-per-second=1000", "--edge-events-burst=2000"] });
    // The certificate names the address, which must be known before.
    certificate = makeCertificate(folder, system.address.split(":")[0]);
    await system.edge.stop();
    system.url = system.url.replace("http:", "https:");
    system.edge.flags.push(
      `--edge-tls-cert-file=${certificate.certificate}`,
      `--edge-tls-key-file=${certificate.key}`,
      `--edge-client-bundle=${BUNDLE}`,
      `--edge-allowed-origin=${system.url}`,
      // With the certificate of TLS.
      `--edge-webtransport-listen=${system.address}`,
    );
    await system.edge.start();
    await system.ready();
    browser = await launch({ trustedKey: certificate.keyHash });
    pages = new ClientPages({ browser, url: system.url, namespace: backend.namespace, hash: certificate.hash });
  });
  after(async () => {
    await browser?.close();
    await system?.stop();
    backend?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(() => pages.close());

  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"], ["polling", "webtransport"]]) {
    test(`loses, doubles and reorders nothing on ${transports.join(" and ")}`, async () => {
      const page = await pages.enter(transports);

      const seen = await page.evaluate(async (last) => {
        const { socket } = globalThis;
        const { engine } = socket.io;
        const answers = [];
        while (answers.length < 200 || engine.transport.name !== last) {
          answers.push(socket.emitWithAck("echo", answers.length));
          if (answers.length % 10 === 0) await answers.at(-1);
        }
        const text = await socket.emitWithAck("echo", "x".repeat(500_000));
        const bytes = await socket.emitWithAck("echo", new Uint8Array(500_000).fill(7));
        const { protocol } = globalThis.location;
        return { answers: await Promise.all(answers), text: text.length, bytes: new Uint8Array(bytes).length, protocol };
      }, transports.at(-1));

      assert.deepEqual(seen.answers, [...seen.answers.keys()]);
      assert.deepEqual([seen.text, seen.bytes, seen.protocol], [500_000, 500_000, "https:"]);
    });
  }

  test("lives on as long as it answers pings, and is gone when its page is", async () => {
    const areConnected = (count) => async () => (await system.count("sockeye_edge_connections")) === count;
    await eventually("the others are gone", areConnected(0));
    const page = await pages.enter(["websocket"]);

    const isConnected = await page.evaluate(async () => {
      const { engine } = globalThis.socket.io;
      for (let pings = 0; pings < 5; pings += 1) await new Promise((resolve) => engine.once("ping", resolve));
      return globalThis.socket.connected;
    });

    assert.equal(isConnected, true);
    await page.goto("about:blank");
    await eventually("it is gone", areConnected(0));
  });

  test("is spoken to in HTTP/1.1, whatever else the browser offers", async () => {
    const page = await pages.enter(["polling"]);

    const protocols = await page.evaluate(async () => {
      await globalThis.socket.emitWithAck("echo", 1);
      const requests = performance.getEntriesByType("resource").filter(({ name }) => name.includes("transport=polling"));
      return requests.map(({ nextHopProtocol }) => nextHopProtocol);
    });

    assert.ok(protocols.length >= 3, "the handshake, a post and an answer");
    assert.deepEqual([...new Set(protocols)], ["http/1.1"]);
  });

  test("does not come in where its browser does not know the certificate", async () => {
    const stranger = await launch();
    try {
      const { page } = await openTab(stranger);
      await assert.rejects(page.goto(system.url), /ERR_CERT_AUTHORITY_INVALID/);
    } finally {
      await stranger.close();
    }
  });
});
