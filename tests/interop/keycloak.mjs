// Runs Keycloak, an OpenID provider: what its administrators, its users and its clients do.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";

import { DEADLINE_MS, eventually, ownAddress, TOOLS_DIR } from "./system.mjs";

const HOME = path.join(TOOLS_DIR, "keycloak");
const PASSWORD = "only-for-tests";
/** It makes all its tables first. */
const START_DEADLINE_MS = 4 * DEADLINE_MS;
/** Those of the master realm are good for a minute. */
const ADMIN_TOKEN_MS = 30_000;
/** Where users are sent back to with a code. Nobody listens: the test reads the address. */
const CALLBACK = "http://127.0.0.1/callback";

async function json(response, ...statuses) {
  const text = await response.text();
  assert.ok(statuses.includes(response.status), `${response.url.split("?")[0]}: ${response.status} ${text.slice(0, 300)}`);
  return text ? JSON.parse(text) : undefined;
}

/** One process, with a database that is gone when it ends. */
export class Keycloak {
  #adminToken;
  #adminTokenSince = -Infinity;

  async start() {
    const script = path.join(HOME, "bin/kc.sh");
    if (!existsSync(script)) throw new Error(`${script} is not there: run \`./test interop\``);
    const [host, port] = (await ownAddress()).split(":");
    this.url = `http://${host}:${port}`;
    const flags = ["--optimized", "--cache=local", "--http-enabled=true", "--hostname-strict=false", `--http-host=${host}`, `--http-port=${port}`];
    const environment = {
      ...process.env,
      JAVA_OPTS_KC_HEAP: "-Xms64m -Xmx512m",
      // It lives for a minute: code that is compiled quickly is better than code that is compiled well.
      JAVA_OPTS_APPEND: "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UseG1GC",
      KC_BOOTSTRAP_ADMIN_USERNAME: "admin",
      KC_BOOTSTRAP_ADMIN_PASSWORD: PASSWORD,
    };
    // The script starts Java as its child: a group of their own can be ended together.
    this.process = spawn(script, ["start", ...flags], { env: environment, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    this.ended = once(this.process, "exit");
    const log = [];
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on("data", (data) => log.push(data));
    const listens = async () => {
      if (this.process.exitCode !== null) throw new Error(`Keycloak ended:\n${Buffer.concat(log)}`);
      return (await fetch(`${this.url}/realms/master`).catch(() => null))?.ok;
    };
    await eventually("Keycloak listens", listens, START_DEADLINE_MS);
    return this;
  }

  async stop() {
    if (this.process.exitCode === null) process.kill(-this.process.pid, "SIGKILL");
    await this.ended;
  }

  /** A token of the realm of administrators. */
  async adminToken() {
    if (performance.now() - this.#adminTokenSince > ADMIN_TOKEN_MS) {
      const master = new Realm(this, "master");
      this.#adminTokenSince = performance.now();
      this.#adminToken = (await master.logIn("admin", { client: "admin-cli" })).access_token;
    }
    return this.#adminToken;
  }

  async admin(method, resource, body) {
    const headers = { authorization: `Bearer ${await this.adminToken()}`, "content-type": "application/json" };
    return fetch(`${this.url}/admin/realms${resource}`, { method, headers, body: body && JSON.stringify(body) });
  }

  /** Makes a realm with these clients, and users by these names. */
  async createRealm(name, { clients, users }) {
    const realm = {
      realm: name,
      enabled: true,
      clients,
      users: users.map((username) => ({
        username,
        enabled: true,
        email: `${username}@id.example`,
        firstName: username,
        lastName: "of the tests",
        credentials: [{ type: "password", value: PASSWORD }],
      })),
    };
    await json(await this.admin("POST", "", realm), 201);
    return new Realm(this, name);
  }
}

/** A client whose users' access tokens say what they are (RFC 9068), and are for `audience`. */
export function publicClient(clientId, { audience, attributes = {} }) {
  const mapper = {
    name: "audience",
    protocol: "openid-connect",
    protocolMapper: "oidc-audience-mapper",
    config: { "included.custom.audience": audience, "access.token.claim": "true", "introspection.token.claim": "true" },
  };
  return {
    clientId,
    publicClient: true,
    directAccessGrantsEnabled: true,
    redirectUris: [CALLBACK],
    protocolMappers: audience ? [mapper] : [],
    attributes: { "pkce.code.challenge.method": "S256", "access.token.header.type.rfc9068": "true", ...attributes },
  };
}

/** An issuer, as its users and their clients see it. */
class Realm {
  constructor(keycloak, name) {
    Object.assign(this, { keycloak, name, issuer: `${keycloak.url}/realms/${name}` });
  }

  #post(endpoint, form) {
    return fetch(`${this.issuer}/protocol/openid-connect/${endpoint}`, { method: "POST", body: new URLSearchParams(form) });
  }

  /** Logs a user in with the password, in a session of its own. */
  async logIn(username, { client }) {
    const form = { grant_type: "password", client_id: client, username, password: PASSWORD, scope: "openid" };
    return json(await this.#post("token", form), 200);
  }

  /** Logs a user in as a browser does: by the form of the provider, and a code with its proof key (RFC 7636). */
  async logInByCode(username, { client }) {
    const verifier = randomBytes(32).toString("base64url");
    const state = randomBytes(16).toString("base64url");
    const query = new URLSearchParams({
      response_type: "code",
      client_id: client,
      redirect_uri: CALLBACK,
      scope: "openid",
      state,
      code_challenge: createHash("sha256").update(verifier).digest("base64url"),
      code_challenge_method: "S256",
    });
    const page = await fetch(`${this.issuer}/protocol/openid-connect/auth?${query}`);
    const action = /action="([^"]+)"/.exec(await page.text())[1].replaceAll("&amp;", "&");
    const cookie = page.headers.getSetCookie().map((line) => line.split(";")[0]).join("; ");
    const body = new URLSearchParams({ username, password: PASSWORD });
    const sentBack = await fetch(action, { method: "POST", headers: { cookie }, body, redirect: "manual" });
    assert.equal(sentBack.status, 302, "the password is right");
    const answer = new URL(sentBack.headers.get("location")).searchParams;
    assert.equal(answer.get("state"), state);
    const form = { grant_type: "authorization_code", client_id: client, redirect_uri: CALLBACK, code: answer.get("code"), code_verifier: verifier };
    return json(await this.#post("token", form), 200);
  }

  async refresh({ refresh_token }, { client }) {
    return json(await this.#post("token", { grant_type: "refresh_token", client_id: client, refresh_token }), 200);
  }

  /** Ends the session. */
  async logOut({ refresh_token }, { client }) {
    return json(await this.#post("logout", { client_id: client, refresh_token }), 204);
  }

  /** Takes one access token back (RFC 7009). */
  async revoke({ access_token }, { client }) {
    return json(await this.#post("revoke", { client_id: client, token: access_token, token_type_hint: "access_token" }), 200);
  }

  /** The keys that it publishes. */
  async publishedKeys() {
    return (await json(await fetch(`${this.issuer}/protocol/openid-connect/certs`), 200)).keys;
  }

  /** The keys of its tokens, as an administrator sees them. */
  async signingKeys() {
    const { keys } = await json(await this.keycloak.admin("GET", `/${this.name}/keys`), 200);
    return keys.filter(({ algorithm, use }) => algorithm === "RS256" && use === "SIG");
  }

  async #component(kid) {
    const { providerId } = (await this.signingKeys()).find((key) => key.kid === kid);
    return `/${this.name}/components/${providerId}`;
  }

  /** Adds a key of the highest priority, which signs from now on. Returns its id. */
  async addKey() {
    const { id } = await json(await this.keycloak.admin("GET", `/${this.name}`), 200);
    const before = await this.signingKeys();
    const priority = 1 + Math.max(...before.map(({ providerPriority }) => providerPriority));
    const config = { priority: [String(priority)], enabled: ["true"], active: ["true"], keySize: ["2048"], algorithm: ["RS256"] };
    const component = { name: `rsa-${priority}`, providerId: "rsa-generated", providerType: "org.keycloak.keys.KeyProvider", parentId: id, config };
    await json(await this.keycloak.admin("POST", `/${this.name}/components`, component), 201);
    const known = new Set(before.map(({ kid }) => kid));
    return (await this.signingKeys()).find(({ kid }) => !known.has(kid)).kid;
  }

  /** Has a key sign no more. Its tokens are good. */
  async retireKey(kid) {
    const resource = await this.#component(kid);
    const component = await json(await this.keycloak.admin("GET", resource), 200);
    const config = { ...component.config, active: ["false"] };
    await json(await this.keycloak.admin("PUT", resource, { ...component, config }), 204);
  }

  /** Publishes a key no more. Its tokens are no good. */
  async removeKey(kid) {
    await json(await this.keycloak.admin("DELETE", await this.#component(kid)), 204);
  }
}

/** What a token says, unverified. */
export function parts(token) {
  const [header, claims] = token.split(".").slice(0, 2).map((part) => JSON.parse(Buffer.from(part, "base64url")));
  return { header, claims };
}
