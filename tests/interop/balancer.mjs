// A load balancer that is not sticky: each request goes to the next edge, on a connection of its own.

import { once } from "node:events";
import { createServer, request as send } from "node:http";
import { connect } from "node:net";

/** Starts one in front of these addresses. */
export async function startBalancer(targets) {
  const sockets = new Set();
  const places = new Map();
  let turn = 0;
  const at = (index) => {
    const [host, port] = targets[index % targets.length].split(":");
    return { host, port: Number(port) };
  };

  async function forward(request, response) {
    const body = [];
    for await (const chunk of request) body.push(chunk);
    attempt(request, Buffer.concat(body), response, { index: (turn += 1), tried: 1 });
  }

  function attempt(request, body, response, { index, tried }) {
    const { method, url: path } = request;
    const headers = { ...request.headers, connection: "close" };
    const upstream = send({ ...at(index), method, path, headers, agent: false });
    upstream.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    upstream.on("error", (error) => {
      // An edge that is gone has not seen the request.
      const goesOn = error.code === "ECONNREFUSED" && tried < targets.length;
      if (goesOn) attempt(request, body, response, { index: index + 1, tried: tried + 1 });
      else response.destroy();
    });
    // An aborted request is aborted at the edge as well.
    response.on("close", () => upstream.destroy());
    upstream.end(body);
  }

  function tunnel(request, client, head, { index, tried }) {
    const upstream = connect(at(index));
    upstream.on("connect", () => {
      places.set(request.headers["x-client"], index % targets.length);
      const lines = [];
      for (let line = 0; line < request.rawHeaders.length; line += 2) {
        lines.push(`${request.rawHeaders[line]}: ${request.rawHeaders[line + 1]}`);
      }
      upstream.write([`${request.method} ${request.url} HTTP/1.1`, ...lines, "", ""].join("\r\n"));
      upstream.write(head);
      client.pipe(upstream).pipe(client);
    });
    upstream.on("error", (error) => {
      const goesOn = error.code === "ECONNREFUSED" && tried < targets.length;
      if (goesOn) tunnel(request, client, head, { index: index + 1, tried: tried + 1 });
      else client.destroy();
    });
    upstream.on("close", () => {
      if (upstream.bytesWritten > 0) client.destroy();
    });
    client.on("error", () => upstream.destroy());
    client.on("close", () => upstream.destroy());
  }

  const server = createServer(forward);
  server.on("upgrade", (request, client, head) => tunnel(request, client, head, { index: (turn += 1), tried: 1 }));
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** Which edge a client was brought to last that calls itself so in the header `x-client` of its WebSockets. */
    placeOf: (client) => places.get(client),
    /** Lets the next request go to another edge than it would. */
    skip: () => {
      turn += 1;
    },
    stop: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
