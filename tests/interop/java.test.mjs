// The Java client, which Android apps use.

import path from "node:path";

import { startProgram } from "./driver.mjs";
import { testClient } from "./every-client.mjs";
import { TOOLS_DIR } from "./system.mjs";

const JARS = path.join(TOOLS_DIR, "socket.io-client-java");

testClient("socket.io-client for Java", {
  start: () => startProgram("java", ["-cp", `${JARS}/*`, path.join(import.meta.dirname, "java/Client.java")], { needs: JARS }),
  // It learns of a close frame from the pings that no longer come. Not so short that a busy machine is taken for gone.
  edge: ["--edge-ping-timeout=8s"],
});
