// Serves edges: the least that a business service must do, from the public contract. No state, no resume.

import { loadPackageDefinition, Server, ServerCredentials } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import path from "node:path";

const CONTRACTS = path.join(import.meta.dirname, "../../proto");

/** A stream of an edge, and the instructions that wait for it. */
class Link {
  #stream;
  #traceparent;
  #instructions = [];
  #handled = "0";
  #sent = 0;

  constructor(stream) {
    this.#stream = stream;
  }

  /** Has the edge do something, after all that it was told before. */
  instruct(instruction) {
    this.#instructions.push({ traceparent: this.#traceparent, ...instruction });
  }

  /** Handles a frame of the edge. It is acknowledged together with what comes of it. */
  receive({ seq, hello, events }, handle) {
    for (const event of events) {
      this.#traceparent = event.traceparent;
      handle(event);
    }
    this.#traceparent = undefined;
    this.#handled = seq ?? this.#handled;
    this.flush(hello ? { backend_id: "javascript", resumed: false } : null);
  }

  flush(welcome = null) {
    const instructions = this.#instructions.splice(0);
    const seq = instructions.length > 0 ? (this.#sent += 1) : 0;
    this.#stream.write({ seq, ack: this.#handled, welcome, instructions });
  }
}

/**
 * Starts a business service. Returns where it is, and how to stop it. `attach` is called with each link and returns what
 * handles its events; its second argument calls a function with every link there is, and sends what that leaves there.
 */
export async function serveEdges(attach) {
  const links = new Set();
  const attached = (stream) => {
    const link = new Link(stream);
    const handle = attach(link, (use) => {
      for (const one of links) {
        use(one);
        // The one that is handling a frame sends at the end of it.
        if (one !== link) one.flush();
      }
    });
    stream.on("data", (frame) => {
      link.receive(frame, handle);
      links.add(link);
    });
    stream.on("error", () => links.delete(link));
    stream.on("end", () => {
      links.delete(link);
      stream.end();
    });
  };
  const definition = loadSync("sockeye/edge/v1/edge.proto", { includeDirs: [CONTRACTS], arrays: true, keepCase: true, longs: String });
  const { sockeye } = loadPackageDefinition(definition);
  const server = new Server();
  server.addService(sockeye.edge.v1.EdgeLink.service, { Attach: attached });
  const port = await new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return { url: `http://127.0.0.1:${port}`, stop: () => server.forceShutdown() };
}
