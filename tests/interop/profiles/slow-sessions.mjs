// Stands before an edge and lets new sessions, and the upgrades of sessions, wait a little.

import { once } from "node:events";
import { connect, createServer } from "node:net";

const UPGRADE = /^GET \S*[?&]transport=websocket&\S*sid=/;
const OF_SESSION = /^\S+ \S*[?&]sid=/;

/** Listens at `listen` for clients of the edge at `address`. */
export async function slowSessions(listen, address, { handshakeMs, upgradeMs }) {
  const [host, port] = listen.split(":");
  const [edgeHost, edgePort] = address.split(":");
  const open = new Set();
  const server = createServer({ noDelay: true }, (client) => {
    const edge = connect({ host: edgeHost, port: Number(edgePort), noDelay: true });
    // A client that vanishes is what some cases are about.
    for (const [side, other] of [[client, edge], [edge, client]]) {
      side.on("error", () => other.destroy());
      side.on("close", () => (open.delete(side), other.destroy()));
      open.add(side);
    }
    edge.pipe(client);
    client.once("data", (request) => {
      client.pause();
      const pass = () => {
        if (edge.destroyed) return;
        edge.write(request);
        client.pipe(edge);
      };
      const text = request.toString("latin1");
      if (UPGRADE.test(text)) setTimeout(pass, upgradeMs);
      else if (!OF_SESSION.test(text)) setTimeout(pass, handshakeMs);
      else pass();
    });
  });
  server.listen({ host, port: Number(port) });
  await once(server, "listening");
  const { address: at, port: bound } = server.address();
  return {
    url: `http://${at}:${bound}`,
    stop() {
      server.close();
      for (const side of open) side.destroy();
    },
  };
}
