// Knows which sockets there are on which link, and concludes the ends that no edge has told.

/** How long an edge has to come back. */
const LEASE_MS = 10_000;

/** A service to which ends matter keeps this where it outlives its process. */
export class Ends {
  /** Subject and reason, in the order in which they came to be known. */
  concluded = [];
  /** By `link_id`: the sockets by handle, the stream that the link has or had last, and its lease while it is away. */
  #links = new Map();
  #leaseMs;

  constructor(leaseMs = LEASE_MS) {
    this.#leaseMs = leaseMs;
  }

  /** Begins the lease of each link that is known: for a process that has just started. */
  beginLeases() {
    for (const linkId of this.#links.keys()) this.#beginLease(linkId);
  }

  /** A stream of a link has begun. Returns what is to be told of its events, and of its end. */
  attach(linkId) {
    const link = this.#links.get(linkId) ?? { sockets: new Map() };
    this.#links.set(linkId, link);
    clearTimeout(link.lease);
    // Those that the stream has not named, until all are announced.
    const unannounced = new Set(link.sockets.keys());
    const stream = {
      opened: (handle, { socket_id: socketId, recovered, identity }) => {
        if (recovered) this.#takeOver(socketId);
        unannounced.delete(handle);
        link.sockets.set(handle, { socketId, subject: identity.subject });
      },
      closed: (handle, reason) => this.#conclude(link, [handle], reason),
      // The reason is lost.
      allAnnounced: () => this.#conclude(link, unannounced, "unknown"),
      ended: () => {
        if (link.stream === stream) this.#beginLease(linkId);
      },
    };
    link.stream = stream;
    return stream;
  }

  /** It lives elsewhere from now on, whatever becomes of the link that it came from. */
  #takeOver(socketId) {
    for (const { sockets } of this.#links.values()) {
      for (const [handle, known] of sockets) if (known.socketId === socketId) sockets.delete(handle);
    }
  }

  #beginLease(linkId) {
    const link = this.#links.get(linkId);
    clearTimeout(link.lease);
    link.lease = setTimeout(() => {
      this.#conclude(link, link.sockets.keys(), "edge_lost");
      this.#links.delete(linkId);
    }, this.#leaseMs).unref();
  }

  #conclude({ sockets }, handles, reason) {
    for (const handle of handles) {
      const known = sockets.get(handle);
      if (sockets.delete(handle)) this.concluded.push([known.subject, reason]);
    }
  }
}
