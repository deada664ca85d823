// The same chat as a NestJS gateway on its Socket.IO adapter.

import "reflect-metadata";
import type { Server as HttpServer } from "node:http";
import { Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { IoAdapter } from "@nestjs/platform-socket.io";
import {
  ConnectedSocket,
  MessageBody,
  type OnGatewayConnection,
  type OnGatewayInit,
  SubscribeMessage,
  WebSocketGateway,
  WebSocketServer,
} from "@nestjs/websockets";
import type { Namespace, Socket } from "socket.io";
import { PRESENCE_LIST_MAX, type User, announce, invalidPayload, isRoom, notAMember, port, verify } from "./chat.js";

interface Data {
  room?: unknown;
  text?: unknown;
  typing?: unknown;
  data?: unknown;
}

@WebSocketGateway({ namespace: "/chat", pingInterval: Number(process.env.BENCH_PING_INTERVAL_MS ?? 25000) })
class ChatGateway implements OnGatewayInit, OnGatewayConnection {
  @WebSocketServer()
  private readonly chat!: Namespace;

  private messages = 0;

  afterInit(chat: Namespace): void {
    chat.use((socket, next) => {
      try {
        socket.data.user = verify(socket.handshake.auth.token);
        next();
      } catch {
        next(new Error("Unauthorized"));
      }
    });
  }

  handleConnection(socket: Socket): void {
    // The rooms are still known in `disconnecting`, and not in Nest's own hook.
    socket.on("disconnecting", () => {
      for (const room of socket.rooms) {
        if (room !== socket.id) this.tellPresence(socket, room, { joined: [], left: [socket.data.user] });
      }
    });
  }

  @SubscribeMessage("join")
  join(@ConnectedSocket() socket: Socket, @MessageBody() { room }: Data): unknown {
    if (!isRoom(room)) return invalidPayload;
    socket.join(room);
    return { room, count: this.tellPresence(socket, room, { joined: [socket.data.user], left: [] }) };
  }

  @SubscribeMessage("leave")
  leave(@ConnectedSocket() socket: Socket, @MessageBody() { room }: Data): unknown {
    if (!isRoom(room)) return invalidPayload;
    socket.leave(room);
    this.tellPresence(socket, room, { joined: [], left: [socket.data.user] });
    return { room };
  }

  @SubscribeMessage("message")
  message(@ConnectedSocket() socket: Socket, @MessageBody() { room, text }: Data): unknown {
    if (!isRoom(room) || typeof text !== "string") return invalidPayload;
    if (!socket.rooms.has(room)) return notAMember;
    const id = String(++this.messages);
    const at = Date.now();
    this.chat.to(room).emit("message", { room, id, user: socket.data.user, text, at });
    return { id, at };
  }

  @SubscribeMessage("typing")
  typing(@ConnectedSocket() socket: Socket, @MessageBody() { room, typing }: Data): unknown {
    if (!isRoom(room) || typeof typing !== "boolean") return invalidPayload;
    if (!socket.rooms.has(room)) return notAMember;
    socket.volatile.to(room).emit("typing", { room, user: socket.data.user, typing });
    return {};
  }

  @SubscribeMessage("blob")
  blob(@ConnectedSocket() socket: Socket, @MessageBody() { room, data }: Data): unknown {
    if (!isRoom(room) || typeof data !== "string") return invalidPayload;
    if (!socket.rooms.has(room)) return notAMember;
    this.chat.to(room).emit("blob", { room, user: socket.data.user, data });
    return {};
  }

  @SubscribeMessage("echo")
  echo(@MessageBody() { data }: Data): unknown {
    return typeof data === "string" ? {} : invalidPayload;
  }

  private tellPresence(socket: Socket, room: string, change: { joined: User[]; left: User[] }): number {
    const count = this.chat.adapter.rooms.get(room)?.size ?? 0;
    if (count <= PRESENCE_LIST_MAX) socket.to(room).emit("presence", { room, ...change, count });
    return count;
  }
}

@Module({ providers: [ChatGateway] })
class ChatModule {}

const app = await NestFactory.create(ChatModule, { logger: ["error", "warn"] });
app.useWebSocketAdapter(new IoAdapter(app));
await app.init();
const http: HttpServer = app.getHttpServer();
http.listen(port, "127.0.0.1", 1024, () => announce(http.address()));
