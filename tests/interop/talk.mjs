// Has many clients talk at once, and reads what a room's log has of it.

const TICK_MS = 20;
/** A member whose answers are late waits, as a client should. */
const UNDER_WAY_MAX = 64;

/** Has everyone talk, at this rate together, until it is told to stop. */
export function talk(members, messagesPerSecond) {
  let due = 0;
  let turn = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    due = Math.min(due + ((now - last) * messagesPerSecond) / 1000, messagesPerSecond);
    last = now;
    for (; due >= 1; due -= 1) {
      const member = members[(turn += 1) % members.length];
      if (member.underWay < UNDER_WAY_MAX) member.say();
    }
  }, TICK_MS);
  return () => clearInterval(timer);
}

export const sum = (members, count) => members.reduce((total, member) => total + count(member), 0);

/** The value that this part of the values does not exceed, in whole numbers. */
export function share(values, part) {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.floor((sorted.length - 1) * part)]);
}

/** The texts of all that a room's log has, oldest first; `history` asks for a page of it. */
export async function logged(history) {
  const pages = [];
  let before;
  for (;;) {
    const { messages, more } = await history({ limit: 1000, ...(before && { before }) });
    pages.unshift(messages.map(({ text }) => text));
    if (!more) return pages.flat();
    before = messages[0].position;
  }
}
