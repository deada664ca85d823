// Does with a socket.io-client what it is told, and reports what it sees. Runs in Node and in a page.

import { read, write } from "./bytes.mjs";

/** What differs between versions; here those from 3 on. */
const NEWER = {
  credentials: (token) => ({ auth: { token } }),
  bytes: (bytes) => bytes,
  watch(socket, report, heard) {
    socket.on("connect_error", (error) => {
      // The others are of the network, and the client tries again.
      if (error.type !== "TransportError") report({ saw: "refused", message: error.message, data: error.data });
    });
    socket.onAny((event, ...args) => heard(event, args, typeof args.at(-1) === "function" ? args.pop() : undefined));
  },
};

/** Version 2 has neither `auth` nor `onAny`, and takes arrays of bytes for objects. */
const VERSION_2 = {
  credentials: (token) => ({ query: { token } }),
  bytes: (bytes) => bytes.buffer,
  watch(socket, report, heard) {
    socket.on("error", (error) => {
      if (!(error instanceof Error)) report({ saw: "refused", data: error });
    });
    socket.onevent = ({ id, data: [event, ...args] }) => heard(event, args, id === undefined ? undefined : socket.ack(id));
  },
};

/** Returns what carries out commands. `report` takes one record at a time. */
export function createClient(io, report) {
  const { credentials, bytes, watch } = io.protocol < 5 ? VERSION_2 : NEWER;
  const sockets = new Map();

  const commands = {
    connect({ socket: name, url, namespace, token, transports }) {
      const reconnection = { reconnectionDelay: 50, reconnectionDelayMax: 500 };
      const socket = io(`${url}${namespace}`, { forceNew: true, transports, ...credentials(token), ...reconnection });
      sockets.set(name, socket);
      const tell = (record) => report({ socket: name, ...record });
      socket.on("connect", () => tell({ saw: "connected" }));
      socket.on("disconnect", () => tell({ saw: "disconnected" }));
      watch(socket, tell, (event, args, answer) => {
        tell({ saw: "event", event, args: write(args) });
        answer?.("answer", ...args);
      });
    },
    emit({ socket, event, args }) {
      sockets.get(socket).emit(event, ...read(args, bytes));
    },
    ask({ socket, event, args, id }) {
      sockets.get(socket).emit(event, ...read(args, bytes), (...answer) => report({ socket, saw: "answer", id, args: write(answer) }));
    },
    close({ socket }) {
      sockets.get(socket).close();
    },
  };
  return ({ do: command, ...rest }) => commands[command](rest);
}
