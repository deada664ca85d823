// Headless Chromium for tests.

import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

import { DEADLINE_MS } from "./system.mjs";

const CANDIDATES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/snap/bin/chromium"];
const OUTPUT_DIR = path.join(import.meta.dirname, "../../test-output");

/** Starts the browser that `CHROMIUM` names, or one that is installed. It trusts a certificate with this SHA-256 of its public key. */
export async function launch({ trustedKey } = {}) {
  const executablePath = process.env.CHROMIUM ?? CANDIDATES.find((candidate) => existsSync(candidate));
  if (!executablePath) throw new Error("no Chromium: install it, or name it in CHROMIUM");
  return chromium.launch({
    executablePath,
    timeout: DEADLINE_MS,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // Asks a person whether a page may open connections to this machine.
      "--disable-features=LocalNetworkAccessChecks",
      ...(trustedKey ? [`--ignore-certificate-errors-spki-list=${trustedKey}`] : []),
    ],
  });
}

/** Opens a page whose errors end up in `errors`. */
export async function openTab(browser, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  return { page, context, errors };
}

/** Keeps what the page looks like. */
export async function keepScreenshot(page, name) {
  mkdirSync(OUTPUT_DIR, { recursive: true });
  await page.screenshot({ path: path.join(OUTPUT_DIR, `${name}.png`) });
}
