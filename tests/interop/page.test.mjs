// The page of the all-in-one, in two tabs of a real browser.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { keepScreenshot, launch, openTab } from "./browser.mjs";
import { startAllInOne } from "./system.mjs";

const PHONE = { viewport: { width: 375, height: 667 }, hasTouch: true, isMobile: true };

describe("the page", () => {
  let browser;
  let system;
  const tabs = [];

  before(async () => {
    browser = await launch();
    system = await startAllInOne({ flags: ["--trace-ui=http://traces.example", "--otlp-endpoint=http://127.0.0.1:9"] });
  });
  after(async () => {
    await browser?.close();
    await system?.stop();
  });
  afterEach(async () => {
    const errors = tabs.flatMap((tab) => tab.errors);
    for (const { context } of tabs.splice(0)) await context.close();
    assert.deepEqual(errors, [], "the page raises no errors");
  });

  /** A tab in which `name` has entered and joined `room`. */
  async function enter(name, room, options) {
    const tab = await openTab(browser, options);
    tabs.push(tab);
    const { page } = tab;
    await page.goto(system.url);
    await page.fill("#name", name);
    await page.click("#enter");
    await page.waitForSelector('#state[data-state="connected"]');
    await page.fill("#room", room);
    await page.click("#join");
    await page.waitForSelector(`#rooms [data-room="${room}"]`);
    return page;
  }

  const say = async (page, text) => {
    await page.fill("#text", text);
    await page.click("#send");
  };
  const message = (page, text) => page.locator("#messages li.message:not(.pending)").filter({ hasText: text });

  test("lets two people chat", async () => {
    const alice = await enter("Alice", "kitchen");
    const bob = await enter("Bob", "kitchen");

    await say(alice, "Hello from Alice");
    await message(bob, "Hello from Alice").waitFor();
    await say(bob, "Hello from Bob <b>& co</b>");
    await message(alice, "Hello from Bob").waitFor();

    const received = message(alice, "Hello from Bob");
    assert.equal(await received.locator(".user").textContent(), "Bob");
    assert.equal(await received.locator(".text").textContent(), "Hello from Bob <b>& co</b>");
    assert.match(await received.locator(".time").textContent(), /\d/);
    await message(bob, "Hello from Bob").waitFor();
    assert.equal(await message(bob, "Hello from Bob").count(), 1, "one's own message stands there once");
    await alice.locator("#people li").nth(1).waitFor();
    assert.deepEqual((await alice.locator("#people li").allInnerTexts()).map((text) => /Alice|Bob/.exec(text)?.[0]).sort(), [
      "Alice",
      "Bob",
    ]);
    await keepScreenshot(alice, "page-alice");
    await keepScreenshot(bob, "page-bob");
  });

  test("shows who is typing, and who leaves", async () => {
    const alice = await enter("Alice", "hall");
    const bob = await enter("Bob", "hall");
    await alice.locator("#people li").nth(1).waitFor();

    await bob.locator("#text").pressSequentially("I am wri");
    await alice.locator("#typing").filter({ hasText: "Bob" }).waitFor();
    await keepScreenshot(alice, "page-typing");

    await bob.context().close();
    await alice.waitForFunction(() => document.querySelectorAll("#people li").length === 1);
  });

  test("shows what was said before one came", async () => {
    const alice = await enter("Alice", "archive");
    await say(alice, "for the record");
    await message(alice, "for the record").waitFor();

    const bob = await enter("Bob", "archive");

    await message(bob, "for the record").waitFor();
  });

  test("keeps rooms apart", async () => {
    const alice = await enter("Alice", "left room");
    await say(alice, "only on the left");
    await message(alice, "only on the left").waitFor();

    await alice.fill("#room", "right room");
    await alice.click("#join");
    await alice.waitForSelector('#rooms [data-room="right room"]');
    await say(alice, "only on the right");
    await message(alice, "only on the right").waitFor();

    assert.equal(await message(alice, "only on the left").count(), 0);
  });

  test("links each message to its trace", async () => {
    const alice = await enter("Alice", "traced");
    await say(alice, "follow me");

    const link = message(alice, "follow me").locator("a[href^='http://traces.example']");
    await link.waitFor();
    assert.match(await link.getAttribute("href"), /[0-9a-f]{32}/);
  });

  test("works on a phone", async () => {
    const alice = await enter("Alice", "pocket", PHONE);
    await say(alice, "from my pocket");
    await message(alice, "from my pocket").waitFor();

    const width = await alice.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= PHONE.viewport.width, `nothing to scroll sideways: ${width}`);
    assert.ok(await alice.locator("#text").isVisible());
    await keepScreenshot(alice, "page-phone");
  });

  test("says that the connection is gone and comes back by itself", async () => {
    const own = await startAllInOne();
    const shared = system;
    system = own;
    try {
      const alice = await enter("Alice", "lobby");
      await own.allInOne.stop("SIGTERM");
      await alice.waitForSelector('#state:not([data-state="connected"])');
      await keepScreenshot(alice, "page-offline");

      await own.allInOne.start();
      await own.ready();
      await alice.waitForSelector('#state[data-state="connected"]');
      await say(alice, "back again");
      await message(alice, "back again").waitFor();
    } finally {
      system = shared;
      await own.stop();
    }
  });
});
