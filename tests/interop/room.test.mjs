// What the page knows of a room, without a browser: no gap, no double, one order.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Room } from "../../src/page/room.mjs";

const ME = { id: "ana", name: "Ana" };
const BOB = { id: "bob", name: "Bob" };

const logged = (position, text = position, user = BOB) => ({ room: "lobby", id: `id-${position}`, user, text, at: 1, position });
const texts = (room) => room.messages.map(({ text }) => text);

function roomWith(...positions) {
  const room = new Room("lobby");
  room.restart(positions.map((position) => logged(position)), false, "joined", ME.id);
  return room;
}

test("a room without a past is caught up with from where it was joined", () => {
  assert.equal(roomWith().position, "joined");
  assert.equal(roomWith("1", "2").position, "2");
});

test("live messages wait for what was missed, and none is shown twice", () => {
  const room = roomWith("1");

  room.hold();
  room.accept(logged("4"), ME.id);
  room.release(ME.id, [logged("2"), logged("3"), logged("4")]);
  room.accept(logged("4"), ME.id);
  room.accept(logged("5"), ME.id);

  assert.deepEqual(texts(room), ["1", "2", "3", "4", "5"]);
  assert.equal(room.position, "5");
});

test("after a gap the room starts over from the newest messages", () => {
  const room = roomWith("1", "2");

  room.hold();
  room.accept(logged("9"), ME.id);
  room.restart([logged("7"), logged("8"), logged("9")], true, "8", ME.id);
  room.release(ME.id);

  assert.deepEqual(texts(room), ["7", "8", "9"]);
  assert.equal(room.hasEarlier, true);
});

test("earlier messages go before the others", () => {
  const room = roomWith("3", "4");

  room.prepend([logged("1"), logged("2"), logged("3")], false);

  assert.deepEqual(texts(room), ["1", "2", "3", "4"]);
  assert.equal(room.position, "4");
});

test("what was written here is pending until the log has it, and then stands there once", () => {
  const room = roomWith("1");
  const written = room.write("hello");
  assert.deepEqual(texts(room), ["1"]);
  assert.deepEqual(room.pending.map(({ text }) => text), ["hello"]);

  room.accept({ ...logged("2", "hello", ME), id: written.id }, ME.id);
  room.acknowledged(written.id, { position: "2", at: 1 }, ME);

  assert.deepEqual(room.pending, []);
  assert.deepEqual(texts(room), ["1", "hello"]);
});

test("an acknowledgement that comes first does not hide the message or what lies before it", () => {
  const room = roomWith("1");
  const written = room.write("hello");

  room.acknowledged(written.id, { position: "3", at: 1 }, ME);

  assert.deepEqual(texts(room), ["1", "hello"]);
  assert.equal(room.position, "1", "a reconnect asks for what came before it");
});

test("an id of one's own in the hands of another user settles nothing", () => {
  const room = roomWith();
  const written = room.write("hello");

  room.accept({ ...logged("1", "mine!", BOB), id: written.id }, ME.id);

  assert.equal(room.pending.length, 1);
});

test("other events of the log move the position and are not shown", () => {
  const room = roomWith("1");

  assert.equal(room.accept({ ...logged("2"), event: "poll" }, ME.id), false);

  assert.deepEqual(texts(room), ["1"]);
  assert.equal(room.position, "2");
});

test("messages of services have a name as well", () => {
  const room = roomWith();

  room.accept({ ...logged("1"), user: undefined }, ME.id);
  room.accept({ ...logged("2"), user: "cron" }, ME.id);

  assert.deepEqual(room.messages.map(({ user }) => user.name ?? user.id), ["Service", "cron"]);
});

test("the oldest of very many messages go", () => {
  const room = roomWith();

  for (let position = 0; position < 600; position += 1) room.accept(logged(String(position)), ME.id);

  assert.equal(room.messages.length, 500);
  assert.equal(texts(room)[0], "100");
  assert.equal(room.hasEarlier, true);
});

test("someone types until they say otherwise, write, leave, or a while has passed", () => {
  const room = roomWith();
  const type = () => room.typingChanged({ user: BOB, typing: true }, 0);

  type();
  assert.deepEqual(room.typists(1), [BOB]);
  assert.deepEqual(room.typists(60_000), []);
  type();
  room.typingChanged({ user: BOB, typing: false }, 1);
  assert.deepEqual(room.typists(1), []);
  type();
  room.accept(logged("1"), ME.id);
  assert.deepEqual(room.typists(1), []);
  type();
  room.peopleChanged({ left: [BOB] });
  assert.deepEqual(room.typists(1), []);
});

test("people are listed one by one, and counted where they are many", () => {
  const room = roomWith();
  const ids = () => [...room.people.keys()];

  room.setPeople({ members: [ME] });
  room.peopleChanged({ joined: [BOB], left: [], count: 2 });
  assert.deepEqual([ids(), room.peopleCount], [[ME.id, BOB.id], 2]);
  room.peopleChanged({ joined: [], left: [], count: 200, more: true });
  assert.deepEqual([ids(), room.peopleCount], [[], 200]);
  room.setPeople({ users: [BOB], count: 199, more: true });
  assert.deepEqual([ids(), room.peopleCount], [[], 199]);
  room.peopleChanged({ joined: [], left: [], users: [BOB], count: 1 });
  assert.deepEqual([ids(), room.peopleCount], [[BOB.id], 1]);
});
