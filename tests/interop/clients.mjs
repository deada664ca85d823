// The stock socket.io-client and a plain WebSocket, with waiting that has a deadline.

import { io } from "socket.io-client";
import WebSocket from "ws";

import { DEADLINE_MS, token } from "./system.mjs";

/** Connects to a namespace, as `subject` unless `options` bring other credentials. */
export function connect(system, subject, { namespace = "/chat", ...options } = {}) {
  return io(`${system.url}${namespace}`, {
    transports: ["websocket"],
    forceNew: true,
    auth: { token: token(subject) },
    reconnectionDelay: 50,
    reconnectionDelayMax: 500,
    ...options,
  });
}

/** Connects and waits until it is let in. */
export async function connected(system, subject, options) {
  const socket = connect(system, subject, options);
  await next(socket, "connect");
  return socket;
}

/** The arguments of the next event of an emitter. Ask for it before doing what causes it. */
export function next(emitter, event) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`waited ${DEADLINE_MS} ms in vain for ${event}`)), DEADLINE_MS);
    emitter.once(event, (...values) => {
      clearTimeout(timer);
      resolve(values);
    });
  });
}

/** Asks and waits for the one value of the answer. */
export function ask(socket, event, ...data) {
  return socket.timeout(DEADLINE_MS).emitWithAck(event, ...data);
}

/** A plain JSON WebSocket that is let in: `heard` holds what arrived, in order. */
export async function plainWebSocket(system, subject) {
  const socket = new WebSocket(`ws://${system.address}/ws`, { headers: { authorization: `Bearer ${token(subject)}` } });
  const heard = [];
  socket.on("message", (data) => heard.push(JSON.parse(data.toString())));
  await next(socket, "message");
  return { socket, heard, send: (message) => socket.send(JSON.stringify(message)) };
}

/**
 * Whether the client's engine, told to close, closes at once. In the middle of an upgrade it closes within the answer to a
 * poll; the client keeps the events of that answer without having noted their offsets, and is given them again.
 */
export const canBeCut = (socket) => socket.connected && !socket.io.engine.upgrading;

/** The number of the edge that has a client's session: the first two bytes of its id. */
export const owner = (socket) => Buffer.from(socket.io.engine.id, "base64url").readUInt16BE(0);
