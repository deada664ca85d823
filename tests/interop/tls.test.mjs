// The stock client on an edge that speaks TLS.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import tls from "node:tls";

import WebSocket from "ws";

import { startBackend } from "./backend.mjs";
import { makeCertificate } from "./certificate.mjs";
import { ask, connect, connected, next } from "./clients.mjs";
import { eventually, startThreeProcesses, token } from "./system.mjs";

describe("the stock client over TLS", () => {
  let backend;
  let certificate;
  let folder;
  let system;
  const open = [];

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "sockeye-tls-"));
    backend = await startBackend();
    const edge = ["--edge-shards=3", "--edge-ping-interval=200ms", "--edge-ping-timeout=5s", `--edge-route=${backend.namespace}=${backend.url}`];
    system = await startThreeProcesses({ edge: [...edge, "--edge-events-per-second=1000", "--edge-events-burst=2000"] });
    // The certificate names the address, which must be known before.
    certificate = makeCertificate(folder, host());
    await system.edge.stop();
    system.edge.flags.push(`--edge-tls-cert-file=${certificate.certificate}`, `--edge-tls-key-file=${certificate.key}`);
    await system.edge.start();
    await system.ready();
    system.url = system.url.replace("http:", "https:");
  });
  after(async () => {
    await system?.stop();
    backend?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  const host = () => system.address.split(":")[0];

  async function enter(options) {
    const socket = await connected(system, "alice", { namespace: backend.namespace, ca: certificate.pem, ...options });
    open.push(socket);
    return socket;
  }

  /** The fingerprint of the certificate that a new client is shown. */
  function shown() {
    return new Promise((resolve, reject) => {
      const [address, port] = system.address.split(":");
      const socket = tls.connect({ host: address, port, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerX509Certificate().fingerprint256);
        socket.destroy();
      });
      socket.on("error", reject);
    });
  }

  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
    test(`loses, doubles and reorders nothing on ${transports.join(" and ")}`, async () => {
      const socket = await enter({ transports });
      const answers = [];

      for (let number = 0; number < 200; number += 1) {
        answers.push(ask(socket, "echo", number));
        if (number % 20 === 0) await answers.at(-1);
      }

      assert.deepEqual(await Promise.all(answers), [...answers.keys()]);
      const last = transports.at(-1);
      await eventually(`it is on ${last}`, () => socket.io.engine.transport.name === last);
      assert.equal((await ask(socket, "echo", "x".repeat(500_000))).length, 500_000);
      assert.equal((await ask(socket, "echo", Buffer.alloc(500_000, 7))).length, 500_000);
    });
  }

  test("does not trust a certificate that it does not know", async () => {
    const socket = connect(system, "alice", { reconnection: false });
    open.push(socket);

    const [error] = await next(socket, "connect_error");

    assert.match(String(error.description?.message ?? error.description?.error), /self-signed certificate/);
  });

  test("lives on while the certificate is replaced, and a new client is shown the new one", async () => {
    const socket = await enter({ reconnection: false });
    const before = await shown();

    certificate = makeCertificate(folder, host());
    await eventually("another certificate is shown", async () => (await shown()) !== before);

    await enter({});
    assert.equal(await ask(socket, "echo", "still here"), "still here");
  });

  test("leaves room for plain WebSocket clients beside it", async () => {
    const headers = { authorization: `Bearer ${token("alice")}` };
    const socket = new WebSocket(`wss://${system.address}/ws`, { headers, ca: certificate.pem });

    const [message] = await next(socket, "message");

    assert.equal(JSON.parse(message.toString()).event, "connected");
    socket.close();
    const [code] = await next(socket, "close");
    assert.equal(code, 1000);
  });

  test("hears that the edge is being stopped", async () => {
    const socket = await enter({});
    const gone = next(socket, "disconnect");

    await system.edge.stop("SIGTERM");

    assert.equal((await gone)[0], "transport close");
    assert.ok(socket.active, "it will try again");
  });
});
