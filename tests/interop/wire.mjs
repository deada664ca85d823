// Stands between a client and the edge, passes every byte on, and notes which transports the client asks for.

import { once } from "node:events";
import { connect, createServer } from "node:net";

const REQUEST = /^(?:GET|POST) \S*[?&]transport=(polling|websocket)\S* HTTP\/1\.1\r$/gm;

/**
 * Listens for clients of the edge at `address`. `requests` has the transport that each HTTP request asks for, in order, and
 * `sent` counts the pieces in which clients' bytes arrive.
 */
export async function startWire(address) {
  const [host, port] = address.split(":");
  const open = new Set();
  const wire = { requests: [], sent: 0 };

  const server = createServer((client) => {
    const edge = connect({ host, port: Number(port) });
    // A client and an edge that vanish are what some tests are about.
    for (const [side, other] of [[client, edge], [edge, client]]) {
      side.on("error", () => other.destroy());
      side.on("close", () => (open.delete(side), other.destroy()));
      side.pipe(other);
      open.add(side);
    }
    client.on("data", (bytes) => {
      wire.sent += 1;
      for (const [, transport] of bytes.toString("latin1").matchAll(REQUEST)) wire.requests.push(transport);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  wire.url = `http://127.0.0.1:${server.address().port}`;
  wire.stop = () => {
    server.close();
    for (const side of open) side.destroy();
  };
  return wire;
}
