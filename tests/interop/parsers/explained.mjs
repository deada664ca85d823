// The differences that are meant. Each has a row in docs/PROTOCOL.md that begins with its `name` and gives the reason.

import { parts } from "./packet-text.mjs";
import { numbersInPlaceholders } from "./placeholders.mjs";

const ACK_ID_MAX = 2n ** 64n - 1n;
const NAME_BYTES_MAX = 256;
const NAMESPACE_BYTES_MAX = 512;
const ATTACHMENTS_MAX = 10;

const weRefuse = ({ field, ours, theirs }, why) => field === "type" && ours.refused === why && !theirs.refused;

/** What our rule refuses in placeholders: all but the number of an attachment, in digits. */
function badNumbers({ text }) {
  const { count, payload } = parts(text);
  const numbers = numbersInPlaceholders(payload).map((written) => ({
    written,
    isInRange: Number(written) >= 0 && Number(written) < Number(count),
  }));
  return numbers.filter(({ written, isInRange }) => !isInRange || !/^[0-9]+$/.test(written));
}

/** ASCII that is written as an escape, written plainly. */
const unescaped = (text) =>
  text.replace(/\\u00([2-7][0-9a-fA-F])/g, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));

/**
 * Each entry tells whether it explains a difference. Its `field` is where it is: `packet` if one side refuses the Engine.IO
 * packet that the other takes, or takes it for another, `type` for one of Socket.IO, `sent` or `body` if what is sent for it
 * is not the same. `ours` and `theirs` are the answers; `text` is the packet, or the text that begins it.
 */
export const EXPLAINED = [
  {
    name: "white space where an ack id may stand",
    explains: ({ field, ours, theirs, text }) => {
      const { type, ackId, payload } = parts(text);
      if (/\s/.test(type)) return field === "type" && ours.refused === "UnknownType" && theirs.type === "connect";
      if (!/\s/.test(ackId) || theirs.refused) return false;
      // It counts as a 0 for them. For us it belongs to the payload: none before JSON, too much before nothing.
      if (field === "ackId") return ours.ackId === null && theirs.ackId === 0;
      if (field !== "type") return false;
      if (ours.refused === "BadPayload") return payload === "" || !/^[0-9]*[ \t\n\r]*$/.test(ackId);
      return ours.type === "unaddressedAck" && theirs.type === "ack" && !/^[0-9]/.test(ackId);
    },
  },
  {
    name: "attachments counted in another form",
    explains: (difference) =>
      weRefuse(difference, "BadAttachmentCount") && !/^[0-9]+$/.test(parts(difference.text).count),
  },
  {
    name: "binary packet without a payload",
    explains: (difference) =>
      weRefuse(difference, "BadPayload") &&
      parts(difference.text).type === "5" &&
      parts(difference.text).payload === "",
  },
  {
    name: "binary ack without an id",
    explains: (difference) =>
      weRefuse(difference, "BadAckId") &&
      parts(difference.text).type === "6" &&
      !/^[0-9]/.test(parts(difference.text).ackId),
  },
  {
    name: "ack id of more than 64 bits",
    explains: (difference) =>
      weRefuse(difference, "BadAckId") && BigInt(parts(difference.text).ackId.match(/^[0-9]*/)[0]) > ACK_ID_MAX,
  },
  {
    name: "ack id from 2^53 up to 64 bits",
    explains: ({ field, ours, theirs }) =>
      field === "ackId" && BigInt(ours.ackId ?? 0) > Number.MAX_SAFE_INTEGER && Number(ours.ackId) === theirs.ackId,
  },
  {
    name: "event name over 256 bytes",
    explains: (difference) => {
      if (!weRefuse(difference, "EventNameTooLong")) return false;
      const { payload } = parts(difference.text);
      const [name] = JSON.parse(payload);
      const bytes = typeof name === "string" ? Buffer.byteLength(name) : payload.match(/[-+.eE0-9]+/)[0].length;
      return bytes > NAME_BYTES_MAX;
    },
  },
  {
    name: "namespace over 512 bytes",
    explains: (difference) =>
      weRefuse(difference, "BadNamespace") && Buffer.byteLength(parts(difference.text).namespace) > NAMESPACE_BYTES_MAX,
  },
  {
    name: "event name with half a surrogate pair",
    explains: (difference) =>
      weRefuse(difference, "EventNameNotUnicode") && !JSON.parse(parts(difference.text).payload)[0].isWellFormed(),
  },
  {
    name: "number as an event name",
    explains: ({ field, ours, theirs }) =>
      field === "name" && typeof theirs.name === "number" && Number(ours.name) === theirs.name,
  },
  {
    name: "CONNECT_ERROR from a client",
    explains: (difference) =>
      weRefuse(difference, "ConnectErrorFromClient") && difference.theirs.type === "connectError",
  },
  {
    name: "placeholder for no attachment",
    // They look only when the last attachment is there, and refuse it then.
    explains: (difference) =>
      weRefuse(difference, "BadPlaceholder") && difference.refusedAtTheEnd()?.message === "illegal attachments",
  },
  {
    name: "placeholder with a number in another form",
    explains: (difference) =>
      weRefuse(difference, "BadPlaceholder") && badNumbers(difference).some(({ isInRange }) => isInRange),
  },
  {
    name: "placeholder where nobody reads it",
    // In another placeholder, or in a member that a later one of the same name replaces.
    explains: (difference) =>
      weRefuse(difference, "BadPlaceholder") && badNumbers(difference).some(({ isInRange }) => !isInRange),
  },
  {
    name: "JSON that is nested over 64 levels",
    explains: (difference) => weRefuse(difference, "TooDeep"),
  },
  {
    name: "base64 that is not canonical",
    explains: ({ field, ours, text }) => {
      if (field !== "packet" || ours.refused !== "NotBase64") return false;
      const base64 = text.slice(1).replaceAll("\n", "");
      return Buffer.from(base64, "base64").toString("base64") !== base64;
    },
  },
  {
    name: "body that is not UTF-8",
    explains: ({ field, ours, isUtf8 }) => field === "packet" && ours.refused === "NotUtf8" && !isUtf8,
  },
  {
    name: "member `__proto__` beside attachments",
    explains: ({ field, text }) => field === "sent" && unescaped(text).includes('"__proto__"'),
  },
  {
    name: "more than 10 attachments to send",
    explains: ({ field, ours, theirs }) =>
      field === "sent" && ours.refused === "TooManyAttachments" && theirs.messages.length - 1 > ATTACHMENTS_MAX,
  },
  {
    name: "U+001E in a namespace, on long-polling",
    explains: ({ field, ours, text }) =>
      field === "body" && ours.refused === "NotOnePacket" && parts(text).namespace.includes("\u001e"),
  },
];
