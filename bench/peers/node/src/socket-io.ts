// A chat on plain Socket.IO: the rooms, events and checks of the chat service, without a log.

import { createServer } from "node:http";
import { Server, type Namespace, type Socket } from "socket.io";
import { PRESENCE_LIST_MAX, type User, announce, invalidPayload, isRoom, notAMember, port, verify } from "./chat.js";

type Ack = ((answer: unknown) => void) | undefined;

const http = createServer();
const io = new Server(http, { pingInterval: Number(process.env.BENCH_PING_INTERVAL_MS ?? 25000) });
const chat: Namespace = io.of("/chat");
let messages = 0;

chat.use((socket, next) => {
  try {
    socket.data.user = verify(socket.handshake.auth.token);
    next();
  } catch {
    next(new Error("Unauthorized"));
  }
});

chat.on("connection", (socket: Socket) => {
  const user: User = socket.data.user;

  const tellPresence = (room: string, change: { joined: User[]; left: User[] }) => {
    const count = chat.adapter.rooms.get(room)?.size ?? 0;
    if (count <= PRESENCE_LIST_MAX) socket.to(room).emit("presence", { room, ...change, count });
    return count;
  };

  socket.on("join", (data: { room?: unknown } | undefined, ack: Ack) => {
    const room = data?.room;
    if (!isRoom(room)) return ack?.(invalidPayload);
    socket.join(room);
    ack?.({ room, count: tellPresence(room, { joined: [user], left: [] }) });
  });

  socket.on("leave", (data: { room?: unknown } | undefined, ack: Ack) => {
    const room = data?.room;
    if (!isRoom(room)) return ack?.(invalidPayload);
    socket.leave(room);
    tellPresence(room, { joined: [], left: [user] });
    ack?.({ room });
  });

  socket.on("message", (data: { room?: unknown; text?: unknown } | undefined, ack: Ack) => {
    const { room, text } = data ?? {};
    if (!isRoom(room) || typeof text !== "string") return ack?.(invalidPayload);
    if (!socket.rooms.has(room)) return ack?.(notAMember);
    const id = String(++messages);
    const at = Date.now();
    chat.to(room).emit("message", { room, id, user, text, at });
    ack?.({ id, at });
  });

  socket.on("typing", (data: { room?: unknown; typing?: unknown } | undefined, ack: Ack) => {
    const { room, typing } = data ?? {};
    if (!isRoom(room) || typeof typing !== "boolean") return ack?.(invalidPayload);
    if (!socket.rooms.has(room)) return ack?.(notAMember);
    socket.volatile.to(room).emit("typing", { room, user, typing });
    ack?.({});
  });

  socket.on("blob", (data: { room?: unknown; data?: unknown } | undefined, ack: Ack) => {
    const { room, data: content } = data ?? {};
    if (!isRoom(room) || typeof content !== "string") return ack?.(invalidPayload);
    if (!socket.rooms.has(room)) return ack?.(notAMember);
    chat.to(room).emit("blob", { room, user, data: content });
    ack?.({});
  });

  socket.on("echo", (data: { data?: unknown } | undefined, ack: Ack) => {
    ack?.(typeof data?.data === "string" ? {} : invalidPayload);
  });

  socket.on("disconnecting", () => {
    for (const room of socket.rooms) {
      if (room !== socket.id) tellPresence(room, { joined: [], left: [user] });
    }
  });
});

http.listen(port, "127.0.0.1", 1024, () => announce(http.address()));
