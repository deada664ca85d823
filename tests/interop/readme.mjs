// The code blocks of the README, so that tests can run what it shows.

import { readFileSync } from "node:fs";
import path from "node:path";

const README = path.join(import.meta.dirname, "../../README.md");
const BLOCK = /^```(\w+)\n([\s\S]*?)^```$/gm;
/** A block's first line says what it is. */
const TITLE = /^(?:#|\/\/) (.+)\n/;

/** Returns `{ language, title, code }` for each block that has a title. */
export function readmeBlocks() {
  const text = readFileSync(README, "utf8");
  const blocks = [...text.matchAll(BLOCK)].map(([, language, code]) => ({ language, code, title: TITLE.exec(code)?.[1] }));
  return blocks.filter(({ title }) => title !== undefined);
}
