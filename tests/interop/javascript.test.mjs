// The JavaScript clients: the newest, and the last of 3.x and 2.x; in Node and in Chromium.

import { createRequire } from "node:module";
import path from "node:path";

import { launch, openTab } from "./browser.mjs";
import { Driver, startProgram } from "./driver.mjs";
import { testClient } from "./every-client.mjs";

const { resolve } = createRequire(import.meta.url);
const DRIVER = path.join(import.meta.dirname, "javascript");
const bundle = (name) => path.join(path.dirname(resolve(`${name}/package.json`)), "dist/socket.io.js");
const ORIGIN = "http://shop.example";

/** They enter the main namespace unasked, and are told the data of a refusal alone. */
const VERSION_2 = { edge: ["--edge-allow-eio3"], refusal: { message: undefined, data: { code: "unauthorized" } }, namespacesEntered: 2 };

/** A page of another origin than the edge's, with the client's own bundle in it. */
async function startPage(name) {
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
  await page.addScriptTag({ path: bundle(name) });
  await page.evaluate(async () => {
    const { createClient } = await import("/client.mjs");
    window.carryOut = createClient(window.io, window.report);
  });
  return driver;
}

const CLIENTS = [[4, "socket.io-client", {}], [3, "socket.io-client-3", {}], [2, "socket.io-client-2", VERSION_2]];

for (const [version, name, { edge = [], ...terms }] of CLIENTS) {
  testClient(`socket.io-client ${version} in Node`, {
    ...terms,
    start: () => startProgram(process.execPath, [path.join(DRIVER, "main.mjs"), name]),
    edge,
  });
  testClient(`socket.io-client ${version} in Chromium`, {
    ...terms,
    start: () => startPage(name),
    edge: [`--edge-cors-origin=${ORIGIN}`, ...edge],
  });
}
