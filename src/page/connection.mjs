// Keeps one plain JSON WebSocket open: authenticates, asks, hears, and reconnects by itself.

/** Longer than the gateway takes to answer `timeout` by itself. */
const ANSWER_TIMEOUT_MS = 15_000;
const OPEN_TIMEOUT_MS = 10_000;
const BACKOFF_MS_MIN = 500;
const BACKOFF_MS_MAX = 15_000;
/** A connection that lasted this long was no failure. */
const STABLE_MS = 5_000;

const TOKEN_EXPIRED_CODE = 4004;
const TOKEN_REJECTED_CODE = 4501;
/** These say that we are at fault, and so will be again. */
const isFinal = (closeCode) => [1002, 1003, 1007, 1008, 1009].includes(closeCode) || (closeCode >= 4500 && closeCode < 5000);

/** What a request was answered with, when not with data. */
export class RequestError extends Error {
  constructor({ code = "internal", message = "", retryable = false } = {}) {
    super(message || code);
    this.code = code;
    this.retryable = retryable;
  }
}

/** The connection broke before the answer came: nobody knows what became of the request. */
const connectionLost = () =>
  new RequestError({ code: "connection_lost", message: "The connection broke.", retryable: true });

export class Connection {
  #hooks;
  #socket = null;
  #authenticated = false;
  #stopped = true;
  #lastId = 0;
  /** Request id → how to settle it. */
  #requests = new Map();
  #failureCount = 0;
  #connectedAt = 0;
  #needsFreshToken = false;
  /** Number of the attempt under way: one that was overtaken ends without effect. */
  #attemptNumber = 0;
  #timer = null;

  /**
   * `hooks.token({ isFresh })` returns a promise of a token, a new one if `isFresh`;
   * `hooks.stateChanged("connected" | "connecting" | "offline")`; `hooks.heard(event, data)`;
   * `hooks.refused(error)` when there will be no further attempt.
   */
  constructor(hooks) {
    this.#hooks = hooks;
    addEventListener("online", () => this.#hurry());
  }

  start() {
    this.#stopped = false;
    this.#failureCount = 0;
    this.#needsFreshToken = false;
    this.#attempt();
  }

  stop() {
    this.#stopped = true;
    this.#attemptNumber += 1;
    this.#drop();
    this.#hooks.stateChanged("offline");
  }

  get isConnected() {
    return this.#authenticated;
  }

  /** Sends an event that needs no answer. It is lost while there is no connection. */
  tell(event, data) {
    if (this.#authenticated) this.#socket.send(JSON.stringify({ event, data }));
  }

  /** Sends an event and returns a promise of its answer. */
  ask(event, data) {
    return this.#authenticated ? this.#request(event, data) : Promise.reject(connectionLost());
  }

  async #attempt() {
    clearTimeout(this.#timer);
    this.#attemptNumber += 1;
    const number = this.#attemptNumber;
    this.#hooks.stateChanged("connecting");
    try {
      const token = await this.#hooks.token({ isFresh: this.#needsFreshToken });
      if (number === this.#attemptNumber) this.#open(token);
    } catch (error) {
      if (number === this.#attemptNumber) this.#failed(error);
    }
  }

  #open(token) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(), OPEN_TIMEOUT_MS);
    socket.onopen = () => this.#authenticate(token);
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code }) => this.#lost(code);
  }

  async #authenticate(token) {
    try {
      await this.#request("auth", { token });
    } catch (error) {
      // What follows is the close, with a code that says more; unless the gateway said nothing at all.
      if (error.code === "timeout") this.#lost();
      return;
    }
    clearTimeout(this.#timer);
    this.#authenticated = true;
    this.#connectedAt = Date.now();
    this.#needsFreshToken = false;
    this.#hooks.stateChanged("connected");
  }

  #request(event, data) {
    const id = ++this.#lastId;
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#requests.delete(id);
        reject(new RequestError({ code: "timeout", message: "No answer came.", retryable: true }));
        // A gateway always answers. The connection is dead, and the browser has not noticed.
        if (this.#socket === socket && this.#authenticated) this.#lost();
      }, ANSWER_TIMEOUT_MS);
      this.#requests.set(id, { resolve, reject, timer });
      socket.send(JSON.stringify({ event, data, id }));
    });
  }

  #receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (message.event !== undefined) {
      this.#hooks.heard(message.event, message.data);
      return;
    }
    const request = this.#requests.get(message.id);
    if (!request) return;
    this.#requests.delete(message.id);
    clearTimeout(request.timer);
    if (message.error) request.reject(new RequestError(message.error));
    else request.resolve(message.data);
  }

  /** Forgets the socket without waiting for its close, which a dead network can hold up for minutes. */
  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    this.#authenticated = false;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    for (const { reject, timer } of requests) {
      clearTimeout(timer);
      reject(connectionLost());
    }
  }

  #lost(closeCode) {
    const wasStable = this.#authenticated && Date.now() - this.#connectedAt > STABLE_MS;
    this.#drop();
    if (this.#stopped) return;
    if (wasStable) this.#failureCount = 0;

    if (closeCode === TOKEN_REJECTED_CODE && !this.#needsFreshToken) {
      // It may have grown too old. That a fresh one is rejected as well is final.
      this.#needsFreshToken = true;
      this.#attempt();
    } else if (closeCode === TOKEN_REJECTED_CODE) {
      this.#refused(new RequestError({ code: "unauthorized", message: "The token is not accepted." }));
    } else if (isFinal(closeCode)) {
      this.#refused(new RequestError({ code: "closed", message: `The gateway closed the connection for good (${closeCode}).` }));
    } else {
      this.#needsFreshToken = closeCode === TOKEN_EXPIRED_CODE;
      this.#failed(connectionLost());
    }
  }

  #failed(error) {
    if (!error.retryable) {
      this.#refused(error);
      return;
    }
    this.#hooks.stateChanged("offline");
    const ceiling = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#failureCount);
    this.#failureCount += 1;
    // Half of it by chance, so that the clients of a restarted gateway do not all come at once.
    this.#timer = setTimeout(() => this.#attempt(), ceiling / 2 + Math.random() * ceiling / 2);
  }

  #refused(error) {
    this.stop();
    this.#hooks.refused(error);
  }

  #hurry() {
    if (this.#stopped || this.#socket) return;
    this.#failureCount = 0;
    this.#attempt();
  }
}
