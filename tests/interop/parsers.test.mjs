// Our decoders and encoders beside the reference parsers: the same cases, the same answers, but for what is explained.
//
// FUZZ_CASES=1000000 FUZZ_SEED=7 node --test parsers.test.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { makeCase } from "./parsers/cases.mjs";
import { Codec } from "./parsers/codec.mjs";
import { compare } from "./parsers/compare.mjs";
import { EXPLAINED } from "./parsers/explained.mjs";
import { KNOWN_CASES } from "./parsers/known-cases.mjs";
import { minimised } from "./parsers/minimise.mjs";

const CASES = Number(process.env.FUZZ_CASES ?? 100_000);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const BATCH = 500;

describe("beside the reference parsers", () => {
  let codec;

  before(() => {
    codec = new Codec();
  });
  after(() => codec.stop());

  const outcomeOf = async (input) => compare(input, (await codec.answers([input]))[0]);

  /** Fails with the smallest case that is found to be wrong as well. */
  async function fail(input, origin) {
    const smallest = await minimised(input, async (candidate) => (await outcomeOf(candidate)).unexplained);
    const { field, ours, theirs } = (await outcomeOf(smallest)).unexplained;
    assert.fail(
      `${origin}: ${field} differs\ncase:   ${JSON.stringify(smallest)}\nours:   ${JSON.stringify(ours)}\ntheirs: ${shown(theirs)}`,
    );
  }

  test("what once differed, and each rule, is answered as it should be", async () => {
    for (const { input, isRefused, name } of KNOWN_CASES) {
      const { unexplained, explained, refused } = await outcomeOf(input);

      if (unexplained) await fail(input, "a known case");
      assert.deepEqual([...new Set(explained)], name ? [name] : [], JSON.stringify(input));
      if (!name) assert.equal(refused > 0, isRefused, JSON.stringify(input));
    }
  });

  test("what nobody thought of is answered alike", async (t) => {
    t.diagnostic(`FUZZ_SEED=${SEED} FUZZ_CASES=${CASES}`);
    const batch = (start) => {
      const inputs = Array.from({ length: Math.max(0, Math.min(BATCH, CASES - start)) }, (_, index) =>
        makeCase(SEED, start + index),
      );
      return { inputs, answers: codec.answers(inputs) };
    };
    const counts = new Map(EXPLAINED.map(({ name }) => [name, 0]));
    const packets = { taken: 0, refused: 0 };

    let next = batch(0);
    for (let start = 0; start < CASES; start += BATCH) {
      const current = next;
      next = batch(start + BATCH);
      const answers = await current.answers;
      for (const [index, input] of current.inputs.entries()) {
        const { unexplained, explained, taken, refused } = compare(input, answers[index]);
        if (unexplained) await fail(input, `case ${start + index} of seed ${SEED}`);
        for (const name of explained) counts.set(name, counts.get(name) + 1);
        packets.taken += taken;
        packets.refused += refused;
      }
    }

    t.diagnostic(
      `${packets.taken} messages taken and ${packets.refused} refused by both; explained: ${JSON.stringify(Object.fromEntries(counts))}`,
    );
    // Cases that all mean something, or all nothing, would not show much.
    assert.ok(packets.taken > CASES / 4 && packets.refused > CASES / 20, JSON.stringify(packets));
  });

  test("each difference is in the documents, with its reason", () => {
    const document = readFileSync(path.join(import.meta.dirname, "../../docs/PROTOCOL.md"), "utf8");
    const known = KNOWN_CASES.map(({ name }) => name);

    for (const { name } of EXPLAINED) {
      const row = document.split("\n").find((line) => line.startsWith(`| ${name} |`));
      assert.equal(row?.split("|").length, 6, `${name} has a row with what they do, what we do, and why`);
      assert.ok(known.includes(name), `${name} has a case of its own`);
    }
  });
});

function shown(theirs) {
  return theirs?.refused ? `${theirs.refused}` : JSON.stringify(theirs);
}
