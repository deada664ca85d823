// A business service as a Socket.IO server sees its clients: sockets that enter, emit, ask and are asked.

import { serveEdges } from "../edge-link.mjs";
import { decode, encode } from "./values.mjs";

/** One client in one namespace. */
class Socket {
  #link;
  #everyLink;
  #handle;
  #ask;
  /** For whoever lets it in. */
  data = {};

  constructor({ link, everyLink, handle, ask }, { namespace, socket_id: id }) {
    this.#link = link;
    this.#everyLink = everyLink;
    this.#handle = handle;
    this.#ask = ask;
    Object.assign(this, { namespace, id });
  }

  accept() {
    this.#link.instruct({ accept: { socket: this.#handle } });
  }

  refuse(message, data) {
    const text = data === undefined ? undefined : Buffer.from(JSON.stringify(data));
    this.#link.instruct({ refuse: { socket: this.#handle, message, data: text } });
  }

  emit(event, ...args) {
    this.#link.instruct({ emit: { audience: this.#alone(), event, ...encode(args) } });
  }

  /** Emits, and calls `answered` with the arguments of the client's answer. */
  ask(answered, event, ...args) {
    this.#link.instruct({ emit: { audience: this.#alone(), event, ...encode(args), ask: { tag: this.#ask(answered) } } });
  }

  join(room) {
    this.#link.instruct({ join: { sockets: [this.#handle], room } });
  }

  leave(room) {
    this.#link.instruct({ leave: { sockets: [this.#handle], room } });
  }

  /** Emits to who is in a room, wherever they are connected; to itself only if `self` says so. */
  emitTo(room, { self }, event, ...args) {
    this.#everyLink((link) => {
      // A handle means something on its own link only.
      const except_sockets = link === this.#link && !self ? [this.#handle] : [];
      const audience = { namespace: this.namespace, rooms: [room], except_sockets };
      link.instruct({ emit: { audience, event, ...encode(args) } });
    });
  }

  /** Takes the socket out of its namespace, or ends its connection with all that is on it. */
  disconnect({ connection = false } = {}) {
    this.#link.instruct({ disconnect: { sockets: [this.#handle], close_connection: connection } });
  }

  answer(ackId, args) {
    this.#link.instruct({ acknowledge: { socket: this.#handle, ack_id: ackId, ...encode(args) } });
  }

  #alone() {
    return { namespace: this.namespace, sockets: [this.#handle] };
  }
}

/** What a client said of itself. */
function handshakeOf({ auth, query, headers, address } = {}) {
  const fields = {};
  // A name that is there twice has a list of values.
  for (const { name, value = "" } of query ?? []) fields[name] = name in fields ? [fields[name], value].flat() : value;
  return {
    auth: auth?.length > 0 ? JSON.parse(auth.toString()) : {},
    query: fields,
    headers: Object.fromEntries((headers ?? []).map(({ name, value = "" }) => [name, value])),
    address,
  };
}

/**
 * Starts the service for some namespaces, each with `enter(socket, handshake)`, which accepts or refuses, and
 * `event(socket, name, args, answer)`; `answer` is undefined where the client asks for none.
 */
export function startService(namespaces) {
  return serveEdges("127.0.0.1:0", (link, everyLink) => {
    const sockets = new Map();
    const answers = new Map();
    let asked = 0;
    const ask = (answered) => {
      answers.set(String((asked += 1)), answered);
      return asked;
    };

    const kinds = {
      opened(handle, opened) {
        const socket = new Socket({ link, everyLink, handle, ask }, opened);
        sockets.set(handle, socket);
        if (!opened.announced) namespaces[opened.namespace].enter(socket, handshakeOf(opened.handshake));
      },
      event(handle, { name = "", args, attachments, ack_id: ackId }) {
        const socket = sockets.get(handle);
        const answer = ackId === undefined ? undefined : (...values) => socket.answer(ackId, values);
        namespaces[socket.namespace].event(socket, name, decode(args, attachments), answer);
      },
      ack(_, { tag, args, attachments }) {
        answers.get(tag)?.(...decode(args, attachments));
      },
      ack_finished(_, { tag }) {
        answers.delete(tag);
      },
      closed(handle) {
        sockets.delete(handle);
      },
    };
    const handle = ({ socket, ...event }) => {
      try {
        for (const [kind, handle] of Object.entries(kinds)) if (event[kind]) handle(socket, event[kind]);
      } catch (error) {
        // What one client sends, such as nesting too deep for JSON.stringify(), must not end the service for all.
        console.error("event dropped:", error.message);
      }
    };
    return { handle, ended: () => sockets.clear() };
  });
}
