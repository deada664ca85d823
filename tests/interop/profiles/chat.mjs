// A small chat that says of each thing a client can do what comes of it, as a NestJS gateway would.

import { createHmac, timingSafeEqual } from "node:crypto";

const SECRET = process.env.JWT_SECRET ?? "conformance-secret-0123456789abcdef";

/** A token that this service takes. */
export function chatToken(sub, { lifetimeSeconds = 600 } = {}) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + lifetimeSeconds;
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub, exp })}`;
  return `${signed}.${signature(signed).toString("base64url")}`;
}

const signature = (signed) => createHmac("sha256", SECRET).update(signed).digest();

/** Whose token it is; undefined if it is none, or no longer. */
function subject(token) {
  if (typeof token !== "string" || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return undefined;
  const [header, claims, signed] = token.split(".").map((part) => Buffer.from(part, "base64url"));
  const expected = signature(token.slice(0, token.lastIndexOf(".")));
  if (signed.length !== expected.length || !timingSafeEqual(signed, expected)) return undefined;
  const { sub, exp } = JSON.parse(claims);
  return JSON.parse(header).alg === "HS256" && exp * 1000 > Date.now() ? sub : undefined;
}

/** What a client may be told of what went wrong. */
class ChatError extends Error {
  constructor(shown) {
    super("chat error");
    this.shown = shown;
  }
}

/** Each yields what it answers: an object with `event` and `data` is an event of its own, all else is the ack. */
const handlers = {
  *join(socket, { room }) {
    socket.join(room);
    yield { ok: true, room };
  },
  *leave(socket, { room }) {
    socket.leave(room);
    yield { ok: true, room };
  },
  *message(socket, { room, body }) {
    socket.emitTo(room, { self: true }, "message", { room, from: socket.data.sub, body });
    yield { ok: true };
  },
  *others(socket, { room, body }) {
    socket.emitTo(room, { self: false }, "message", { room, from: socket.data.sub, body });
    yield { ok: true };
  },
  *echo(_, data) {
    yield data;
  },
  *reply(_, data) {
    yield { event: "reply", data };
  },
  *blob(_, data) {
    yield { event: "blob", data };
  },
  *fail() {
    throw new ChatError("nope");
  },
  *failobj() {
    throw new ChatError({ code: 7, reason: "obj" });
  },
  *crash() {
    throw new Error("crashed");
  },
  *nothing() {},
  *stream() {
    yield { event: "tick", data: 1 };
    yield { event: "tick", data: 2 };
  },
  *streamack() {
    yield 1;
    yield 2;
  },
  *kick(socket) {
    socket.disconnect();
  },
  *drop(socket) {
    socket.disconnect({ connection: true });
  },
};

/** One argument is as it is, several are a list. */
const dataOf = (args) => (args.length > 1 ? args : args[0]);

function event(socket, name, args, answer) {
  if (!Object.hasOwn(handlers, name)) return;
  const data = dataOf(args);
  let acknowledge = answer;
  try {
    for (const value of handlers[name](socket, data)) {
      if (value?.event) {
        socket.emit(value.event, value.data);
      } else if (value !== undefined && value !== null) {
        acknowledge?.(value);
        acknowledge = undefined;
      }
    }
  } catch (error) {
    if (error instanceof RangeError) throw error;
    const { shown = "Internal server error" } = error;
    const cause = { pattern: name, data };
    socket.emit("exception", typeof shown === "string" ? { status: "error", message: shown, cause } : shown);
  }
}

/** `refuse` is how somebody without a token is refused: by "disconnect" once they are in, or by "error" at the entrance. */
export const chat = ({ refuse = "disconnect" } = {}) => ({
  edge: ["--edge-cors-origin=*", "--edge-connect-timeout=45s"],
  namespaces: {
    "/": { enter: (socket) => socket.accept(), event() {} },
    "/chat": {
      enter(socket, { auth }) {
        const sub = subject(auth.token);
        if (sub === undefined && refuse === "error") return socket.refuse("Unauthorized", { code: "E_AUTH" });
        socket.accept();
        if (sub === undefined) return socket.disconnect();
        socket.data = { sub };
        socket.emit("welcome", { sub, id: socket.id });
      },
      event,
    },
  },
});
