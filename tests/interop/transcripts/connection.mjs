// A client that knows Engine.IO and nothing above it: frames as they are written in transcripts.

import WebSocket from "ws";

import { next } from "../clients.mjs";
import { eventually } from "../system.mjs";

const BINARY = /^<(?:[0-9a-f]{2})*>$/;
const SEPARATOR = "\u001e";

const bytesOf = (frame) => Buffer.from(frame.slice(1, -1), "hex");
const frameOf = (bytes) => `<${Buffer.from(bytes).toString("hex")}>`;

/** A session over WebSocket. `heard` has the frames that have arrived, and `code` the close code once it is closed. */
export async function openWebSocket(system) {
  const socket = new WebSocket(`ws://${system.address}/socket.io/?EIO=4&transport=websocket`);
  const session = { heard: [], code: null };
  socket.on("message", (data, isBinary) => session.heard.push(isBinary ? frameOf(data) : data.toString()));
  socket.on("close", (code) => (session.code = code));
  await eventually("the session is open", () => session.heard.shift());
  return Object.assign(session, {
    send(frames) {
      for (const frame of frames) socket.send(BINARY.test(frame) ? bytesOf(frame) : frame);
    },
    /** Waits until the edge has read all that was sent. */
    async ping() {
      const pong = next(socket, "pong");
      socket.ping();
      await pong;
    },
    close: () => socket.terminate(),
  });
}

/**
 * A session on long-polling. It polls all the time; what is sent at once is one post. At the end `code` is
 * "polling" if a poll said so, or the status that it got.
 */
export async function openPolling(system) {
  const url = `${system.url}/socket.io/?EIO=4&transport=polling`;
  const stop = new AbortController();
  const opened = await (await fetch(url)).text();
  const own = `${url}&sid=${JSON.parse(opened.slice(1)).sid}`;
  const session = { heard: [], code: null };
  const poll = async () => {
    while (session.code === null) {
      const answer = await fetch(own, { signal: stop.signal });
      if (!answer.ok) return (session.code = answer.status);
      const frames = (await answer.text()).split(SEPARATOR);
      if (frames.includes("1")) session.code = "polling";
      session.heard.push(...frames.filter((frame) => frame !== "1" && frame !== "6").map(fromText));
    }
  };
  const polling = poll().catch(() => (session.code ??= "aborted"));
  return Object.assign(session, {
    async send(frames) {
      const body = frames.map((frame) => (BINARY.test(frame) ? `b${bytesOf(frame).toString("base64")}` : frame)).join(SEPARATOR);
      await fetch(own, { method: "POST", body });
    },
    async close() {
      stop.abort();
      await polling;
    },
  });
}

const fromText = (frame) => (frame.startsWith("b") ? frameOf(Buffer.from(frame.slice(1), "base64")) : frame);
