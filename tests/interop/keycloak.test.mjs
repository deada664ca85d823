// Users who log in at a real OpenID provider, and what becomes of their sockets when something happens there.
//
// SOCKEYE_ROTATIONS, SOCKEYE_ROTATION_SECONDS, SOCKEYE_CONNECTS_PER_SECOND and SOCKEYE_JWKS_REFRESH make the rotation of keys as
// long and as hard as one likes.

import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { after, afterEach, before, describe, test } from "node:test";

import { AuthClient } from "./auth-client.mjs";
import { ask, connect, connected, next } from "./clients.mjs";
import { Keycloak, parts, publicClient } from "./keycloak.mjs";
import { eventually, startThreeProcesses } from "./system.mjs";
import { share } from "./talk.mjs";

const ROTATIONS = Number(process.env.SOCKEYE_ROTATIONS ?? 2);
const ROTATION_SECONDS = Number(process.env.SOCKEYE_ROTATION_SECONDS ?? 2);
const CONNECTS_PER_SECOND = Number(process.env.SOCKEYE_CONNECTS_PER_SECOND ?? 50);
const JWKS_REFRESH = process.env.SOCKEYE_JWKS_REFRESH ?? "1s";
const USERS = ["alice", "bob"];
/** How many connects a token is used for, on average. */
const CONNECTS_PER_TOKEN = 10;
const TOKENS_KEPT = 50;
const TICK_MS = 10;

/** Logs users out of their sockets when Keycloak says so, as a deployment's own service would: OpenID Connect Back-Channel Logout. */
class LogoutBridge {
  async start() {
    this.server = createServer((request, response) => {
      this.#loggedOut(request).then(
        () => response.writeHead(200).end(),
        (error) => {
          this.error = error;
          response.writeHead(400).end();
        },
      );
    });
    await once(this.server.listen(0, "127.0.0.1"), "listening");
    this.url = `http://127.0.0.1:${this.server.address().port}/logout`;
    return this;
  }

  async #loggedOut(request) {
    const token = new URLSearchParams(await text(request)).get("logout_token");
    const { header, claims } = parts(token);
    const jwk = (await this.realm.publishedKeys()).find(({ kid }) => kid === header.kid);
    const [signed, signature] = [token.slice(0, token.lastIndexOf(".")), token.slice(token.lastIndexOf(".") + 1)];
    const key = createPublicKey({ key: jwk, format: "jwk" });
    assert.ok(verify("RSA-SHA256", Buffer.from(signed), key, Buffer.from(signature, "base64url")), "Keycloak has signed it");
    assert.equal(claims.iss, this.realm.issuer);
    assert.ok(claims.events["http://schemas.openid.net/event/backchannel-logout"]);
    await this.auth.revokeSession(claims.iss, claims.sid);
  }

  stop() {
    this.server.close();
  }
}

/** Clients that connect and go without a pause, with tokens of the keys that are in use. */
class Connects {
  #sockets = new Set();
  #underWay = new Map();
  #minting;
  #grants;

  constructor(system, realm, grants) {
    Object.assign(this, { system, realm, tokens: new Map(), begun: 0, done: 0, refused: [], retries: 0, times: [], byKey: new Map() });
    this.#grants = grants;
    for (const grant of grants) this.#keep(grant.access_token);
  }

  #keep(token) {
    const { kid } = parts(token).header;
    this.tokens.set(kid, [...(this.tokens.get(kid) ?? []), token].slice(-TOKENS_KEPT));
  }

  async #mint() {
    const grant = await this.realm.refresh(this.#grants.shift(), { client: "app" });
    this.#grants.push(grant);
    this.#keep(grant.access_token);
  }

  start() {
    let [due, last] = [0, performance.now()];
    this.timer = setInterval(() => {
      const now = performance.now();
      due = Math.min(due + ((now - last) * CONNECTS_PER_SECOND) / 1000, CONNECTS_PER_SECOND);
      last = now;
      for (; due >= 1; due -= 1) this.#connect();
    }, TICK_MS);
    return this;
  }

  #connect() {
    this.begun += 1;
    if (this.begun % CONNECTS_PER_TOKEN === 0 && !this.#minting) {
      this.#minting = this.#mint()
        .catch((error) => this.refused.push(`minting: ${error.message}`))
        .finally(() => (this.#minting = undefined));
    }
    // One after the other: those of the key that signs, and those of keys that did.
    const kids = [...this.tokens.keys()];
    const kid = kids[this.begun % kids.length];
    const ofKey = this.tokens.get(kid);
    const token = ofKey[Math.floor(Math.random() * ofKey.length)];
    this.#underWay.set(kid, (this.#underWay.get(kid) ?? 0) + 1);
    const startedAt = performance.now();
    const socket = connect(this.system, null, { auth: { token } });
    this.#sockets.add(socket);
    const end = () => {
      this.done += 1;
      this.#sockets.delete(socket);
      this.#underWay.set(kid, this.#underWay.get(kid) - 1);
      socket.removeAllListeners().close();
    };
    socket.on("connect", () => {
      this.times.push(performance.now() - startedAt);
      this.byKey.set(kid, (this.byKey.get(kid) ?? 0) + 1);
      end();
    });
    socket.on("connect_error", (error) => {
      // The client tries again by itself, unless it is told that there is no point.
      if (socket.active) return (this.retries += 1);
      this.refused.push(error.message);
      end();
    });
  }

  /** Uses the tokens of a key no more. Returns one of them. */
  async giveUp(kid) {
    const [token] = this.tokens.get(kid);
    this.tokens.delete(kid);
    await eventually("no token of the key is under way", () => this.#underWay.get(kid) === 0);
    return token;
  }

  async finish() {
    clearInterval(this.timer);
    await eventually("everyone is in", () => this.done === this.begun && !this.#minting);
  }

  close() {
    clearInterval(this.timer);
    for (const socket of this.#sockets) socket.close();
  }
}

describe("users of a real OpenID provider", { timeout: 600_000 + ROTATIONS * ROTATION_SECONDS * 2000 }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), "sockeye-"));
  const [cleanUp, cleanUpLast] = [[], []];
  let keycloak;
  let team;
  let guarded;
  let system;
  let auth;

  before(async () => {
    keycloak = new Keycloak();
    cleanUpLast.push(() => keycloak.stop());
    await keycloak.start();
    const bridge = await new LogoutBridge().start();
    cleanUpLast.push(() => bridge.stop());
    const backchannel = { "backchannel.logout.url": bridge.url, "backchannel.logout.session.required": "true" };
    team = await keycloak.createRealm("team", {
      users: USERS,
      clients: [
        publicClient("app", { audience: "chat", attributes: backchannel }),
        publicClient("app-for-seconds", { audience: "chat", attributes: { "access.token.lifespan": "5" } }),
        publicClient("app-of-others", { audience: "billing" }),
      ],
    });
    // Keycloak tells about a token whom it is for, and nobody else.
    const resource = { clientId: "chat", publicClient: false, secret: "only-for-tests", standardFlowEnabled: false };
    guarded = await keycloak.createRealm("guarded", { users: USERS, clients: [publicClient("app", { audience: "chat" }), resource] });
    // All of them connect from one address.
    const manyOpens = ["--edge-address-opens-per-second=100000", "--edge-address-opens-burst=100000"];
    system = await startThreeProcesses({ edge: manyOpens, auth: writeSettings() });
    cleanUpLast.push(() => system.stop());
    auth = new AuthClient(await system.auth.address("auth-service", "grpc"));
    cleanUpLast.push(() => auth.close());
    Object.assign(bridge, { realm: team, auth });
  });
  afterEach(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
  });
  after(async () => {
    for (const end of cleanUpLast.splice(0).reverse()) await end();
    rmSync(folder, { recursive: true });
  });

  /** The auth service's flags, and the files that they name. */
  function writeSettings() {
    const issuers = path.join(folder, "issuers.toml");
    writeFileSync(path.join(folder, "client-secret"), "only-for-tests");
    writeFileSync(
      issuers,
      `[[issuer]]
      name = "${team.issuer}"
      audience = "chat"
      algorithms = ["RS256"]
      types = ["at+jwt"]
      discovery = true
      jwks_refresh = "${JWKS_REFRESH}"
      allow_http_on_loopback = true
      claims = { name = "preferred_username" }

      [[issuer]]
      name = "${guarded.issuer}"
      audience = "chat"
      allow_http_on_loopback = true
      [issuer.introspection]
      url = "${guarded.issuer}/protocol/openid-connect/token/introspect"
      client_id = "chat"
      client_secret_file = "client-secret"
      cache = "1s"
      `,
    );
    return [`--auth-issuers-file=${issuers}`, `--auth-revocations-file=${path.join(folder, "revocations")}`];
  }

  const enter = async ({ access_token: token }) => {
    const socket = await connected(system, null, { auth: { token } });
    cleanUp.push(() => socket.close());
    return socket;
  };
  /** What comes of it in the end: while nothing is decided, the client tries again. */
  const isRefused = async (token) => {
    const socket = connect(system, null, { auth: { token } });
    cleanUp.push(() => socket.close());
    let refusal;
    socket.on("connect_error", (error) => (refusal = socket.active ? undefined : error));
    await eventually("the client is in or refused", () => socket.connected || refusal);
    socket.close();
    if (refusal) assert.deepEqual([refusal.message, refusal.data], ["Unauthorized", { code: "unauthorized" }]);
    return refusal !== undefined;
  };

  test("log in by a code with a proof key, and are who the provider says", async () => {
    const alice = await enter(await team.logInByCode("alice", { client: "app" }));
    const bob = await enter(await team.logIn("bob", { client: "app" }));
    await ask(alice, "join", "lobby");
    await ask(bob, "join", "lobby");

    const heard = next(alice, "message");
    await ask(bob, "message", { room: "lobby", text: "hello" });

    assert.equal((await heard)[0].user.name, "bob");
  });

  test("are let in with nothing but an access token for this service", async () => {
    const { access_token: good, id_token: ofLogin, refresh_token: ofSession } = await team.logIn("alice", { client: "app" });
    const { access_token: forOthers } = await team.logIn("alice", { client: "app-of-others" });
    const ofOthers = await keycloak.adminToken();
    const forged = good.replace(/.{8}$/, "AAAAAAAA");

    const tokens = { good, ofLogin, ofSession, forOthers, ofOthers, forged };
    const reasons = {};
    for (const [name, token] of Object.entries(tokens)) reasons[name] = await auth.refusal(token);

    assert.deepEqual(reasons, {
      good: undefined,
      ofLogin: "MALFORMED",
      ofSession: "MALFORMED",
      forOthers: "AUDIENCE",
      ofOthers: "ISSUER",
      forged: "SIGNATURE",
    });
    for (const [name, token] of Object.entries(tokens)) assert.equal(await isRefused(token), name !== "good", name);
  });

  for (const [what, take] of [
    ["they log out", (grant) => guarded.logOut(grant, { client: "app" })],
    ["their token is taken back", (grant) => guarded.revoke(grant, { client: "app" })],
  ]) {
    test(`are refused once ${what}, where the provider is asked`, async () => {
      const grant = await guarded.logIn("alice", { client: "app" });
      const other = await guarded.logIn("alice", { client: "app" });
      assert.equal(await isRefused(grant.access_token), false);

      await take(grant);

      await eventually("the token is refused", () => isRefused(grant.access_token));
      assert.equal(await auth.refusal(grant.access_token), "INACTIVE");
      assert.equal(await isRefused(other.access_token), false, "the user's other session goes on");
    });
  }

  test("lose the sockets of a session when it ends, and no others", async () => {
    const phone = await team.logIn("alice", { client: "app" });
    const laptop = await team.logIn("alice", { client: "app" });
    const [onPhone, onLaptop] = [await enter(phone), await enter(laptop)];
    await ask(onLaptop, "join", "lobby");
    const lost = next(onPhone, "disconnect");

    await team.logOut(phone, { client: "app" });

    await lost;
    assert.equal(await auth.refusal(phone.access_token), "REVOKED");
    assert.equal((await ask(onLaptop, "presence", "lobby")).count, 1);
    assert.ok(onLaptop.connected);
  });

  test("keep their sockets beyond their tokens with the provider's next ones", async () => {
    const client = "app-for-seconds";
    let grant = await team.logIn("alice", { client });
    const { exp } = parts(grant.access_token).claims;
    const alice = await enter(grant);
    const { id } = alice;
    const lost = [];
    alice.on("disconnect", (reason) => lost.push(reason));
    const refreshed = [];
    const refresh = async () => {
      grant = await team.refresh(grant, { client });
      refreshed.push(await ask(alice, "auth:refresh", { token: grant.access_token }));
    };
    let refreshes = Promise.resolve();
    alice.on("auth:expiring", () => (refreshes = refreshes.then(refresh)));
    await ask(alice, "join", "lobby");
    // Tokens tell seconds: this one must expire in a later one than hers.
    const later = await eventually("a second has begun", async () => {
      const other = await team.logIn("bob", { client });
      return parts(other.access_token).claims.exp > exp && other;
    });
    const forgetful = await enter(later);

    await next(forgetful, "disconnect");
    alice.off("auth:expiring");
    await refreshes;

    assert.ok(refreshed.length > 0);
    for (const answer of refreshed) assert.equal(typeof answer.expires_at, "number", JSON.stringify(answer));
    const { users } = await ask(alice, "presence", "lobby");
    assert.deepEqual(users.map(({ name }) => name), ["alice"], "she is in her room");
    assert.deepEqual([alice.id, lost], [id, []], "as the socket that she was");
  });

  test(`are let in while keys turn over ${ROTATIONS} times, at ${CONNECTS_PER_SECOND} connects/s`, async (context) => {
    const grants = [];
    for (const user of USERS) grants.push(await team.logIn(user, { client: "app" }));
    const connects = new Connects(system, team, grants).start();
    cleanUp.push(() => connects.close());
    let [signs] = (await team.signingKeys()).map(({ kid }) => kid);
    const startedAt = performance.now();

    for (let rotation = 0; rotation < ROTATIONS; rotation += 1) {
      const signed = signs;
      signs = await team.addKey();
      await team.retireKey(signed);
      const enough = connects.done + CONNECTS_PER_SECOND * ROTATION_SECONDS;
      await eventually("tokens of the new key are in use", () => connects.byKey.has(signs));
      while (connects.done < enough) await eventually("clients connect", progress(connects));
      const removed = await connects.giveUp(signed);
      assert.equal(await auth.refusal(removed), undefined, "a key that signs no more is good");
      await team.removeKey(signed);
      await eventually("tokens of the removed key are refused", async () => (await auth.refusal(removed)) === "UNKNOWN_KEY");
      assert.ok(await isRefused(removed), "by the edge too");
    }
    const seconds = (performance.now() - startedAt) / 1000;
    await connects.finish();

    assert.deepEqual(connects.refused, []);
    context.diagnostic(
      `${connects.done} connects at ${Math.round(connects.done / seconds)}/s with tokens of ${connects.byKey.size} keys: ` +
        `0 refused, ${connects.retries} tried again; p50 ${share(connects.times, 0.5)} ms, ` +
        `p99 ${share(connects.times, 0.99)} ms, longest ${share(connects.times, 1)} ms`,
    );
  });
});

function progress(connects) {
  const before = connects.done;
  return () => connects.done > before;
}
