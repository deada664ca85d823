// slowhttptest against the edge, in its four ways at once, while another client is served. Against long-polling, whose requests are
// the only ones that stay HTTP.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";

import { ask, connected } from "./clients.mjs";
import { eventually, startThreeProcesses } from "./system.mjs";

const CONNECTIONS = 100;
const OPENING = "/socket.io/?EIO=4&transport=polling";
/** Ten seconds for headers, five for a body, and what the tool takes to open its connections. */
const ALL_CUT_MS = 16_000;
/** Longer than that, so that it is the edge who cuts. */
const ATTACK_SECONDS = 18;
/** The good client's connections, and those of the tool that ask whether the service is there. */
const DESCRIPTORS_SLACK = 10;

const WAYS = {
  "slow headers": ["-H", "-i", "3", "-x", "24"],
  "slow bodies": ["-B", "-i", "3", "-s", "8192", "-x", "10"],
  "many ranges": ["-R", "-a", "10", "-b", "3000"],
  "slow reads": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3"],
};

const run = promisify(execFile);

const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

async function attack(way, url) {
  const common = ["-c", `${CONNECTIONS}`, "-r", "100", "-l", `${ATTACK_SECONDS}`, "-p", "5", "-u", url];
  const { stdout } = await run("slowhttptest", [...WAYS[way], ...common], { maxBuffer: 1 << 24 });
  // Without its colours.
  return stdout.replaceAll(/\x1b\[[0-9;]*m/g, "");
}

test("slow clients are cut, and others served", { skip: process.platform !== "linux" && "reads /proc" }, async (context) => {
  const system = await startThreeProcesses();
  const good = await connected(system, "good");
  const { pid } = system.edge.process;
  const before = descriptors(pid);
  try {
    // A body counts only where there is a session to take it.
    const { sid } = JSON.parse((await (await fetch(`${system.url}${OPENING}`)).text()).slice(1));
    const began = Date.now();
    const attacks = Object.keys(WAYS).map((way) => {
      const session = way === "slow bodies" ? `&sid=${sid}` : "";
      return attack(way, `${system.url}${OPENING}${session}`);
    });
    let isOver = false;
    const reports = Promise.all(attacks).finally(() => {
      isOver = true;
    });
    await eventually("the connections are there", () => descriptors(pid) >= before + CONNECTIONS);
    const waits = [];
    let cutAfter;
    while (!isOver) {
      const asked = Date.now();
      const answer = await ask(good, "join", { room: "lobby" });
      assert.equal(answer.error, undefined, "the good client is served");
      waits.push(Date.now() - asked);
      if (descriptors(pid) <= before + DESCRIPTORS_SLACK) cutAfter ??= Date.now() - began;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }

    for (const report of await reports) {
      assert.match(report, /service available:\s+YES/);
      assert.doesNotMatch(report, /service available:\s+NO/);
    }
    assert.ok(cutAfter <= ALL_CUT_MS, `cut after ${cutAfter} ms`);
    const slowest = Math.max(...waits);
    context.diagnostic(`${4 * CONNECTIONS} slow connections were cut after ${cutAfter} ms; the slowest of ${waits.length} answers took ${slowest} ms`);
    assert.ok(slowest < 5_000, `an answer took ${slowest} ms`);
  } finally {
    good.disconnect();
    await system.stop();
  }
});
