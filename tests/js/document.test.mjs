import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { followState, parseText, textAt } from "../../static/dom.js";
import { followLifecycle } from "../../static/lifecycle.js";
import { PageError, createPage, pagews } from "../../static/pagews.js";
import { setUp } from "./support/peer.mjs";

describe("the life of a document", () => {
  function follow() {
    const peer = setUp();
    const document = Object.assign(new EventTarget(), { visibilityState: "hidden" });
    const window = Object.assign(new EventTarget(), { document });
    followLifecycle(peer.page, /** @type {any} */ (window));
    const page = (/** @type {string} */ type, persisted = false) =>
      window.dispatchEvent(Object.assign(new Event(type), { persisted }));
    peer.open();
    return { peer, window, document, page };
  }

  test("pagehide into the back-forward cache, and out of it", () => {
    const { peer, page } = follow();
    page("pagehide", true);
    assert.deepEqual([peer.page.state, peer.socket.take()], ["waiting", []]);
    page("pageshow", true);
    assert.equal(peer.socket.accept().attempt, 2);
  });

  test("pagehide for good says goodbye", () => {
    const { peer, page } = follow();
    page("pagehide");
    assert.deepEqual([peer.page.state, peer.socket.take()], ["closed", [["bye"]]]);
  });

  test("frozen and thawed", () => {
    const { peer, document } = follow();
    document.dispatchEvent(new Event("freeze"));
    assert.notEqual(peer.socket.closed, null);
    document.dispatchEvent(new Event("resume"));
    assert.equal(peer.sockets.length, 2);
  });

  test("seen again, and online again", () => {
    const { peer, window, document } = follow();
    peer.socket.cut();
    document.dispatchEvent(new Event("visibilitychange"));
    assert.equal(peer.sockets.length, 1, "hidden");
    document.visibilityState = "visible";
    document.dispatchEvent(new Event("visibilitychange"));
    assert.equal(peer.sockets.length, 2);
    window.dispatchEvent(new Event("online"));
    assert.equal(peer.sockets.length, 3);
  });

  test("offline", () => {
    const { peer, window } = follow();
    window.dispatchEvent(new Event("offline"));
    assert.equal(peer.page.state, "waiting");
  });
});

describe("markup", () => {
  test("html shows the state, and a loss for good", () => {
    const peer = setUp();
    const root = { dataset: /** @type {Record<string, string>} */ ({}) };
    const showLost = followState(peer.page, /** @type {any} */ ({ documentElement: root }));
    assert.equal(root.dataset.pagewsState, "idle");
    peer.open();
    assert.equal(root.dataset.pagewsState, "open");
    showLost();
    assert.equal(root.dataset.pagewsState, "lost");
    peer.socket.cut();
    assert.equal(root.dataset.pagewsState, "lost");
  });

  test("delegate:path", () => {
    assert.deepEqual(parseText("clock"), { delegate: "clock", path: [] });
    assert.deepEqual(parseText("clock:now"), { delegate: "clock", path: ["now"] });
    assert.deepEqual(parseText("a:b:rows.0.name"), { delegate: "a:b", path: ["rows", "0", "name"] });
  });

  test("what is at a path, as text", () => {
    const data = JSON.parse('{"a":{"b":[1,{"c":false}]},"n":null,"__proto__":"own"}');
    for (const [path, text] of /** @type {const} */ ([
      ["a.b.0", "1"],
      ["a.b.1.c", "false"],
      ["a.b.1", '{"c":false}'],
      ["n", ""],
      ["n.x", ""],
      ["missing.x", ""],
      ["toString", ""],
      ["a.constructor", ""],
      ["__proto__", "own"],
    ])) {
      assert.equal(textAt(data, path.split(".")), text, path);
    }
    assert.equal(textAt("whole", []), "whole");
    assert.equal(textAt("length", ["length"]), "");
  });
});

describe("a page without an include", () => {
  test("says so once, does not connect, and what is sent fails at once", async (context) => {
    const warn = context.mock.method(console, "warn", () => {});
    const peer = setUp({ token: null, included: false });
    for (const refused of [peer.page.send("x"), peer.page.join("x"), peer.page.send("x", 1, { qos: 0 })]) {
      await assert.rejects(refused, { name: "PageError", code: "closed", message: /put {{ pagews_script\(\) }} into/ });
    }
    peer.page.connect();
    peer.page.reconnect();
    await assert.rejects(peer.page.send("x"), { code: "closed" });
    await assert.rejects(peer.page.ready, { code: "closed" });
    assert.deepEqual([peer.page.state, peer.sockets, peer.asked], ["idle", [], []]);
    assert.deepEqual(
      warn.mock.calls.map(({ arguments: [text] }) => text),
      ["pagews: this page has no include: put {{ pagews_script() }} into its template"],
    );
  });
});

describe("the entry", () => {
  test("is one singleton, however often it is imported", async () => {
    const address = new URL("../../static/pagews.js?again", import.meta.url);
    const again = await import(address.href);
    assert.notEqual(again.createPage, undefined);
    assert.equal(again.pagews, pagews);
    assert.equal(Reflect.get(globalThis, Symbol.for("pagews")), pagews);
  });

  test("without a document the page is idle", () => {
    assert.equal(pagews.state, "idle");
  });

  test("exports what applications use", async () => {
    assert.deepEqual(Object.keys(await import("../../static/pagews.js")).sort(), ["PageError", "createPage", "pagews"]);
    assert.equal(new PageError("x").code, "x");
    assert.notEqual(createPage({ base: "http://server.test/pagews" }), pagews);
  });
});
