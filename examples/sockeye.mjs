// What the examples share: how a client gets in, and how another service publishes.

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { io } from "socket.io-client";

const url = process.env.SOCKEYE_URL ?? "http://127.0.0.1:3000";
const chatAddress = process.env.SOCKEYE_CHAT ?? "127.0.0.1:50052";
const protoDir = process.env.SOCKEYE_PROTO ?? new URL("../proto", import.meta.url).pathname;

/** Connects as a user of this name, with a token for development. `socket.subject` is what services call the user. */
export async function connect(name) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${url}/dev/token`, { method: "POST", headers, body: JSON.stringify({ name }) });
  const { token, subject } = await answer.json();
  const socket = io(`${url}/chat`, { forceNew: true, auth: { token } });
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("connect_error", reject));
  return Object.assign(socket, { subject });
}

/** Waits for the next event of this name. Ask before doing what causes it. */
export function next(socket, event) {
  return new Promise((resolve) => socket.once(event, resolve));
}

/** Publishes as a service does: `target` is `{ room }`, `{ user }` or `{ everyone: true }`, with an `idempotencyKey` or not. */
export function publish(target, event, data) {
  return call("publish", { ...target, event, data: JSON.stringify(data) });
}

/** The users who have not got what was published at a position, by subject: `place` is `{ room }` or `{ inboxOf }`. */
export async function usersBehind(place, position) {
  const { users } = await call("deliveredTo", { ...place, behind: position });
  return users.map(({ subject }) => subject);
}

function call(method, request) {
  const definition = loadSync("sockeye/chat/v1/chat.proto", { includeDirs: [protoDir], arrays: true });
  const { ChatService } = grpc.loadPackageDefinition(definition).sockeye.chat.v1;
  const service = new ChatService(chatAddress, grpc.credentials.createInsecure());
  return new Promise((resolve, reject) => {
    service[method](request, (error, response) => {
      service.close();
      if (error) reject(error);
      else resolve(response);
    });
  });
}
