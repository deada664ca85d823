// Puts the page together: who signs in, what is heard, what is done about it.

import { Connection, RequestError } from "./connection.mjs";
import { Room } from "./room.mjs";
import { View } from "./view.mjs";

const HISTORY_COUNT = 50;
const ISSUE_TIMEOUT_MS = 10_000;
/** A token with less life left than this is replaced before it is used. */
const TOKEN_LIFE_MS_MIN = 60_000;
/** How often "is typing" is said while someone types, and after which pause it is taken back. */
const TYPING_REPEAT_MS = 3_000;
const TYPING_PAUSE_MS = 4_000;
const TYPISTS_REFRESH_MS = 1_000;
/** A join that cannot be answered now is tried again after this, and up to as long again by chance. */
const REJOIN_MS = 1_500;

/** Kept for as long as this tab, so that a reload changes nothing. The token is not kept. */
const saved = JSON.parse(sessionStorage.getItem("sockeye") ?? "{}");

/** Room name → room, in the order in which they were joined. */
const rooms = new Map();
let active = null;
let me = null;
/** What was issued for a name: `{ token, expires_at }`. Or a token that was pasted: `{ token }`. */
let pass = null;
let typing = { saidAt: 0, pause: null };

const settings = await loadSettings();
const view = new View({
  signIn, signOut, join, leave, select, send, sendAgain, discard, typed, showEarlier,
  retry: () => connection.start(),
}, { issuesTokens: settings.issues_tokens, traceUi: settings.trace_ui });
const connection = new Connection({ token, stateChanged, heard, refused });

setInterval(() => { if (active) view.showTypists(active.typists(Date.now())); }, TYPISTS_REFRESH_MS);
document.addEventListener("visibilitychange", refreshPeople);
if (settings.issues_tokens && saved.name) signIn(saved.name);

async function loadSettings() {
  try {
    const response = await fetch("/settings.json");
    if (response.ok) return await response.json();
  } catch {
    // As good as a wrong answer.
  }
  return { issues_tokens: true, trace_ui: null };
}

// Signing in

async function signIn(name, pasted) {
  view.showSignIn({ isBusy: true });
  try {
    pass = settings.issues_tokens ? await issueToken(name) : { token: pasted, subject: subjectOf(pasted) };
  } catch (error) {
    view.showSignIn({ error });
    return;
  }
  me = { id: pass.subject, name: name || pass.subject };
  save({ name });
  view.showChat(me);
  for (const room of saved.rooms ?? []) rooms.set(room, new Room(room));
  select(rooms.get(saved.active) ?? [...rooms.values()][0] ?? null);
  connection.start();
}

function signOut() {
  connection.stop();
  rooms.clear();
  active = me = pass = null;
  save({ name: undefined, rooms: undefined, active: undefined });
  view.showRooms([], null);
  view.showRoom(null, null);
  view.showSignIn();
}

/** The connection asks for this before each attempt. */
async function token({ isFresh }) {
  const canReplace = settings.issues_tokens;
  if (isFresh && !canReplace) throw new RequestError({ code: "unauthorized", message: "The token is not accepted." });
  if (canReplace && (isFresh || pass.expires_at - Date.now() < TOKEN_LIFE_MS_MIN)) pass = await issueToken(me.name);
  return pass.token;
}

async function issueToken(name) {
  let response;
  try {
    response = await fetch("/dev/token", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name }),
      signal: AbortSignal.timeout(ISSUE_TIMEOUT_MS),
    });
  } catch {
    throw new RequestError({ code: "connection_lost", message: "The gateway is out of reach.", retryable: true });
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new RequestError({ retryable: response.status >= 500, ...answer.error });
}

/** Reads whom a token speaks for, to know one's own messages. Whether it is true is for the gateway to say. */
function subjectOf(pasted) {
  try {
    const claims = pasted.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(claims), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)).sub ?? "me";
  } catch {
    return "me";
  }
}

// The connection

function stateChanged(state) {
  view.showState(state);
  if (state !== "connected") {
    for (const room of rooms.values()) room.isJoined = false;
    showRooms();
    return;
  }
  for (const room of rooms.values()) enter(room);
}

/** There will be no further attempt by itself. */
function refused(error) {
  if (error.code === "unauthorized") {
    signOut();
    view.showSignIn({ error });
    return;
  }
  view.showState("offline", { canRetry: true });
  view.showNotice(error);
}

function heard(event, data) {
  const room = rooms.get(data?.room);
  if (event === "exception") {
    if (room && data.code === "gap") enter(room);
    else view.showNotice(new RequestError(data));
  }
  if (!room) return;
  if (event === "message") {
    const isNew = room.accept(data, me.id);
    if (isNew && (room !== active || document.hidden) && data.user?.id !== me.id) {
      room.unreadCount += 1;
      showRooms();
    }
    if (room === active) {
      view.showMessages(room, me);
      view.showTypists(room.typists(Date.now()));
    }
  } else if (event === "presence") {
    room.peopleChanged(data);
    if (room === active) view.showPeople(room, me);
  } else if (event === "typing" && data.user.id !== me.id) {
    room.typingChanged(data, Date.now());
    if (room === active) view.showTypists(room.typists(Date.now()));
  }
}

/** A tab that was asleep may have missed that its connection died. The question finds out. */
async function refreshPeople() {
  if (document.hidden || !active) return;
  const room = active;
  markRead(room);
  if (!room.isJoined) return;
  try {
    room.setPeople(await connection.ask("presence", { room: room.name }));
    if (room === active) view.showPeople(room, me);
  } catch {
    // Whatever was wrong with the connection is found by now, and shown.
  }
}

// Rooms

function join(name) {
  if (name === "") return;
  const room = rooms.get(name) ?? new Room(name);
  if (!rooms.has(name)) {
    rooms.set(name, room);
    if (connection.isConnected) enter(room);
  }
  select(room);
}

/** Joins a room at the gateway, for the first time or again, and catches up with what was missed. */
async function enter(room) {
  if (room.isEntering) {
    room.mustEnterAgain = true;
    return;
  }
  room.isEntering = true;
  room.hold();
  try {
    const since = room.position ?? undefined;
    const joined = await connection.ask("join", { room: room.name, since });
    room.setPeople(joined);
    room.isJoined = true;
    if (joined.recovered) {
      room.release(me.id, joined.messages);
    } else {
      const past = await connection.ask("history", { room: room.name, limit: HISTORY_COUNT });
      room.restart(past.messages, past.more, joined.position, me.id);
    }
    for (const message of room.pending) if (!message.failure) deliver(room, message);
  } catch (error) {
    notEntered(room, error);
  }
  room.release(me?.id);
  room.isEntering = false;
  showRooms();
  if (room === active) {
    view.showMessages(room, me);
    view.showPeople(room, me);
  }
  if (room.mustEnterAgain && connection.isConnected) {
    room.mustEnterAgain = false;
    enter(room);
  }
}

function notEntered(room, error) {
  // After a broken connection, the next one enters every room again.
  if (error.code === "connection_lost" || rooms.get(room.name) !== room) return;
  if (error.retryable) {
    setTimeout(() => {
      if (rooms.get(room.name) === room && connection.isConnected) enter(room);
    }, REJOIN_MS * (1 + Math.random()));
  } else {
    forget(room);
    view.showNotice(error);
  }
}

async function leave(room) {
  forget(room);
  try {
    await connection.ask("leave", { room: room.name });
  } catch (error) {
    if (error.code !== "connection_lost") view.showNotice(error);
  }
}

function forget(room) {
  rooms.delete(room.name);
  if (room === active) select([...rooms.values()].at(-1) ?? null);
  else showRooms();
}

function select(room) {
  if (active && active !== room) typed(false);
  active = room;
  if (room) room.unreadCount = 0;
  showRooms();
  view.showRoom(room, me);
}

function markRead(room) {
  room.unreadCount = 0;
  showRooms();
}

function showRooms() {
  view.showRooms([...rooms.values()], active);
  if (me) save({ rooms: [...rooms.keys()], active: active?.name });
}

async function showEarlier() {
  const room = active;
  const before = room.messages[0]?.position;
  try {
    const past = await connection.ask("history", { room: room.name, before, limit: HISTORY_COUNT });
    room.prepend(past.messages, past.more);
    if (room === active) view.showMessages(room, me);
  } catch (error) {
    view.showNotice(error);
  }
}

// Messages

function send(text) {
  typed(false);
  deliver(active, active.write(text));
  view.showMessages(active, me);
}

function sendAgain(message) {
  message.failure = null;
  deliver(active, message);
  view.showMessages(active, me);
}

function discard(message) {
  active.discard(message.id);
  view.showMessages(active, me);
}

/** Sends what was written. Doing so twice is harmless, since the message has an id. */
async function deliver(room, message) {
  // It goes as soon as the room is entered.
  if (!room.isJoined) return;
  const { id, text } = message;
  try {
    const answer = await connection.ask("message", { room: room.name, text, id });
    room.acknowledged(id, answer, me);
  } catch (error) {
    if (error.code === "connection_lost") return;
    message.failure = error;
  }
  if (room === active) view.showMessages(room, me);
}

function typed(isTyping) {
  clearTimeout(typing.pause);
  if (!active || (!isTyping && typing.saidAt === 0)) return;
  const now = Date.now();
  if (!isTyping || now - typing.saidAt >= TYPING_REPEAT_MS) {
    connection.tell("typing", { room: active.name, typing: isTyping });
    typing.saidAt = isTyping ? now : 0;
  }
  if (isTyping) typing.pause = setTimeout(() => typed(false), TYPING_PAUSE_MS);
}

function save(changes) {
  Object.assign(saved, changes);
  sessionStorage.setItem("sockeye", JSON.stringify(saved));
}
