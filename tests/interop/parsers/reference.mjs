// What the reference parsers make of a case, in the words of our answers.

import * as engineIo from "engine.io-parser";
import { Decoder, Encoder, PacketType } from "socket.io-parser";

import { filledIn } from "./data.mjs";

/** Answers a case. What was refused has the error in `refused`. */
export function referenceAnswer(input) {
  if (input.engineIo !== undefined) return engineIoPacket(input.engineIo);
  if (input.payload !== undefined) return engineIoPayload(Buffer.from(input.payload, "base64").toString());
  if (input.socketIo !== undefined) return socketIoMessages(input.socketIo);
  const [[type, outgoing]] = Object.entries(input.encode);
  return sent(packetToSend(type, outgoing));
}

function engineIoPacket(text) {
  const { type, data } = engineIo.decodePacket(text);
  if (type === "error") return { refused: new Error(data) };
  return Buffer.isBuffer(data) ? { type: "binary", data: data.toString("base64") } : { type, data: data ?? "" };
}

/** Ends where the reference server ends the session. */
function engineIoPayload(body) {
  const answers = [];
  for (const { type, data } of engineIo.decodePayload(body)) {
    const answer = meaning(type, data);
    answers.push(answer);
    if (answer.refused || answer.type === "closed") break;
  }
  return answers;
}

function meaning(type, data) {
  switch (type) {
    case "message":
      return Buffer.isBuffer(data) ? { type: "binary", data: data.toString("base64") } : { type, data: data ?? "" };
    case "pong":
      return { type };
    case "close":
      return { type: "closed" };
    case "ping":
      return { refused: new Error("invalid heartbeat direction") };
    case "error":
      return { refused: new Error(data) };
    default:
      return { type: "ignored" };
  }
}

/** One answer for each message. After one that is refused the client begins anew. */
function socketIoMessages(messages) {
  let session = new Session();
  return messages.map((message) => {
    const answer = session.take(message);
    if (answer.refused) session = new Session();
    return answer;
  });
}

class Session {
  #decoder = new Decoder();
  #attachments = [];
  #decoded;

  constructor() {
    this.#decoder.on("decoded", (packet) => (this.#decoded = packet));
  }

  take({ text, binary }) {
    this.#decoded = undefined;
    try {
      if (text === undefined) {
        this.#attachments.push(Buffer.from(binary, "base64"));
        this.#decoder.add(this.#attachments.at(-1));
      } else {
        this.#attachments = [];
        // As it comes out of its Engine.IO packet, which makes a difference for an empty one.
        this.#decoder.add(engineIo.decodePacket(`4${text}`).data);
      }
    } catch (error) {
      return { refused: error };
    }
    return this.#decoded ? answerOf(this.#decoded, [...this.#attachments]) : { type: "incomplete" };
  }
}

function answerOf({ type, nsp: namespace, id: ackId, data }, attachments) {
  switch (type) {
    case PacketType.CONNECT:
      return { type: "connect", namespace, auth: data };
    case PacketType.DISCONNECT:
      return { type: "disconnect", namespace };
    case PacketType.CONNECT_ERROR:
      return { type: "connectError", namespace };
    case PacketType.EVENT:
      if (data === undefined) return { type: "emptyEvent", namespace };
      return { type: "event", namespace, ackId, name: data[0], args: data.slice(1), attachments };
    default:
      if (ackId === undefined) return { type: "unaddressedAck", namespace };
      return { type: "ack", namespace, ackId, args: data ?? [], attachments };
  }
}

function packetToSend(type, { namespace: nsp, sid, message, data, name, args, ackId: id, attachments }) {
  const elements =
    args &&
    filledIn(
      JSON.parse(args),
      attachments.map((attachment) => Buffer.from(attachment, "base64")),
    );
  switch (type) {
    case "connect":
      return { type: PacketType.CONNECT, nsp, data: { sid } };
    case "connectError":
      return { type: PacketType.CONNECT_ERROR, nsp, data: { message, data: data && JSON.parse(data) } };
    case "disconnect":
      return { type: PacketType.DISCONNECT, nsp };
    case "event":
      return { type: PacketType.EVENT, nsp, id, data: [name, ...elements] };
    default:
      return { type: PacketType.ACK, nsp, id, data: elements };
  }
}

/** What the reference server sends for an event or an ack, given as an answer. */
export function sentByReference({ type, namespace, ackId, name }, elements) {
  const packet =
    type === "event" ? { type: PacketType.EVENT, data: [name, ...elements] } : { type: PacketType.ACK, data: elements };
  return sent({ ...packet, nsp: namespace, id: ackId ?? undefined });
}

/** Over WebSocket, each frame for itself, and on long-polling. */
function sent(packet) {
  const encoded = new Encoder().encode(packet);
  const messages = encoded.map((part) =>
    Buffer.isBuffer(part) ? { binary: part.toString("base64") } : { text: `4${part}` },
  );
  return { messages, body: bodyOf(messages) };
}

/** The body of the answer to a poll that carries these messages. */
export function bodyOf(messages) {
  const packets = messages.map(({ text, binary }) => ({
    type: "message",
    data: text?.slice(1) ?? Buffer.from(binary, "base64"),
  }));
  let body;
  engineIo.encodePayload(packets, (encoded) => (body = encoded));
  return body;
}

/** What a reference client makes of messages of a server. */
export function receivedByReference(messages) {
  const decoder = new Decoder();
  let received;
  decoder.on("decoded", (packet) => (received = packet));
  for (const { text, binary } of messages) decoder.add(text?.slice(1) ?? Buffer.from(binary, "base64"));
  return received;
}
