// A socket.io-client in a process of its own; its package is the argument.

import { createInterface } from "node:readline";

import { createClient } from "./client.mjs";

const { io, default: ioOf2 } = await import(process.argv[2]);
const carryOut = createClient(io ?? ioOf2, (record) => console.log(JSON.stringify(record)));

for await (const line of createInterface({ input: process.stdin })) carryOut(JSON.parse(line));
process.exit();
