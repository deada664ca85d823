// A service publishes prices. A viewer who comes late starts with the latest ones, and misses nothing after that.

import { connect, next, publish } from "../sockeye.mjs";

const room = "market";
const price = (symbol, price) => publish({ room }, "price", { symbol, price, source: "exchange 7" });
await price("HAY", 10.5);
await price("OAT", 4.2);
await price("HAY", 10.75);
await publish({ room }, "load", { percent: 40 });

const prices = new Map();
const viewer = await connect("Viewer");
viewer.on("price", ({ symbol, price }) => prices.set(symbol, price));
const { latest } = await viewer.emitWithAck("join", room);
for (const { event, data } of latest) {
  if (event === "price") prices.set(data.symbol, data.price);
  else console.log(`load: ${data.percent} %`);
}
console.log("at first:", Object.fromEntries([...prices].sort()));

const changed = next(viewer, "price");
await price("OAT", 4.3);
console.log("fields:", Object.keys(await changed).join(", "));
console.log("then:", Object.fromEntries([...prices].sort()));

await price("oats", 1).catch((error) => console.log(error.details));
viewer.close();
