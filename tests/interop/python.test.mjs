// python-socketio, in its two kinds: with threads and with coroutines.

import path from "node:path";

import { startProgram } from "./driver.mjs";
import { testClient } from "./every-client.mjs";
import { TOOLS_DIR } from "./system.mjs";

const PYTHON = path.join(TOOLS_DIR, "python-socketio/bin/python");

for (const [kind, program] of [["Client", "threads.py"], ["AsyncClient", "coroutines.py"]]) {
  testClient(`python-socketio, ${kind}`, {
    start: () => startProgram(PYTHON, [path.join(import.meta.dirname, "python", program)]),
    cannot: { "comes back when its connection is closed over polling": "it takes the close packet for the last word, whoever sends it" },
  });
}
