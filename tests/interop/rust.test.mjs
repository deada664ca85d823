// rust_socketio, its asynchronous client.

import path from "node:path";

import { startProgram } from "./driver.mjs";
import { testClient } from "./every-client.mjs";
import { TOOLS_DIR } from "./system.mjs";

testClient("rust_socketio", {
  start: () => startProgram(path.join(TOOLS_DIR, "rust_socketio/debug/rust-socketio-client"), []),
  cannot: {
    "answers when it is asked": "it has no way to answer",
    "is asked and answers with bytes": "it has no way to answer",
    "asks and is answered with bytes": "it asks with bytes in a packet that is an answer",
    "sends and gets many bytes over polling": "it takes each piece of an HTTP body for all of it",
  },
});
