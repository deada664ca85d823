// What both servers here share: who a client is, and what is said about it. What a room does is written twice, as each
// framework has it written.

import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import jwt from "jsonwebtoken";

/** Whether a room is told who comes and goes: as in the chat service, up to so many users. */
export const PRESENCE_LIST_MAX = 100;

/** A client's public profile. */
export interface User {
  id: string;
  name: string;
}

const secret = readFileSync(process.env.BENCH_SECRET_FILE!);

/** The user that a token names, or an error: signature, issuer, audience and expiry are checked. */
export function verify(token: unknown): User {
  const claims = jwt.verify(String(token), secret, { algorithms: ["HS256"], issuer: "sockeye", audience: "sockeye" });
  if (typeof claims === "string" || claims.sub === undefined) throw new Error("no subject");
  return { id: claims.sub, name: claims.name };
}

/** Whether this can be the name of a room. */
export function isRoom(room: unknown): room is string {
  return typeof room === "string" && room.length > 0 && room.length <= 200;
}

export const notAMember = { error: { code: "not_a_member", message: "join the room first", retryable: false } };
export const invalidPayload = { error: { code: "invalid_payload", message: "not what the event takes", retryable: false } };

/** The port that the bench wants this to listen on; 0 is any. */
export const port = Number(process.env.BENCH_LISTEN!.split(":")[1]);

/** Tells the bench where this server listens. */
export function announce(address: string | AddressInfo | null): void {
  if (address === null || typeof address === "string") throw new Error("no TCP port");
  console.log(`listening 127.0.0.1:${address.port}`);
}
