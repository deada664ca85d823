// Finds where our answer to a case differs from that of the reference parsers, and whether that is meant.

import { isUtf8 } from "node:buffer";

import { filledIn, isSame } from "./data.mjs";
import { EXPLAINED } from "./explained.mjs";
import { parts } from "./packet-text.mjs";
import { bodyOf, receivedByReference, referenceAnswer, sentByReference } from "./reference.mjs";

/**
 * Compares the answers to a case. Returns the names of what explains the differences, the first difference that nothing
 * explains, and how many packets both sides took or refused.
 */
export function compare(input, ours) {
  const outcome = { explained: [], taken: 0, refused: 0 };
  try {
    for (const difference of differences(input, ours, referenceAnswer(input), outcome)) {
      const explanation = EXPLAINED.find(({ explains }) => explains(difference));
      if (!explanation) return { ...outcome, unexplained: difference };
      outcome.explained.push(explanation.name);
    }
  } catch (error) {
    // What is taken by one side only may be more than JSON.parse() takes.
    return { ...outcome, unexplained: { field: `${error}`, ours } };
  }
  return outcome;
}

function* differences(input, ours, theirs, outcome) {
  if (input.engineIo !== undefined) yield* packetDifferences(ours, theirs, { text: input.engineIo }, outcome);
  else if (input.payload !== undefined) yield* payloadDifferences(input.payload, ours, theirs, outcome);
  else if (input.socketIo !== undefined) yield* sessionDifferences(input.socketIo, ours, theirs, outcome);
  else yield* encoderDifferences(ours, theirs);
}

/** Whether one side takes a packet for something else than the other. What both refuse is the same to both. */
function isOtherType(ours, theirs) {
  return Boolean(ours?.refused) !== Boolean(theirs?.refused) || (!ours?.refused && ours?.type !== theirs?.type);
}

function count(answer, outcome) {
  if (answer.refused) outcome.refused += 1;
  else outcome.taken += 1;
}

function* packetDifferences(ours, theirs, context, outcome) {
  if (isOtherType(ours, theirs)) return yield { field: "packet", ours, theirs, ...context };
  count(ours, outcome);
  // What follows a packet that carries nothing is ignored.
  if (ours.data !== undefined && ours.data !== theirs.data) yield { field: "data", ours, theirs, ...context };
}

function* payloadDifferences(payload, ours, theirs, outcome) {
  const packets = Buffer.from(payload, "base64").toString("latin1").split("\u001e");
  for (let index = 0; index < Math.max(ours.length, theirs.length); index += 1) {
    const bytes = Buffer.from(packets[index], "latin1");
    const context = { text: bytes.toString(), isUtf8: isUtf8(bytes) };
    if (!ours[index] || !theirs[index])
      return yield { field: "length", ours: ours[index], theirs: theirs[index], ...context };
    yield* packetDifferences(ours[index], theirs[index], context, outcome);
    // Whoever refused is at the end.
    if (ours[index].refused || theirs[index].refused) return;
  }
}

function* sessionDifferences(messages, ours, theirs, outcome) {
  if (ours.length !== messages.length) yield { field: "length", ours, theirs, text: "" };
  let text = "";
  for (const [index, message] of messages.entries()) {
    text = message.text ?? text;
    const [our, their] = [ours[index], theirs[index]];
    const context = { text, ours: our, theirs: their, refusedAtTheEnd: () => refusedAtTheEnd(text) };
    // From here on the two sides wait for different things.
    if (isOtherType(our, their)) return yield { field: "type", ...context };
    count(our, outcome);
    if (our.refused || our.type === "incomplete") continue;
    yield* contentDifferences(our, their, context);
    if (our.again) yield* againDifferences(our, their, context);
  }
}

/** What the reference decoder says when the text of a binary packet gets all its attachments. */
function refusedAtTheEnd(text) {
  const attachments = Array.from({ length: Number(parts(text).count) }, () => ({ binary: "" }));
  return referenceAnswer({ socketIo: [{ text }, ...attachments] }).find(({ refused }) => refused)?.refused;
}

function* contentDifferences(ours, theirs, context) {
  const differs = (field, our, their) => (isSame(our, their) ? [] : [{ ...context, field }]);
  yield* differs("namespace", ours.namespace, theirs.namespace);
  if (ours.type === "connect")
    yield* differs("auth", ours.auth === null ? undefined : JSON.parse(ours.auth), theirs.auth);
  if (ours.args === undefined) return;
  yield* differs("ackId", ours.ackId ?? undefined, theirs.ackId?.toString());
  yield* differs("name", ours.name, theirs.name);
  yield* differs("attachments", buffers(ours.attachments), theirs.attachments);
  yield* differs("args", elements(ours), theirs.args);
}

/** Our encoders beside theirs, with what was decoded as what a server sends. Its client must get what the other one wrote. */
function* againDifferences(ours, theirs, context) {
  let expected;
  let received;
  try {
    expected = sentByReference(ours, elements(ours));
    received = receivedByReference(ours.again.messages);
  } catch (error) {
    return yield { ...context, field: "again", ours: ours.again, theirs: { refused: error } };
  }
  const { messages, body } = ours.again;
  const data = ours.type === "event" ? [ours.name, ...theirs.args] : theirs.args;
  // Where an attachment has no placeholder or several, the reference encoder counts anew.
  const isSameCount = messages.length === expected.messages.length;
  const isSameHead = head(messages[0].text) === head(expected.messages[0].text);
  if (!isSame(received.data, data) || (isSameCount && !isSameHead))
    yield { ...context, field: "again", ours: ours.again, theirs: expected };
  const expectedBody = bodyOf(messages);
  if (body !== expectedBody) yield { ...context, field: "body", ours: body, theirs: expectedBody };
}

/** All but the JSON of an Engine.IO message. */
function head(message) {
  return message.slice(0, message.length - parts(message.slice(1)).payload.length);
}

function* encoderDifferences(ours, theirs) {
  const { text } = (ours.messages ?? theirs.messages)[0];
  if (ours.refused || !isSame(ours.messages, theirs.messages))
    return yield { field: "sent", ours, theirs, text: text.slice(1) };
  if (ours.body !== theirs.body) yield { field: "body", ours: ours.body, theirs: theirs.body, text: text.slice(1) };
}

const buffers = (attachments) => attachments.map((attachment) => Buffer.from(attachment, "base64"));
const elements = ({ args, attachments }) => {
  const parsed = JSON.parse(`[${args}]`);
  return attachments.length > 0 ? filledIn(parsed, buffers(attachments)) : parsed;
};
