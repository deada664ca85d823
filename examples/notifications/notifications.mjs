// A shop notifies Ann on her phone and her laptop; she reads it on one, and the other knows.

import { connect, next, publish } from "../sockeye.mjs";

const phone = await connect("Ann");
const laptop = await connect("Ann");
const bob = await connect("Bob");
bob.onAny((event) => console.log(`Bob must not get this: ${event}`));

const onPhone = next(phone, "notification");
const onLaptop = next(laptop, "notification");
const notification = { number: 1, title: "Your parcel is on its way", link: "/parcels/1", campaign: "spring" };
await publish({ user: phone.subject }, "notification", notification);
console.log("phone:", JSON.stringify(await onPhone));
console.log("laptop:", JSON.stringify(await onLaptop));

const seen = next(laptop, "seen");
await phone.emitWithAck("seen", { number: 1 });
console.log("laptop: seen", (await seen).number);

const { error } = await bob.emitWithAck("notification", { user: phone.subject, number: 2, title: "Click here" });
console.log(`Bob: ${error.message}`);

for (const socket of [phone, laptop, bob]) socket.close();
