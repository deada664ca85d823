// Certificates for edges, and for services that show each other some, made by OpenSSL.

import { execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/**
 * A certificate and its key, as files in a folder. An elliptic key, valid for less than two weeks: browsers take such a
 * certificate by its hash. `address` is what clients look for in it.
 */
export function makeCertificate(folder, address) {
  const [certificate, key] = ["certificate.pem", "key.pem"].map((name) => path.join(folder, name));
  const kind = [...NEW_KEY, "-days", "10", "-subj", "/CN=localhost"];
  const names = address ? ["-addext", `subjectAltName=IP:${address}`] : [];
  openssl("req", "-x509", ...kind, ...names, "-keyout", key, "-out", certificate);
  const pem = readFileSync(certificate);
  const { raw, publicKey } = new X509Certificate(pem);
  const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
  const keyHash = sha256(publicKey.export({ type: "spki", format: "der" })).toString("base64");
  return { certificate, key, pem, hash: [...sha256(raw)], keyHash };
}

/** An authority of an operator's own, in a folder of its own. */
export class Authority {
  constructor() {
    this.folder = mkdtempSync(path.join(tmpdir(), "sockeye-authority-"));
    openssl("req", "-x509", ...NEW_KEY, "-days", "10", "-subj", "/CN=authority", "-keyout", this.#file("ca.key"), "-out", this.#file("ca.pem"));
  }

  /** The flags that give a service, whose settings begin like this, a certificate for a name and an address. */
  flags(service, name, address) {
    const own = (kind) => this.#file(`${name}-${address}.${kind}`);
    writeFileSync(own("ext"), `subjectAltName=DNS:${name},IP:${address}\n`);
    openssl("req", "-new", ...NEW_KEY, "-subj", "/CN=service", "-keyout", own("key"), "-out", own("csr"));
    const ca = ["-CA", this.#file("ca.pem"), "-CAkey", this.#file("ca.key")];
    openssl("x509", "-req", ...ca, "-days", "10", "-extfile", own("ext"), "-in", own("csr"), "-out", own("pem"));
    const files = { cert: own("pem"), key: own("key"), ca: this.#file("ca.pem") };
    return Object.entries(files).map(([kind, file]) => `--${service}-grpc-tls-${kind}-file=${file}`);
  }

  remove() {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #file(name) {
    return path.join(this.folder, name);
  }
}

function openssl(...args) {
  execFileSync("openssl", args, { stdio: "ignore" });
}
