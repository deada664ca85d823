// The JavaScript clients: the newest, in Node and in Chromium, and the last of 3.x.

import { createRequire } from "node:module";
import path from "node:path";

import { launch, openTab } from "./browser.mjs";
import { Driver, startProgram } from "./driver.mjs";
import { testClient } from "./every-client.mjs";

const { resolve } = createRequire(import.meta.url);
const DRIVER = path.join(import.meta.dirname, "javascript");
const BUNDLE = path.join(path.dirname(resolve("socket.io-client/package.json")), "dist/socket.io.js");
const ORIGIN = "http://shop.example";

/** A page of another origin than the edge's, with the client's own bundle in it. */
async function startPage() {
  const browser = await launch();
  const { page } = await openTab(browser);
  await page.route(`${ORIGIN}/`, (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html>" }));
  for (const module of ["client.mjs", "bytes.mjs"]) {
    await page.route(`${ORIGIN}/${module}`, (route) => route.fulfill({ path: path.join(DRIVER, module), contentType: "text/javascript" }));
  }
  let carriedOut;
  const driver = new Driver(
    (command) => {
      carriedOut = page.evaluate((told) => window.carryOut(told), command);
    },
    async () => {
      await carriedOut;
      await browser.close();
    },
  );
  await page.exposeFunction("report", (record) => driver.accept(record));
  await page.goto(`${ORIGIN}/`);
  await page.addScriptTag({ path: BUNDLE });
  await page.evaluate(async () => {
    const { createClient } = await import("/client.mjs");
    window.carryOut = createClient(window.io, window.report);
  });
  return driver;
}

testClient("socket.io-client 4 in Chromium", { start: startPage, edge: [`--edge-cors-origin=${ORIGIN}`] });

for (const [version, name] of [[4, "socket.io-client"], [3, "socket.io-client-3"]]) {
  testClient(`socket.io-client ${version} in Node`, {
    start: () => startProgram(process.execPath, [path.join(DRIVER, "main.mjs"), name]),
  });
}
