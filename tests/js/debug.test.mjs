import assert from "node:assert/strict";
import { test } from "node:test";
import { setUp } from "./support/peer.mjs";

test("threat 9: debug shows frames both ways, and no token", (context) => {
  const debug = context.mock.method(console, "debug", () => {});
  const peer = setUp({ token: "SECRET1" });
  peer.page.debug();
  peer.open({ token: "SECRET2" });
  peer.socket.say("token", "SECRET3");
  peer.socket.say("push", 1, "page", "x", { text: "shown", token: "SECRET4" });
  void peer.page.send("y", { text: "sent" });
  const shown = debug.mock.calls.map((call) => call.arguments.join(" ")).join("\n");
  for (const part of ["in", "out", "hello", "welcome", "shown", "sent"]) assert.match(shown, new RegExp(part));
  assert.doesNotMatch(shown, /SECRET/);
  const before = debug.mock.callCount();
  peer.page.debug(false);
  peer.socket.say("ping", 2);
  assert.equal(debug.mock.callCount(), before);
});

test("the browser remembers it for pages to come, until it is taken back", (context) => {
  const debug = context.mock.method(console, "debug", () => {});
  /** @type {Map<string, string>} */
  const stored = new Map();
  const localStorage = {
    getItem: (/** @type {string} */ key) => stored.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => stored.set(key, value),
    removeItem: (/** @type {string} */ key) => stored.delete(key),
  };
  // As a property of its own: later releases of Node have one that cannot be assigned.
  const none = { value: undefined, configurable: true };
  const before = Object.getOwnPropertyDescriptor(globalThis, "localStorage") ?? none;
  Object.defineProperty(globalThis, "localStorage", { value: localStorage, configurable: true });
  context.after(() => Object.defineProperty(globalThis, "localStorage", before));
  const traces = () => {
    debug.mock.resetCalls();
    setUp().open();
    return debug.mock.callCount() > 0;
  };
  assert.equal(traces(), false);
  setUp().page.debug();
  assert.equal(traces(), true);
  setUp().page.debug(false);
  assert.equal(traces(), false);
});

test("an error nobody takes goes to the console", async (context) => {
  const error = context.mock.method(console, "error", () => {});
  const { createPage } = await import("../../static/page.js");
  const page = createPage({ base: "http://server.test/pagews", token: "T1", transport: "websocket", WebSocket: /** @type {any} */ (class {
    constructor() {
      throw new Error("not here");
    }
  }) });
  page.connect();
  page.close();
  assert.equal(error.mock.callCount(), 1);
});
