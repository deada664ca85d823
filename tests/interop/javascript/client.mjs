// Does with a socket.io-client what it is told, and reports what it sees. Runs in Node and in a page.

import { read, write } from "./bytes.mjs";

/** Returns what carries out commands. `report` takes one record at a time. */
export function createClient(io, report) {
  const sockets = new Map();

  const commands = {
    connect({ socket: name, url, namespace, token, transports }) {
      const reconnection = { reconnectionDelay: 50, reconnectionDelayMax: 500 };
      const socket = io(`${url}${namespace}`, { forceNew: true, transports, auth: { token }, ...reconnection });
      sockets.set(name, socket);
      watch(socket, (record) => report({ socket: name, ...record }));
    },
    emit({ socket, event, args }) {
      sockets.get(socket).emit(event, ...read(args));
    },
    ask({ socket, event, args, id }) {
      sockets.get(socket).emit(event, ...read(args), (...answer) => report({ socket, saw: "answer", id, args: write(answer) }));
    },
    close({ socket }) {
      sockets.get(socket).close();
    },
  };
  return ({ do: command, ...rest }) => commands[command](rest);
}

function watch(socket, report) {
  socket.on("connect", () => report({ saw: "connected" }));
  socket.on("disconnect", () => report({ saw: "disconnected" }));
  socket.on("connect_error", (error) => {
    // The others are of the network, and the client tries again.
    if (error.type !== "TransportError") report({ saw: "refused", message: error.message, data: error.data });
  });
  socket.onAny((event, ...args) => {
    const answer = typeof args.at(-1) === "function" ? args.pop() : undefined;
    report({ saw: "event", event, args: write(args) });
    answer?.("answer", ...args);
  });
}
