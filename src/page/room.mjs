// Knows one room: its messages in the order of the log, its people, who types. Touches neither network nor page.

/** Messages kept. The log has the rest. */
const MESSAGE_COUNT_MAX = 500;
/** For how long one sign of typing counts. */
const TYPING_MS = 6_000;
/** Who a message without a user is from. */
const SERVICE = { id: "service", name: "Service" };

export class Room {
  name;
  isJoined = false;
  /** While the gateway is asked for the room, and whether the answer comes too late already. */
  isEntering = false;
  mustEnterAgain = false;
  unreadCount = 0;
  hasEarlier = false;
  /** Where the log was when we last heard of it, or `null`: what a reconnect catches up from. */
  position = null;
  /** What the log holds, oldest first. */
  messages = [];
  /** What was written here and is not in the log yet, as far as we know. */
  pending = [];
  /** User id → profile; empty where they are too many to be listed. */
  people = new Map();
  peopleCount = 0;

  /** Positions of `messages`. */
  #known = new Set();
  /** User id → until when the user counts as typing, and under which profile. */
  #typing = new Map();
  /** Messages heard while the past is being asked for; `null` at other times. */
  #held = null;

  constructor(name) {
    this.name = name;
  }

  /** Live messages wait from here on, so that what comes before them can be put before them. */
  hold() {
    this.#held ??= [];
  }

  /** Takes in what was missed, and after it what waited. */
  release(myId, missed = []) {
    const messages = [...missed, ...(this.#held ?? [])];
    this.#held = null;
    for (const message of messages) this.accept(message, myId);
  }

  /** Takes in a message of the log. Returns whether it is a new one that can be shown. */
  accept(message, myId) {
    if (this.#held) {
      this.#held.push(message);
      return false;
    }
    message = withUser(message);
    this.#settle(message, myId);
    if (this.#known.has(message.position)) {
      this.#complete(message);
      return false;
    }
    this.#known.add(message.position);
    this.position = message.position;
    if (!isShown(message)) return false;
    this.messages.push(message);
    this.#typing.delete(message.user.id);
    if (this.messages.length > MESSAGE_COUNT_MAX) {
      this.#known.delete(this.messages.shift().position);
      this.hasEarlier = true;
    }
    return true;
  }

  /** Starts over from the newest messages of the log, as after a gap. */
  restart(messages, hasEarlier, joinedAt, myId) {
    for (const message of messages) this.#settle(message, myId);
    this.messages = messages.filter(isShown).map(withUser);
    this.#known = new Set(messages.map((message) => message.position));
    this.hasEarlier = hasEarlier;
    this.position = messages.at(-1)?.position ?? joinedAt;
  }

  /** Takes in what lies before the oldest message. */
  prepend(messages, hasEarlier) {
    const unknown = messages.filter((message) => !this.#known.has(message.position));
    for (const message of unknown) this.#known.add(message.position);
    this.messages = [...unknown.filter(isShown).map(withUser), ...this.messages];
    this.hasEarlier = hasEarlier;
  }

  write(text) {
    const message = { id: newId(), text, at: Date.now(), failure: null };
    this.pending.push(message);
    return message;
  }

  /** The log has what was written here. Its live copy comes before this answer, but what if it did not? */
  acknowledged(id, { position, at }, user) {
    const written = this.pending.find((message) => message.id === id);
    this.discard(id);
    if (!written || this.#held || this.#known.has(position)) return;
    this.#known.add(position);
    this.messages.push({ id, position, at, user, text: written.text });
  }

  discard(id) {
    this.pending = this.pending.filter((message) => message.id !== id);
  }

  /** Takes in who is there, or with `more` how many are. */
  setPeople({ members, users = members, count = users.length, more = false }) {
    const listed = more ? [] : users;
    this.people = new Map(listed.map((profile) => [profile.id, profile]));
    this.peopleCount = count;
    if (more) return;
    for (const id of this.#typing.keys()) if (!this.people.has(id)) this.#typing.delete(id);
  }

  peopleChanged({ joined = [], left = [], users = null, count, more = false }) {
    if (users !== null || more) return this.setPeople({ users: users ?? [], count, more });
    this.peopleCount = count;
    for (const profile of joined) this.people.set(profile.id, profile);
    for (const { id } of left) {
      this.people.delete(id);
      this.#typing.delete(id);
    }
  }

  typingChanged({ user, typing }, now) {
    if (typing) this.#typing.set(user.id, { user, until: now + TYPING_MS });
    else this.#typing.delete(user.id);
  }

  /** Returns the profiles of those who type now. */
  typists(now) {
    for (const [id, { until }] of this.#typing) if (until <= now) this.#typing.delete(id);
    return [...this.#typing.values()].map(({ user }) => user);
  }

  /** What stands in the log is no longer pending. */
  #settle(message, myId) {
    if (message.user?.id === myId) this.discard(message.id);
  }

  /** A second look at a message can know more of it than the first. */
  #complete(message) {
    const shown = message.trace && this.messages.find(({ position }) => position === message.position);
    if (shown) shown.trace ??= message.trace;
  }
}

/** The log also holds other events; they count for the position only. */
function isShown({ event = "message", text }) {
  return event === "message" && typeof text === "string";
}

/** Other services write into rooms too, and need not say for whom. */
function withUser(message) {
  const { user } = message;
  if (typeof user === "string") return { ...message, user: { id: user } };
  return user?.id ? message : { ...message, user: SERVICE };
}

/** `crypto.randomUUID` is missing on plain-HTTP pages that are not on this machine, such as on a phone beside it. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
