// A shop notifies Ann on her phone, and on her laptop as soon as that is back; she reads it on one, and the other knows.

import { connect, next, publish, usersBehind } from "../sockeye.mjs";

const show = (data) => JSON.stringify(data, ["number", "title", "link", "campaign"]);

const phone = await connect("Ann");
let laptop = await connect("Ann");
const bob = await connect("Bob");
bob.onAny((event) => console.log(`Bob must not get this: ${event}`));

// Each device is in its user's inbox, and remembers how far it has come.
await phone.emitWithAck("join", "@me");
const { position: seenUpTo } = await laptop.emitWithAck("join", "@me");
laptop.close();

const onPhone = next(phone, "notification");
const notification = { number: 1, title: "Your parcel is on its way", link: "/parcels/1", campaign: "spring" };
// With a key, trying again does not notify twice.
for (let attempt = 0; attempt < 2; attempt += 1) {
  await publish({ user: phone.subject, idempotencyKey: "parcel-1" }, "notification", notification);
}
console.log("phone:", show(await onPhone));

laptop = await connect("Ann");
const { recovered, messages } = await laptop.emitWithAck("join", { room: "@me", since: seenUpTo });
console.log("laptop is back:", recovered, ...messages.map(show));

const seen = next(laptop, "seen");
await phone.emitWithAck("seen", { number: 1 });
console.log("laptop: seen", (await seen).number);

const { error } = await bob.emitWithAck("notification", { user: phone.subject, number: 2, title: "Click here" });
console.log(`Bob: ${error.message}`);

// What everybody in a room is to get is told in another way to those who do not get it in time.
bob.offAny();
for (const socket of [phone, laptop, bob]) await socket.emitWithAck("join", "sale");
bob.disconnect();
const { position } = await publish({ room: "sale" }, "message", { text: "Half price until noon" });
let behind = [];
for (let seconds = 0; seconds < 3 || behind.includes(phone.subject); seconds += 1) {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  behind = await usersBehind({ room: "sale" }, position);
}
const names = new Map([[phone.subject, "Ann"], [bob.subject, "Bob"]]);
console.log(`push: ${behind.map((subject) => names.get(subject))}`);

for (const socket of [phone, laptop]) socket.close();
