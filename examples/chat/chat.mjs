// Ann and Bob chat, Bob reacts, and Ann catches up on what she missed.

import { connect, next } from "../sockeye.mjs";

const room = "picnic";
const ann = await connect("Ann");
const bob = await connect("Bob");
await ann.emitWithAck("join", room);
await bob.emitWithAck("join", room);

// The id makes a retry harmless: it gets the first answer, and nobody sees the message twice.
const heard = next(bob, "message");
const sent = await ann.emitWithAck("message", { room, text: "Sunday?", id: "ann-1" });
const again = await ann.emitWithAck("message", { room, text: "Sunday?", id: "ann-1" });
const { user, text } = await heard;
console.log(`${user.name}: ${text}`, sent.position === again.position ? "(said once)" : "(said twice)");

// Ann loses her connection. What happens meanwhile is in the log, messages and reactions in one order.
ann.disconnect();
await bob.emitWithAck("reaction", { room, message: sent.id, emoji: "🎉" });
await bob.emitWithAck("message", { room, text: "I bring cake" });

ann.connect();
const { recovered, messages } = await ann.emitWithAck("join", { room, since: sent.position });
console.log(`Ann missed ${messages.length}, recovered: ${recovered}`);
for (const entry of messages) {
  console.log(entry.event === "reaction" ? `${entry.user.name} reacts ${entry.emoji}` : `${entry.user.name}: ${entry.text}`);
}

// What is not declared so does not get in.
const { error } = await bob.emitWithAck("reaction", { room, message: sent.id, emoji: "👎" });
console.log(`${error.code}: ${error.message}`);

ann.close();
bob.close();
