// A business service in JavaScript with one namespace.

import { serveEdges } from "./edge-link.mjs";
import { Ends } from "./ends.mjs";

const NAMESPACE = "/game";
/** No test waits for its end. */
const ASK_TIMEOUT_MS = 60_000;

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

/** Notes which sockets there are, for a stream of `Ends`. */
function note(stream, { socket, opened, closed, all_announced: allAnnounced }, instructions) {
  if (opened && !instructions.some(({ refuse }) => refuse)) stream.opened(socket, opened);
  if (closed) stream.closed(socket, closed.reason);
  if (allAnnounced) stream.allAnnounced();
}

/** Starts the service: where to route its namespace to, and how to stop it. `ends` are those of an earlier life, if there was one. */
export async function startBackend({ address = "127.0.0.1:0", ends = new Ends() } = {}) {
  ends.beginLeases();
  const service = await serveEdges(address, (link, everyLink, linkId) => {
    const askers = new Map();
    const toAll = (instruction) => everyLink((one) => one.instruct(instruction));
    const stream = ends.attach(linkId);
    const handle = (event) => {
      const instructions = instructionsFor(event, askers, toAll);
      note(stream, event, instructions);
      instructions.forEach((instruction) => link.instruct(instruction));
    };
    return { handle, ended: stream.ended };
  });
  return { namespace: NAMESPACE, ends, ...service };
}
