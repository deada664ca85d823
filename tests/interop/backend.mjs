// A business service in JavaScript, written from the public contract: no state, no resume.

import { loadPackageDefinition, Server, ServerCredentials } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import path from "node:path";

const CONTRACTS = path.join(import.meta.dirname, "../../proto");
const NAMESPACE = "/game";
const ASK_TIMEOUT_MS = 5000;

const json = (value) => Buffer.from(JSON.stringify(value));

/** What becomes of one event: instructions for its link, in order. `toAll` sends one over every link. */
function instructionsFor(event, askers, toAll) {
  const { socket } = event;
  const emit = (name, args, more = {}) => ({ emit: { audience: { namespace: NAMESPACE, sockets: [socket] }, event: name, args, ...more } });
  if (event.opened) {
    if (event.opened.announced) return [];
    const { subject } = event.opened.identity;
    if (subject === "cheater") return [{ refuse: { socket, message: "Banned", data: json({ until: "2030" }) } }];
    return [{ accept: { socket } }, emit("welcome", json([{ subject, socket: event.opened.socket_id }]))];
  }
  if (event.ack) return [emitTo(askers.get(event.ack.tag), "thanks", event.ack)];
  if (!event.event) return [];

  const { name, args, attachments, ack_id: ackId } = event.event;
  const acknowledge = ackId === undefined ? [] : [{ acknowledge: { socket, ack_id: ackId, args, attachments } }];
  switch (name) {
    case "echo":
      return acknowledge;
    case "quiz": {
      const tag = String(askers.size + 1);
      askers.set(tag, socket);
      return [emit("question", args, { attachments, ask: { tag, timeout_ms: ASK_TIMEOUT_MS } })];
    }
    case "to all":
      toAll({ emit: { audience: { namespace: NAMESPACE, everyone: true }, event: "from one", args, attachments } });
      return acknowledge;
    case "kick me":
      return [...acknowledge, { disconnect: { sockets: [socket] } }];
    case "drop me":
      return [...acknowledge, { close: { sockets: [socket] } }];
    default:
      return [];
  }
}

const emitTo = (socket, event, { args, attachments }) => ({
  emit: { audience: { namespace: NAMESPACE, sockets: [socket] }, event, args, attachments },
});

/** Attaches a link: a stream of one shard. `links` has a function for each that sends instructions. */
function attach(stream, links) {
  const askers = new Map();
  let received = "0";
  let sent = 0;
  const send = (instructions, welcome = null) => {
    stream.write({ seq: instructions.length > 0 ? (sent += 1) : 0, ack: received, welcome, instructions });
  };
  links.add(send);
  const toAll = (instruction) => links.forEach((sendOver) => sendOver([instruction]));
  stream.on("data", ({ seq, hello, events }) => {
    received = seq ?? received;
    const instructions = events.flatMap((event) =>
      instructionsFor(event, askers, toAll).map((instruction) => ({ traceparent: event.traceparent, ...instruction })),
    );
    send(instructions, hello ? { backend_id: "javascript", resumed: false } : null);
  });
  stream.on("error", () => links.delete(send));
  stream.on("end", () => {
    links.delete(send);
    stream.end();
  });
}

/** Starts the service: where to route its namespace to, and how to stop it. */
export async function startBackend() {
  const definition = loadSync("sockeye/edge/v1/edge.proto", { includeDirs: [CONTRACTS], arrays: true, keepCase: true, longs: String });
  const { sockeye } = loadPackageDefinition(definition);
  const links = new Set();
  const server = new Server();
  server.addService(sockeye.edge.v1.EdgeLink.service, { Attach: (stream) => attach(stream, links) });
  const port = await new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return { namespace: NAMESPACE, url: `http://127.0.0.1:${port}`, stop: () => server.forceShutdown() };
}
