// Calls the auth service, from the public contract.

import { credentials, loadPackageDefinition, status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import path from "node:path";

import { DEADLINE_MS, eventually } from "./system.mjs";

const CONTRACTS = path.join(import.meta.dirname, "../../proto");

export class AuthClient {
  #service;
  #revocations;

  constructor(address) {
    const files = ["auth", "revocation"].map((name) => `sockeye/auth/v1/${name}.proto`);
    const definition = loadSync(files, { includeDirs: [CONTRACTS], keepCase: true, longs: String, enums: String, oneofs: true });
    const { AuthService, RevocationService } = loadPackageDefinition(definition).sockeye.auth.v1;
    this.#service = new AuthService(address, credentials.createInsecure());
    this.#revocations = new RevocationService(address, credentials.createInsecure());
  }

  /** Why a token is refused, or nothing for one that is good. Asks again while nothing is decided, as an edge does. */
  async refusal(token) {
    const decided = await eventually("something is decided", () =>
      call(this.#service, "Authenticate", { token }).catch((error) => {
        if (error.code !== status.UNAVAILABLE) throw error;
      }),
    );
    return decided.refusal?.reason.replace("REFUSAL_REASON_", "");
  }

  /** Takes back all tokens of a session. */
  revokeSession(issuer, session) {
    return call(this.#revocations, "Revoke", { target: { issuer, session } });
  }

  close() {
    this.#service.close();
    this.#revocations.close();
  }
}

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline: Date.now() + DEADLINE_MS }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}
