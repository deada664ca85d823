// Reads a transcript: what is sent and what must be received, line by line.

import { readFileSync } from "node:fs";
import path from "node:path";

/**
 * Returns the sections of a transcript: `{title, connections}`, and of each connection its exchanges: `{line, sent,
 * received, end}`. `end` is "open", "closed" or "unfinished". `otherwise` has what stands in the place of some lines; each
 * of them must be there.
 */
export function readTranscript(name, otherwise) {
  const sections = [];
  const replaced = new Set();
  for (const line of readFileSync(path.join(import.meta.dirname, name), "utf8").split("\n")) {
    const title = /^\[(.*)\]$/.exec(line)?.[1];
    if (title) {
      sections.push({ title, connections: [] });
    } else if (line !== "" && !line.startsWith("#")) {
      const { connections } = sections.at(-1);
      if (!line.startsWith("& ")) connections.push([]);
      if (line in otherwise) replaced.add(line);
      connections.at(-1).push(exchange((otherwise[line] ?? line).replace(/^& /, "")));
    }
  }
  for (const line of Object.keys(otherwise)) if (!replaced.has(line)) throw new Error(`no line is ${line}`);
  return sections;
}

function exchange(line) {
  const [sent, received] = line.split(" →");
  const expected = framesOf(received.slice(1));
  const end = ["closed", "unfinished"].find((word) => expected.at(-1) === word);
  return { line, sent: framesOf(sent), received: end ? expected.slice(0, -1) : expected, end: end ?? "open" };
}

const framesOf = (text) => text.split("  ").filter((frame) => frame !== "");
