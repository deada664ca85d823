// The stock client in a page of a real browser, on an edge that ends TLS itself.

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
/** What the browser says where the client's own code leaves a promise of a WebTransport session without a handler. */
const UNHANDLED = "The session is closed.";

describe("the stock client in Chromium over https", () => {
  let backend;
  let browser;
  let certificate;
  let folder;
  let system;
  const tabs = [];

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

  /** A page of the edge's own origin, whose client is in the backend's namespace, as `socket`. */
  async function enter(transports) {
    const tab = await openTab(browser);
    tabs.push(tab);
    await tab.page.goto(`${system.url}/socket.io/socket.io.min.js`);
    await tab.page.addScriptTag({ url: "/socket.io/socket.io.min.js" });
    const settings = { namespace: backend.namespace, transports, hash: certificate.hash, token: token("alice") };
    await tab.page.evaluate(async ({ namespace, transports, hash, token }) => {
      const serverCertificateHashes = [{ algorithm: "sha-256", value: new Uint8Array(hash) }];
      const transportOptions = { webtransport: { serverCertificateHashes } };
      // Without an address: the origin of the page, and so its scheme.
      globalThis.socket = globalThis.io(namespace, { transports, transportOptions, reconnection: false, auth: { token } });
      await new Promise((resolve, reject) => {
        globalThis.socket.on("connect", resolve).on("connect_error", reject);
      });
    }, settings);
    return tab.page;
  }

  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"], ["polling", "webtransport"]]) {
    test(`loses, doubles and reorders nothing on ${transports.join(" and ")}`, async () => {
      const page = await enter(transports);

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
    const page = await enter(["websocket"]);

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
    const page = await enter(["polling"]);

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
