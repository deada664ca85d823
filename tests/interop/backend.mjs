// A business service in JavaScript, written from the public contract: no state, no resume.

import { loadPackageDefinition, Server, ServerCredentials } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import path from "node:path";

const CONTRACTS = path.join(import.meta.dirname, "../../proto");
const NAMESPACE = "/game";
const ASK_TIMEOUT_MS = 5000;

const json = (value) => Buffer.from(JSON.stringify(value));

/** What becomes of one event: instructions, in order. */
function instructionsFor(event, askers) {
  const { socket } = event;
  const emit = (name, args, more = {}) => ({ emit: { audience: { namespace: NAMESPACE, sockets: [socket] }, event: name, args, ...more } });
  if (event.opened) {
    if (event.opened.announced) return [];
    const { subject } = event.opened.identity;
    if (subject === "cheater") return [{ refuse: { socket, message: "Banned", data: json({ until: "2030" }) } }];
    return [{ accept: { socket } }, emit("welcome", json([{ subject, socket: event.opened.socket_id }]))];
  }
  if (event.ack) return [emitTo(askers.get(event.ack.tag), "thanks", event.ack.args)];
  if (!event.event) return [];

  const { name, args, attachments, ack_id: ackId } = event.event;
  const acknowledge = ackId === undefined ? [] : [{ acknowledge: { socket, ack_id: ackId, args, attachments } }];
  switch (name) {
    case "echo":
      return acknowledge;
    case "quiz": {
      const tag = String(askers.size + 1);
      askers.set(tag, socket);
      return [emit("question", args, { ask: { tag, timeout_ms: ASK_TIMEOUT_MS } })];
    }
    case "to all":
      return [{ emit: { audience: { namespace: NAMESPACE, everyone: true }, event: "from one", args, attachments } }, ...acknowledge];
    case "kick me":
      return [...acknowledge, { disconnect: { sockets: [socket] } }];
    case "drop me":
      return [...acknowledge, { close: { sockets: [socket] } }];
    default:
      return [];
  }
}

const emitTo = (socket, name, args) => ({ emit: { audience: { namespace: NAMESPACE, sockets: [socket] }, event: name, args } });

function attach(stream) {
  const askers = new Map();
  let received = "0";
  let sent = 0;
  stream.on("data", ({ seq, hello, events }) => {
    received = seq ?? received;
    const instructions = events.flatMap((event) =>
      instructionsFor(event, askers).map((instruction) => ({ traceparent: event.traceparent, ...instruction })),
    );
    stream.write({
      seq: instructions.length > 0 ? (sent += 1) : 0,
      ack: received,
      welcome: hello ? { backend_id: "javascript", resumed: false } : null,
      instructions,
    });
  });
  stream.on("error", () => {});
  stream.on("end", () => stream.end());
}

/** Starts the service: where to route its namespace to, and how to stop it. */
export async function startBackend() {
  const definition = loadSync("sockeye/edge/v1/edge.proto", { includeDirs: [CONTRACTS], arrays: true, keepCase: true, longs: String });
  const { sockeye } = loadPackageDefinition(definition);
  const server = new Server();
  server.addService(sockeye.edge.v1.EdgeLink.service, { Attach: attach });
  const port = await new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return { namespace: NAMESPACE, url: `http://127.0.0.1:${port}`, stop: () => server.forceShutdown() };
}
