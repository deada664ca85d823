// Shows the state on the page. Whatever others wrote is set as text and never as markup.

/** Messages of one user within this time stand together under one name. */
const TOGETHER_MS = 5 * 60_000;
const NOTICE_MS = 10_000;
/** How near to its end a list counts as read to the end, in pixels. */
const NEAR = 80;

const byId = (id) => document.getElementById(id);

const STATES = { connected: "Connected", connecting: "Connecting …", offline: "Offline" };

/** What to tell people. Codes that are not here come with words of their own. */
const WORDS = {
  rate_limited: "That was too fast. Wait a moment.",
  unavailable: "The chat is not available at the moment.",
  timeout: "No answer came in time.",
  connection_lost: "The connection broke.",
  payload_too_large: "That is too long.",
  not_a_member: "You are not in this room.",
  room_limit: "You are in as many rooms as you may be.",
};

export const inWords = (error) => WORDS[error.code] ?? error.message ?? "Something went wrong.";

const nameOf = (profile) => profile.name || profile.id;

export class View {
  #handlers;
  #traceUi;
  #shownRoom = null;
  #items = new Map();
  #noticeTimer = null;

  /** `handlers` are called when the user does something: see the names below. */
  constructor(handlers, { issuesTokens, traceUi }) {
    this.#handlers = handlers;
    this.#traceUi = traceUi;
    if (!issuesTokens) askForToken();
    byId("enter").disabled = false;
    onSubmit("sign-in-form", () => handlers.signIn(byId("name").value.trim(), byId("token").value.trim()));
    onSubmit("join-form", () => handlers.join(byId("room").value.trim()));
    onSubmit("composer", () => this.#send());
    byId("text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    byId("text").addEventListener("input", () => handlers.typed(byId("text").value !== ""));
    byId("sign-out").addEventListener("click", handlers.signOut);
    byId("retry").addEventListener("click", handlers.retry);
    byId("earlier").addEventListener("click", handlers.showEarlier);
    byId("notice-close").addEventListener("click", () => { byId("notice").hidden = true; });
    byId("newest").addEventListener("click", () => this.#toEnd(true));
    byId("scroll").addEventListener("scroll", () => { if (isAtEnd()) byId("newest").hidden = true; });
  }

  showSignIn({ isBusy = false, error = null } = {}) {
    byId("chat").hidden = true;
    byId("sign-in").hidden = false;
    byId("enter").disabled = isBusy;
    byId("sign-in-error").hidden = !error;
    byId("sign-in-error").textContent = error ? inWords(error) : "";
  }

  showChat(me) {
    byId("sign-in").hidden = true;
    byId("chat").hidden = false;
    byId("enter").disabled = false;
    byId("token").value = "";
    byId("me").textContent = nameOf(me);
    byId("room").select();
  }

  showState(state, { canRetry = false } = {}) {
    byId("state").dataset.state = state;
    byId("state").textContent = STATES[state];
    byId("retry").hidden = !canRetry;
  }

  showNotice(error) {
    byId("notice-text").textContent = inWords(error);
    byId("notice").hidden = false;
    clearTimeout(this.#noticeTimer);
    this.#noticeTimer = setTimeout(() => { byId("notice").hidden = true; }, NOTICE_MS);
  }

  showRooms(rooms, active) {
    const focused = document.activeElement.closest("#rooms button");
    const [focusedRoom, focusedClass] = [focused?.closest("li").dataset.room, focused?.className];
    const items = rooms.map((room) => this.#roomItem(room, room === active));
    byId("rooms").replaceChildren(...items);
    const same = items.find((item) => item.dataset.room === focusedRoom);
    if (same) same.getElementsByClassName(focusedClass)[0].focus();

    const unreadCount = rooms.reduce((sum, room) => sum + room.unreadCount, 0);
    document.title = unreadCount > 0 ? `(${unreadCount}) Sockeye` : "Sockeye";
  }

  /** Shows a room, or that there is none. */
  showRoom(room, me) {
    byId("no-room").hidden = room !== null;
    byId("in-room").hidden = room === null;
    this.showPeople(room, me);
    this.showTypists([]);
    if (room === null) {
      this.#shownRoom = null;
      return;
    }
    byId("room-title").textContent = room.name;
    this.showMessages(room, me);
    byId("text").focus({ preventScroll: true });
  }

  showMessages(room, me) {
    const isOther = this.#shownRoom !== room;
    if (isOther) {
      this.#shownRoom = room;
      this.#items.clear();
      byId("messages").replaceChildren();
      byId("newest").hidden = true;
    }
    const wasAtEnd = isOther || isAtEnd();
    const lastBefore = byId("messages").lastElementChild;
    const heightBefore = byId("scroll").scrollHeight;
    const firstBefore = byId("messages").firstElementChild;

    byId("earlier").hidden = !room.hasEarlier;
    this.#arrange(room, me);

    const isLonger = lastBefore !== byId("messages").lastElementChild;
    const hasOlder = firstBefore !== byId("messages").firstElementChild;
    if (wasAtEnd) this.#toEnd(false);
    else if (hasOlder) byId("scroll").scrollTop += byId("scroll").scrollHeight - heightBefore;
    else if (isLonger) byId("newest").hidden = false;
  }

  showPeople(room, me) {
    const people = room ? [...room.people.values()] : [];
    people.sort((one, other) => (other.id === me?.id) - (one.id === me?.id) || nameOf(one).localeCompare(nameOf(other)));
    byId("people").replaceChildren(...people.map((profile) => personItem(profile, profile.id === me?.id)));
    byId("people-title").textContent = room ? `People · ${room.peopleCount}` : "People";
  }

  showTypists(profiles) {
    const names = profiles.map(nameOf);
    byId("typing").textContent =
      names.length === 0 ? ""
      : names.length === 1 ? `${names[0]} is typing …`
      : names.length === 2 ? `${names[0]} and ${names[1]} are typing …`
      : `${names.length} people are typing …`;
  }

  #send() {
    const text = byId("text").value.trim();
    if (text === "") return;
    byId("text").value = "";
    this.#handlers.send(text);
    this.#toEnd(false);
  }

  #toEnd(isSmooth) {
    byId("newest").hidden = true;
    byId("scroll").classList.toggle("smooth", isSmooth);
    byId("scroll").scrollTop = byId("scroll").scrollHeight;
  }

  /** Brings the list to the state of the room, and touches only what differs. */
  #arrange(room, me) {
    const list = byId("messages");
    const wanted = new Map();
    let previous = null;
    for (const message of room.messages) {
      const item = this.#messageItem(message.position, message, message.user);
      item.classList.toggle("continued", standsTogether(previous, message));
      wanted.set(message.position, item);
      previous = message;
    }
    for (const message of room.pending) {
      // The key is none that a position could be.
      const item = this.#messageItem(message, message, me);
      this.#showPending(item, message);
      wanted.set(message, item);
    }
    for (const [key, item] of this.#items) if (!wanted.has(key)) item.remove();
    this.#items = wanted;

    let next = list.firstElementChild;
    for (const item of wanted.values()) {
      if (item === next) next = next.nextElementSibling;
      else list.insertBefore(item, next);
    }
    while (next) {
      const surplus = next;
      next = next.nextElementSibling;
      surplus.remove();
    }
  }

  #messageItem(key, message, user) {
    const known = this.#items.get(key);
    const item = known ?? messageItem(message, user);
    if (this.#traceUi && isTraceId(message.trace) && !item.querySelector(".trace")) {
      item.append(traceLink(this.#traceUi, message.trace));
    }
    this.#items.set(key, item);
    return item;
  }

  #showPending(item, message) {
    item.classList.add("pending");
    item.querySelector(".failure")?.remove();
    item.classList.toggle("failed", message.failure !== null);
    if (!message.failure) return;
    const failure = element("p", "failure", `Not sent. ${inWords(message.failure)}`);
    failure.append(
      button("quiet again", "Try again", () => this.#handlers.sendAgain(message)),
      button("quiet discard", "Discard", () => this.#handlers.discard(message)),
    );
    item.append(failure);
  }

  #roomItem(room, isActive) {
    const item = element("li");
    item.dataset.room = room.name;
    item.classList.toggle("active", isActive);
    item.classList.toggle("waiting", !room.isJoined);
    const enter = button("enter-room", "", () => this.#handlers.select(room));
    enter.append(element("span", "room-name", room.name));
    if (isActive) enter.setAttribute("aria-current", "true");
    if (room.unreadCount > 0) {
      const unread = element("span", "unread", String(room.unreadCount));
      unread.setAttribute("aria-label", `${room.unreadCount} unread`);
      enter.append(unread);
    }
    const leave = button("leave", "×", () => this.#handlers.leave(room));
    leave.setAttribute("aria-label", `Leave ${room.name}`);
    leave.title = "Leave";
    item.append(enter, leave);
    return item;
  }
}

function askForToken() {
  byId("name-field").hidden = true;
  byId("name").disabled = true;
  byId("sign-in-warning").hidden = true;
  byId("token-field").hidden = false;
  byId("token").disabled = false;
  byId("sign-in-hint").textContent = "This gateway gives out no tokens. Paste one of yours to start chatting.";
}

function onSubmit(id, handle) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    handle();
  });
}

function isAtEnd() {
  const { scrollHeight, scrollTop, clientHeight } = byId("scroll");
  return scrollHeight - scrollTop - clientHeight < NEAR;
}

function standsTogether(previous, message) {
  return previous !== null && previous.user.id === message.user.id && message.at - previous.at < TOGETHER_MS;
}

function messageItem(message, user) {
  const item = element("li", "message");
  const head = element("div", "head");
  head.append(element("span", "user", nameOf(user)), timeElement(message.at));
  item.append(avatar(user), head, element("div", "text", message.text));
  return item;
}

function personItem(profile, isMe) {
  const item = element("li");
  item.dataset.user = profile.id;
  item.append(avatar(profile), element("span", "person-name", isMe ? `${nameOf(profile)} (you)` : nameOf(profile)));
  return item;
}

function avatar(profile) {
  const [initial] = nameOf(profile);
  const circle = element("span", "avatar", initial.toUpperCase());
  circle.setAttribute("aria-hidden", "true");
  circle.style.setProperty("--hue", hueOf(profile.id));
  return circle;
}

/** The same colour for the same user, everywhere. */
function hueOf(id) {
  let hash = 0;
  for (const character of id) hash = (hash * 31 + character.codePointAt(0)) % 3600;
  return hash / 10;
}

function timeElement(at) {
  const moment = new Date(at);
  const isToday = moment.toDateString() === new Date().toDateString();
  const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const shown = element("time", "time", isToday ? time : `${moment.toLocaleDateString()} ${time}`);
  shown.dateTime = moment.toISOString();
  shown.title = moment.toLocaleString();
  return shown;
}

const isTraceId = (text) => typeof text === "string" && /^[0-9a-f]{32}$/.test(text);

function traceLink(traceUi, traceId) {
  const link = element("a", "trace", "trace ↗");
  link.href = `${traceUi}/trace/${traceId}`;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  link.title = "Follow this message through the services";
  return link;
}

function button(className, text, onClick) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
