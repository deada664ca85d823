// Starts an edge and the business service of a profile behind it: for tests, and by itself for outside suites.
//
//   node profiles/start.mjs <sio-v5 | sio-client | chat> [<address for clients>]

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

import { startEdgeAlone } from "../system.mjs";
import { chat } from "./chat.mjs";
import { sioClient } from "./sio-client.mjs";
import { sioV5 } from "./sio-v5.mjs";
import { slowSessions } from "./slow-sessions.mjs";
import { startService } from "./sockets.mjs";

const PROFILES = { "sio-v5": sioV5, "sio-client": sioClient, chat };

/** Every namespace of the profile takes clients without a token, and is told all there is to know of them. */
const terms = (namespace, { url, recovery }) => `[namespace."${namespace}"]
backend = "${url}"
authentication = "none"
handshake = { query = true, address = true, headers = ["user-agent"] }
${recovery ? `recovery = "${recovery}"` : ""}
`;

/** An edge whose namespaces are those of the profile. Suites send faster than people do. */
export async function startProfile({ edge = [], namespaces, recovery, delays }, { listen, flags = [] } = {}) {
  const service = await startService(namespaces);
  const folder = mkdtempSync(path.join(tmpdir(), "profile-"));
  const file = path.join(folder, "namespaces.toml");
  const { url } = service;
  writeFileSync(file, Object.keys(namespaces).map((namespace) => terms(namespace, { url, recovery })).join(""));
  const unlimited = ["--edge-events-per-second=100000", "--edge-events-burst=100000"];
  const own = [`--edge-namespaces-file=${file}`, `--edge-ws-namespace=${Object.keys(namespaces)[0]}`];
  const system = await startEdgeAlone({
    listen: delays ? undefined : listen,
    flags: [...own, ...unlimited, ...edge, ...flags],
  });
  const front = delays ? await slowSessions(listen ?? "127.0.0.1:0", system.address, delays) : null;
  return {
    ...system,
    url: front?.url ?? system.url,
    async stop() {
      front?.stop();
      await system.stop();
      service.stop();
      rmSync(folder, { recursive: true });
    },
  };
}

if (import.meta.filename === process.argv[1]) {
  const [name, listen] = process.argv.slice(2);
  if (!Object.hasOwn(PROFILES, name)) throw new Error(`a profile is one of ${Object.keys(PROFILES).join(", ")}`);
  const system = await startProfile(PROFILES[name](), { listen });
  console.log(`${name} on ${system.url}`);
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, system.stop);
}
