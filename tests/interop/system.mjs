// Starts the real binaries for a test, and makes tokens that they accept.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";

import { Authority } from "./certificate.mjs";

/** Long: it is used up only by what has failed, and by a machine that is busy. */
export const DEADLINE_MS = 60_000;
const POLL_MS = 20;
const BIN_DIR = process.env.SOCKEYE_BIN_DIR ?? path.join(import.meta.dirname, "../../target/debug");
/** Where `./test` puts what is neither ours nor npm's. */
export const TOOLS_DIR = process.env.SOCKEYE_TOOLS_DIR ?? path.join(import.meta.dirname, "../../target/tools");
const SECRET = "only-for-tests-0123456789-abcdefghij";

let hostsGivenOut = 0;

/**
 * A loopback host that no other process of this test run listens on. A process that is started again must find its port
 * free, and outgoing connections, which share the port numbers, have the source 127.0.0.1.
 */
function ownHost() {
  if (process.platform !== "linux") return "127.0.0.1";
  hostsGivenOut = (hostsGivenOut % 250) + 1;
  return `127.${(process.pid >> 8) & 127 | 128}.${process.pid & 255}.${hostsGivenOut}`;
}

/** A free address that others must know before their process is started. */
export async function ownAddress() {
  const host = ownHost();
  const server = createServer().listen(0, host);
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return `${host}:${port}`;
}

/** Waits until `probe` returns something that is neither undefined, null nor false, and returns it. */
export async function eventually(what, probe, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  while (Date.now() < end) {
    const found = await probe();
    if (found !== undefined && found !== null && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error(`waited ${deadlineMs} ms in vain: ${what}`);
}

/** A token for a user whose name is its subject. */
export function token(subject, { lifetimeSeconds = 600, claims = {}, secret = SECRET } = {}) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + lifetimeSeconds;
  const body = { sub: subject, name: subject, iss: "sockeye", aud: "sockeye", exp, ...claims };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(body)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** One process. It is started again on the addresses that it had. */
class Service {
  constructor(name, flags, environment = {}) {
    Object.assign(this, { name, flags, environment, log: [] });
  }

  async start() {
    const binary = path.join(BIN_DIR, this.name);
    if (!existsSync(binary)) throw new Error(`${binary} is not built: run \`cargo build --workspace\``);
    this.listening = [];
    const flags = ["--log-format=json", ...this.flags];
    const environment = { PATH: process.env.PATH, ...this.environment };
    this.process = spawn(binary, flags, { env: environment, stdio: ["ignore", "ignore", "pipe"] });
    createInterface({ input: this.process.stderr }).on("line", (line) => this.#read(line));
    this.ended = once(this.process, "exit");
    return this;
  }

  #read(line) {
    this.log.push(line);
    try {
      const entry = JSON.parse(line);
      if (entry.message === "listening") this.listening.push(entry);
    } catch {
      // Not a log line: the last words of a process that fails.
    }
  }

  /** The address of a listener, once the log tells it. */
  address(service, listener) {
    return eventually(`${service} listens`, () => {
      if (this.process.exitCode !== null) throw new Error(`${this.name} ended:\n${this.log.join("\n")}`);
      return this.listening.find((entry) => entry.service === service && entry.listener === listener)?.address;
    });
  }

  /** Makes the next start use the address of this one. */
  async stayAt(flag, service, listener) {
    const address = await this.address(service, listener);
    this.flags = [...this.flags.filter((other) => !other.startsWith(`${flag}=`)), `${flag}=${address}`];
    return address;
  }

  /** Ends the process with a signal. Returns its exit code. */
  async stop(signal = "SIGKILL") {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill(signal);
    const [code] = await this.ended;
    return code;
  }
}

/** The services behind an edge, and what tells the edge of them. With an authority they show certificates. */
async function startBehindEdges({ chat: chatFlags = [], auth: authFlags, authority } = {}) {
  const ownSecret = authFlags ? {} : { AUTH_HS256_SECRET: SECRET };
  const [authHost, chatHost] = [ownHost(), ownHost()];
  const certified = (service, host) => authority?.flags(service, `${service}.sockeye.internal`, host) ?? [];
  const authDefaults = [`--auth-listen=${authHost}:0`, ...certified("auth", authHost)];
  const auth = await new Service("auth-service", [...authDefaults, ...(authFlags ?? [])], ownSecret).start();
  // The tokens of `token` say nothing of rooms.
  const chatDefaults = [`--chat-listen=${chatHost}:0`, "--chat-open-rooms", ...certified("chat", chatHost)];
  const chat = await new Service("chat-service", [...chatDefaults, ...chatFlags]).start();
  const authAddress = await auth.stayAt("--auth-listen", "auth-service", "grpc");
  const chatAddress = await chat.stayAt("--chat-listen", "chat-service", "grpc");
  const scheme = authority ? "https" : "http";
  const flags = [
    "--edge-drain-timeout=300ms",
    `--edge-auth-url=${scheme}://${authAddress}`,
    `--edge-route=/=${scheme}://${chatAddress}`,
    `--edge-route=/chat=${scheme}://${chatAddress}`,
  ];
  return { auth, chat, flags };
}

async function startEdge(flags, listen) {
  const host = ownHost();
  const addresses = [`--edge-listen=${listen ?? `${host}:0`}`, `--edge-ops-listen=${host}:0`];
  const edge = await new Service("edge-gateway", [...addresses, ...flags]).start();
  const clients = await edge.stayAt("--edge-listen", "edge-gateway", "clients");
  const ops = await edge.stayAt("--edge-ops-listen", "edge-gateway", "ops");
  return { edge, clients, ops };
}

/** Edge gateway, chat service and auth service, each in its own process. With flags for `auth`, those say whose tokens are good. */
export async function startThreeProcesses({ edge: flags = [], chat: chatFlags = [], auth: authFlags } = {}) {
  const { auth, chat, flags: fixed } = await startBehindEdges({ chat: chatFlags, auth: authFlags });
  const { edge, clients, ops } = await startEdge([...fixed, ...flags]);
  const system = { auth, chat, edge, ...named({ clients, ops, services: [edge, chat, auth] }) };
  await system.ready();
  return system;
}

/** Two edges that know each other, in front of one chat service and one auth service. All may show each other certificates. */
export async function startTwoEdges({ edge: flags = [], chat: chatFlags = [], certificates = false } = {}) {
  const authority = certificates ? new Authority() : undefined;
  const { auth, chat, flags: fixed } = await startBehindEdges({ chat: chatFlags, authority });
  const addresses = [await ownAddress(), await ownAddress()];
  const scheme = authority ? "https" : "http";
  const peers = addresses.map((address, number) => `--edge-peer=${number}=${scheme}://${address}`);
  const edges = [];
  for (const [number, address] of addresses.entries()) {
    const certified = authority?.flags("edge", "edge.sockeye.internal", address.split(":")[0]) ?? [];
    const own = [`--edge-number=${number}`, `--edge-peer-listen=${address}`, ...peers, ...certified];
    const { edge, clients, ops } = await startEdge([...fixed, ...own, ...flags]);
    edges.push({ service: edge, ...named({ clients, ops, services: [edge] }) });
  }
  const behind = [chat, auth];
  for (const edge of edges) await edge.ready();
  return {
    chat,
    edges,
    stop: async () => {
      for (const edge of edges) await edge.stop();
      for (const service of behind) await service.stop();
      authority?.remove();
    },
  };
}

/** An edge by itself, for business services that its flags name. */
export async function startEdgeAlone({ listen, flags }) {
  const { edge, clients, ops } = await startEdge(["--edge-drain-timeout=300ms", ...flags], listen);
  const system = { edge, ...named({ clients, ops, services: [edge] }) };
  await system.ready();
  return system;
}

/** The all-in-one. It makes its own secret unless it is given one, and then issues tokens. */
export async function startAllInOne({ flags = [], environment = {} } = {}) {
  const host = ownHost();
  const listen = ["edge-listen", "edge-ops-listen", "chat-listen", "auth-listen"].map((flag) => `--${flag}=${host}:0`);
  const service = await new Service("sockeye", [...listen, "--edge-drain-timeout=300ms", ...flags], environment).start();
  const clients = await service.stayAt("--edge-listen", "edge-gateway", "clients");
  const ops = await service.stayAt("--edge-ops-listen", "edge-gateway", "ops");
  const chat = await service.stayAt("--chat-listen", "chat-service", "grpc");
  await service.stayAt("--auth-listen", "auth-service", "grpc");
  const system = { allInOne: service, chatAddress: chat, ...named({ clients, ops, services: [service] }) };
  await system.ready();
  return system;
}

function named({ clients, ops, services }) {
  const isReady = async () => {
    const response = await fetch(`http://${ops}/readyz`).catch(() => null);
    return response?.status === 200;
  };
  return {
    address: clients,
    url: `http://${clients}`,
    opsUrl: `http://${ops}`,
    ready: () => eventually("the edge is ready", isReady),
    /** What the edge's metrics say of one series. */
    count: async (series) => {
      const text = await (await fetch(`http://${ops}/metrics`)).text();
      return Number(text.split("\n").find((line) => line.startsWith(`${series} `))?.split(" ")[1] ?? 0);
    },
    stop: async () => {
      for (const service of services) await service.stop();
    },
  };
}
