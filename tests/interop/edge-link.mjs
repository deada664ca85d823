// Serves edges: the least that a business service must do, from the public contract. No resume.

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

/** So that the break of a silent network is noticed. */
const PINGS = { "grpc.keepalive_time_ms": 2000, "grpc.keepalive_timeout_ms": 3000 };

/**
 * Starts a business service. Returns where it is, and how to stop it, as a kill would. `attach` is called with each link and,
 * as the third argument, its id; it returns what handles the link's events, and its end. The second argument calls a function
 * with every link there is, and sends what that leaves there.
 */
export async function serveEdges(address, attach) {
  const links = new Set();
  const attached = (stream) => {
    const link = new Link(stream);
    const everyLink = (use) => {
      for (const one of links) {
        use(one);
        // The one that is handling a frame sends at the end of it.
        if (one !== link) one.flush();
      }
    };
    let attachment;
    stream.on("data", (frame) => {
      attachment ??= attach(link, everyLink, frame.hello.link_id);
      link.receive(frame, attachment.handle);
      links.add(link);
    });
    stream.on("end", () => stream.end());
    // Comes in any case, and alone where a connection breaks.
    stream.on("close", () => {
      links.delete(link);
      attachment?.ended();
    });
  };
  const definition = loadSync("sockeye/edge/v1/edge.proto", { includeDirs: [CONTRACTS], arrays: true, keepCase: true, longs: String });
  const { sockeye } = loadPackageDefinition(definition);
  const server = new Server(PINGS);
  server.addService(sockeye.edge.v1.EdgeLink.service, { Attach: attached });
  const port = await new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return { url: `http://${address.replace(/\d+$/, port)}`, stop: () => server.forceShutdown() };
}
