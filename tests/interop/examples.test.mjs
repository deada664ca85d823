// The examples, as a reader would run them, each against a system that has its events.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";

import { DEADLINE_MS, startAllInOne } from "./system.mjs";

const REPOSITORY = path.join(import.meta.dirname, "../..");
const EXAMPLES = path.join(REPOSITORY, "examples");
/** Below the installed packages, so that the scripts find them, and out of the way of version control. */
const COPY = path.join(import.meta.dirname, "node_modules/.cache/examples");

/** What each says in the end. */
const OUTPUT = {
  chat: [
    "Ann: Sunday? (said once)",
    "Ann missed 2, recovered: true",
    "Bob reacts 🎉",
    "Bob: I bring cake",
    "invalid_payload: /emoji does not satisfy enum",
  ],
  collaboration: [
    'Carol sees the cursors [["Ann",7]]',
    "the same text for all: true",
    "letters: 38 beginning with: A poem: ",
    "invalid_payload: the body does not satisfy oneOf",
  ],
  "live-updates": [
    "load: 40 %",
    "at first: { HAY: 10.75, OAT: 4.2 }",
    "fields: room, id, event, symbol, price, at, position",
    "then: { HAY: 10.75, OAT: 4.3 }",
    "data: /symbol does not satisfy pattern",
  ],
  notifications: [
    'phone: {"number":1,"title":"Your parcel is on its way","link":"/parcels/1"}',
    'laptop is back: true {"number":1,"title":"Your parcel is on its way","link":"/parcels/1"}',
    "laptop: seen 1",
    "Bob: clients do not send this event",
    "push: Bob",
  ],
};

describe("the examples", () => {
  test("are those that are run here", () => {
    const folders = readdirSync(EXAMPLES, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    const names = folders.map(({ name }) => name).filter((name) => name !== "node_modules");
    assert.deepEqual(names.sort(), Object.keys(OUTPUT).sort());
  });

  test("use the packages that are installed for these tests", () => {
    const packages = (folder) => JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"));
    const installed = packages(import.meta.dirname).devDependencies;
    for (const [name, version] of Object.entries(packages(EXAMPLES).dependencies)) {
      assert.equal(installed[name], version, name);
    }
  });

  for (const [name, lines] of Object.entries(OUTPUT)) {
    test(`${name} does what it says`, async () => {
      cpSync(EXAMPLES, COPY, { recursive: true, filter: (source) => path.basename(source) !== "node_modules" });
      const events = path.join(EXAMPLES, name, "events.toml");
      const system = await startAllInOne({ flags: [`--chat-namespaces-file=${events}`] });
      try {
        const env = {
          SOCKEYE_URL: system.url,
          SOCKEYE_CHAT: system.chatAddress,
          SOCKEYE_PROTO: path.join(REPOSITORY, "proto"),
        };
        const script = path.join(COPY, name, `${name}.mjs`);
        const { stdout, stderr } = await promisify(execFile)(process.execPath, [script], { env, timeout: DEADLINE_MS });
        assert.deepEqual(stdout.trim().split("\n"), lines);
        assert.equal(stderr, "");
      } finally {
        await system.stop();
      }
    });
  }
});
