// Certificates for edges, made by OpenSSL.

import { execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";

/**
 * A certificate and its key, as files in a folder. An elliptic key, valid for less than two weeks: browsers take such a
 * certificate by its hash. `address` is what clients look for in it.
 */
export function makeCertificate(folder, address) {
  const [certificate, key] = ["certificate.pem", "key.pem"].map((name) => path.join(folder, name));
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "10", "-subj", "/CN=localhost"];
  const names = address ? ["-addext", `subjectAltName=IP:${address}`] : [];
  execFileSync("openssl", ["req", "-x509", ...kind, ...names, "-keyout", key, "-out", certificate], { stdio: "ignore" });
  const pem = readFileSync(certificate);
  return { certificate, key, pem, hash: [...createHash("sha256").update(new X509Certificate(pem).raw).digest()] };
}
