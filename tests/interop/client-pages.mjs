// Pages of a real browser in which the stock client runs, as the edge serves it.

import assert from "node:assert/strict";
import path from "node:path";

import { openTab } from "./browser.mjs";
import { token } from "./system.mjs";

/** What the edge is to serve. */
export const BUNDLE = path.join(import.meta.dirname, "node_modules/socket.io-client/dist");

/** The client copies its packets to a stream of WebTransport with a promise that nobody handles. It is rejected at the end of each session. */
const UNHANDLED = "The session is closed.";

/** Pages of the origin of an edge, whose clients enter a namespace there. `hash` is that of the certificate of WebTransport. */
export class ClientPages {
  #tabs = [];

  constructor({ browser, url, namespace, hash }) {
    Object.assign(this, { browser, url, namespace, hash });
  }

  /** Opens a page whose client is in the namespace, as `socket`. */
  async enter(transports) {
    const tab = await openTab(this.browser);
    this.#tabs.push(tab);
    // Any page of that origin serves.
    await tab.page.goto(`${this.url}/socket.io/socket.io.min.js`);
    await tab.page.addScriptTag({ url: "/socket.io/socket.io.min.js" });
    const settings = { namespace: this.namespace, transports, hash: this.hash, token: token("alice") };
    await tab.page.evaluate(async ({ namespace, transports, hash, token }) => {
      const serverCertificateHashes = [{ algorithm: "sha-256", value: new Uint8Array(hash) }];
      const transportOptions = { webtransport: { serverCertificateHashes } };
      // Without an address: the origin of the page, and so its scheme.
      globalThis.socket = globalThis.io(namespace, { transports, transportOptions, reconnection: false, auth: { token } });
      await new Promise((resolve, reject) => {
        globalThis.socket.on("connect", resolve).on("connect_error", reject);
      });
    }, settings);
    return tab.page;
  }

  /** To be called where an end was meant, and its error with it. */
  forgetErrors() {
    for (const { errors } of this.#tabs) errors.length = 0;
  }

  /** Closes the pages, which have raised no errors. */
  async close() {
    const errors = this.#tabs.flatMap((tab) => tab.errors);
    for (const { context } of this.#tabs.splice(0)) await context.close();
    assert.deepEqual(errors.filter((error) => error !== UNHANDLED), [], "the page raises no errors");
  }
}
