// Plays transcripts of the reference server to the edge, with a business service behind it that does what the reference's
// handlers do. Each difference has a reason, here and in docs/PROTOCOL.md.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { chat, chatToken } from "./profiles/chat.mjs";
import { sioV5 } from "./profiles/sio-v5.mjs";
import { startProfile } from "./profiles/start.mjs";
import { eventually } from "./system.mjs";
import { openPolling, openWebSocket } from "./transcripts/connection.mjs";
import { readTranscript } from "./transcripts/read.mjs";

/** What differs: the line as it is here, and the row of "Divergences" that says why. */
const DIVERGENCES = {
  '451-/chat,["blob",{"_placeholder":true,"num":0}] → unfinished': {
    here: '451-/chat,["blob",{"_placeholder":true,"num":0}] → closed',
    row: "binary packet before its namespace was entered",
  },
  '42/chat,9007199254740993["echo",1] → 43/chat,9007199254740992[1]': {
    here: '42/chat,9007199254740993["echo",1] → 43/chat,9007199254740993[1]',
    row: "ack id from 2^53 up to 64 bits",
  },
  '42/chat,123456789012345678901234567890["echo",1] → 43/chat,1.2345678901234568e+29[1]': {
    here: '42/chat,123456789012345678901234567890["echo",1] → closed',
    row: "ack id of more than 64 bits",
  },
  '42/chat, ["echo",1] → 43/chat,0[1]': {
    here: '42/chat, ["echo",1] →',
    row: "white space where an ack id may stand",
  },
};
/** The reference closes without a code; these rows say why the edge does not. */
const CLOSES = {
  "close code of a broken protocol": [4500, 4502],
  "close code where the service ends a connection": [4007, "polling"],
};
const [BROKEN_PROTOCOL, BY_SERVICE] = Object.values(CLOSES);

/** Whoever is let in here has been answered before whatever the service answers to what came before. */
const LAST = "/last";
const TOKENS = { token: chatToken("alice"), expired: chatToken("alice", { lifetimeSeconds: -10 }) };

const here = Object.fromEntries(Object.entries(DIVERGENCES).map(([line, { here }]) => [line, here]));

const write = (frame) => frame.replace(/<(token|expired)>/, (_, name) => TOKENS[name]).replace("<U+2028>", "\u2028");

/** `heard` with the ids in it called as in `expected`, where they are the same wherever that says so. */
function named(heard, expected, ids) {
  return heard.map((frame, index) => {
    const names = expected[index]?.match(/<id \d+>/g) ?? [];
    return frame.replace(/"(?:sid|id)":"([\w-]{20,})"/g, (whole, id) => {
      const name = names.shift();
      if (name === undefined || (ids.has(name) && ids.get(name) !== id)) return whole;
      ids.set(name, id);
      return whole.replace(id, name);
    });
  });
}

async function play(session, { line, sent, received, end }, ids) {
  const expected = received.map(write);
  await session.send(sent.map(write));
  if (end === "unfinished") {
    await session.ping();
  } else if (end === "closed") {
    await eventually(`the end after ${line}`, () => session.code !== null);
  } else {
    await session.send([`40${LAST},`]);
    await eventually(`the answer to ${line}`, () => session.code !== null || session.heard.at(-1)?.startsWith(`40${LAST},`));
    assert.equal(session.code, null, `${line}: the connection stays open`);
    session.heard.pop();
    await session.send([`41${LAST},`]);
  }
  assert.deepEqual(named(session.heard.splice(0), expected, ids), expected, line);
  if (end !== "closed") return assert.equal(session.code, null, line);
  const codes = line.includes('"drop"') ? BY_SERVICE : BROKEN_PROTOCOL;
  assert.ok(codes.includes(session.code), `${line}: ${session.code}`);
}

async function enterChat(session) {
  await session.send([write('40/chat,{"token":"<token>"}')]);
  await eventually("the welcome", () => session.heard.length === 2);
  session.heard.splice(0);
}

async function playAll(system, { title, connections }) {
  const open = title.includes("long-polling") ? openPolling : openWebSocket;
  for (const exchanges of connections) {
    const session = await open(system);
    if (title.includes("; inside")) await enterChat(session);
    const ids = new Map();
    for (const exchange of exchanges) await play(session, exchange, ids);
    await session.close();
  }
}

describe("the reference server's answers", () => {
  const systems = [];
  const start = async ({ namespaces, ...profile }) => {
    const last = { enter: (socket) => socket.accept(), event() {} };
    systems.push(await startProfile({ ...profile, namespaces: { ...namespaces, [LAST]: last } }));
    return systems.at(-1);
  };
  let refusingInside;
  let refusingAtEntrance;
  let echoing;

  before(async () => {
    refusingInside = await start(chat({ refuse: "disconnect" }));
    refusingAtEntrance = await start(chat({ refuse: "error" }));
    // Without the heartbeats of the suite, which are faster than a busy machine.
    echoing = await start({ ...sioV5(), edge: [] });
  });
  after(async () => {
    for (const system of systems) await system.stop();
  });

  for (const section of readTranscript("chat.txt", here)) {
    const { title } = section;
    test(`chat: ${title}`, () => playAll(title.includes("refused at it") ? refusingAtEntrance : refusingInside, section));
  }
  for (const section of readTranscript("sio-v5.txt", {})) {
    test(`sio-v5: ${section.title}`, () => playAll(echoing, section));
  }

  test("go on after nesting that ends the reference's process", async () => {
    const nested = (depth) => "[".repeat(depth) + "]".repeat(depth);
    const [session, nesting] = [await openWebSocket(refusingInside), await openWebSocket(refusingInside)];
    for (const each of [session, nesting]) await enterChat(each);

    await nesting.send([`42/chat,1["echo",${nested(64)}]`]);
    await eventually("64 arrays are echoed", () => nesting.heard.at(-1) === `43/chat,1[${nested(64)}]`);
    await nesting.send([`42/chat,2["echo",${nested(5000)}]`]);
    await eventually("5000 end the session", () => nesting.code === 4500);

    await session.send(['42/chat,3["echo",3]']);
    await eventually("another is echoed", () => session.heard.at(-1) === "43/chat,3[3]");
    session.close();
  });

  test("differ only where the documentation says so", () => {
    const protocol = readFileSync(path.join(import.meta.dirname, "../../docs/PROTOCOL.md"), "utf8");
    const rows = [...Object.keys(CLOSES), ...Object.values(DIVERGENCES).map(({ row }) => row)];

    for (const row of rows) assert.ok(protocol.includes(`\n| ${row} | `), `"${row}" is in no table`);
  });
});
