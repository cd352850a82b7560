import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setUp, settled } from "./support/peer.mjs";

/** @param {ReturnType<typeof setUp>} peer */
function listen(peer, delegate = "x") {
  /** @type {any[]} */
  const seen = [];
  peer.page.on(delegate, (data) => void seen.push(data));
  return seen;
}

describe("pushes", () => {
  test("reach their delegates with what is known of them", () => {
    const peer = setUp();
    /** @type {any[]} */
    const calls = [];
    peer.page.on("growl", (...args) => void calls.push(args));
    peer.open();
    peer.socket.say("push", 4, "topic:news", "growl", { text: "hi" });
    assert.deepEqual(calls, [
      [{ text: "hi" }, { delegate: "growl", to: "topic:news", seq: 4, data: { text: "hi" } }],
    ]);
  });

  test("move the cursor; what is at or below it is dropped", () => {
    const peer = setUp();
    const seen = listen(peer);
    peer.open();
    for (const seq of [3, 3, 2, 5, 4, 5, 6]) peer.socket.say("push", seq, "page", "x", seq);
    assert.deepEqual(seen, [3, 5, 6]);
    assert.deepEqual(peer.page.cursor, { epoch: "e1", seq: 6 });
    peer.socket.say("ping", 9);
    peer.socket.say("ping", 7);
    peer.socket.say("ping", 0);
    assert.equal(peer.page.cursor?.seq, 9);
    peer.socket.say("push", 8, "page", "x", 8);
    assert.deepEqual(seen, [3, 5, 6]);
  });

  test("unnumbered ones are shown every time and move nothing", () => {
    const peer = setUp();
    const seen = listen(peer);
    peer.open();
    peer.socket.say("push", 0, "page", "x", "a");
    peer.socket.say("push", 0, "page", "x", "a");
    assert.deepEqual(seen, ["a", "a"]);
    assert.equal(peer.page.cursor, null);
  });

  test("a mere welcome is no position: the next hello leaves it to the token", () => {
    const peer = setUp();
    peer.open({ seq: 50, token: "T2" });
    const hello = peer.cutAndReturn().accept();
    assert.deepEqual([hello.token, "seq" in hello, "epoch" in hello], ["T2", false, false]);
  });

  test("a fresh token is for the next hello", () => {
    const peer = setUp();
    peer.open();
    peer.socket.say("token", "T7");
    assert.equal(peer.cutAndReturn().accept().token, "T7");
  });

  test("resumed: a replay overlaps, nothing is shown twice", () => {
    const peer = setUp();
    const seen = listen(peer);
    peer.open();
    for (const seq of [1, 2, 3]) peer.socket.say("push", seq, "page", "x", seq);
    peer.cutAndReturn().welcome();
    for (const seq of [2, 3, 4]) peer.socket.say("push", seq, "page", "x", seq);
    assert.deepEqual(seen, [1, 2, 3, 4]);
  });

  test("plain data, whatever its keys", () => {
    const peer = setUp();
    const seen = listen(peer, "__proto__");
    peer.open();
    peer.socket.raw('["push",1,"page","__proto__",{"__proto__":{"polluted":1}}]');
    assert.equal(/** @type {any} */ ({}).polluted, undefined);
    assert.ok(Object.hasOwn(seen[0], "__proto__"));
  });
});

describe("lost", () => {
  test("is told, and the cursor goes on from the server's", () => {
    for (const reason of ["epoch", "expired", "trimmed"]) {
      const peer = setUp();
      const seen = listen(peer);
      peer.open();
      peer.socket.say("push", 9, "page", "x", 9);
      peer.cutAndReturn().welcome({ resumed: false, lost: reason, epoch: "e2", seq: 4 });
      assert.deepEqual(peer.events("lost"), [{ reason }]);
      assert.deepEqual([peer.reloads, peer.page.state], [1, "open"]);
      assert.deepEqual(peer.page.cursor, { epoch: "e2", seq: 4 });
      peer.socket.say("push", 5, "page", "x", 5);
      assert.deepEqual(seen, [9, 5]);
    }
  });

  test("is told on a live socket too, overruling what was said", () => {
    const peer = setUp();
    peer.open();
    peer.socket.welcomeAgain({ resumed: false, lost: "trimmed", seq: 12 });
    assert.deepEqual([peer.events("lost"), peer.page.cursor], [[{ reason: "trimmed" }], { epoch: "e1", seq: 12 }]);
    assert.equal(peer.events("statechange").length, 2);
  });

  test("a canceled event reloads nothing", () => {
    const peer = setUp();
    peer.page.addEventListener("lost", (event) => event.preventDefault());
    peer.open({ resumed: false, lost: "expired", seq: 4 });
    assert.equal(peer.reloads, 0);
  });

  test("another epoch is a loss even when nobody says so", () => {
    const peer = setUp();
    const seen = listen(peer);
    peer.open();
    peer.socket.say("push", 9, "page", "x", 9);
    peer.cutAndReturn().welcome({ epoch: "e2", seq: 0 });
    peer.socket.say("push", 1, "page", "x", 1);
    assert.deepEqual([peer.events("lost"), seen], [[{ reason: "epoch" }], [9, 1]]);
  });
});

describe("forked", () => {
  test("the page goes on under its new id and token, and reloads under guard", () => {
    const peer = setUp();
    peer.open({ forked: true, page: "p2", token: "T2" });
    assert.deepEqual([peer.events("forked"), peer.page.id, peer.reloads], [[{ id: "p2" }], "p2", 1]);
    peer.socket.welcomeAgain({ forked: true, page: "p2" });
    assert.equal(peer.events("forked").length, 1);
    assert.equal(peer.cutAndReturn().accept().token, "T2");
  });

  test("a canceled event reloads nothing", () => {
    const peer = setUp();
    peer.page.addEventListener("forked", (event) => event.preventDefault());
    peer.open({ forked: true, page: "p2", token: "T2" });
    assert.equal(peer.reloads, 0);
  });
});

describe("delegates", () => {
  test("several listen, one function may listen twice, and each ends by itself", () => {
    const peer = setUp();
    /** @type {string[]} */
    const seen = [];
    const twice = () => void seen.push("twice");
    const control = new AbortController();
    const off = peer.page.on("x", twice);
    peer.page.on("x", twice);
    peer.page.on("x", () => void seen.push("signal"), { signal: control.signal });
    peer.page.on("x", () => void seen.push("never"), { signal: AbortSignal.abort() });
    peer.open();
    peer.socket.say("push", 1, "page", "x", 1);
    assert.deepEqual(seen.splice(0), ["twice", "twice", "signal"]);
    off();
    off();
    control.abort();
    peer.socket.say("push", 2, "page", "x", 1);
    assert.deepEqual(seen, ["twice"]);
  });

  test("one that throws harms no other, and is reported", async () => {
    const peer = setUp();
    peer.page.on("x", () => {
      throw new Error("at once");
    });
    peer.page.on("x", () => Promise.reject(new Error("later")));
    const seen = listen(peer);
    peer.open();
    peer.socket.say("push", 1, "page", "x", 1);
    await settled();
    assert.deepEqual(seen, [1]);
    assert.deepEqual(peer.events("error").map(({ error }) => error.message).sort(), ["at once", "later"]);
    assert.equal(peer.page.state, "open");
  });

  test("wrong calls throw", () => {
    const { page } = setUp();
    for (const name of ["", "a\nb", "x".repeat(201), "pagews.dom"]) {
      assert.throws(() => page.on(name, () => {}), TypeError);
    }
    assert.throws(() => page.on("x", /** @type {any} */ ("no function")), TypeError);
  });
});

describe("late delegates", () => {
  test("get what was held for them, in order, before what comes next", async () => {
    const peer = setUp();
    peer.open();
    for (const seq of [1, 2, 3]) peer.socket.say("push", seq, "page", seq === 2 ? "other" : "x", seq);
    assert.deepEqual(peer.events("unhandled").map(({ message }) => message.seq), [1, 2, 3]);
    const seen = listen(peer);
    assert.deepEqual(seen, [], "not before on() has returned");
    peer.socket.say("push", 4, "page", "x", 4);
    await settled();
    assert.deepEqual(seen, [1, 3, 4]);
    const other = listen(peer, "other");
    await settled();
    assert.deepEqual([other, seen], [[2], [1, 3, 4]]);
  });

  test("one that leaves at once takes nothing away", async () => {
    const peer = setUp();
    peer.open();
    peer.socket.say("push", 1, "page", "x", 1);
    peer.page.on("x", () => assert.fail("left before"))();
    await settled();
    const seen = listen(peer);
    await settled();
    assert.deepEqual(seen, [1]);
  });

  test("a canceled unhandled event holds nothing; one that makes someone listen delivers", async () => {
    const peer = setUp();
    /** @type {any[]} */
    const seen = [];
    peer.page.addEventListener("unhandled", (event) => {
      const { message } = /** @type {CustomEvent} */ (event).detail;
      if (message.delegate === "taken") event.preventDefault();
      else peer.page.on("y", (data) => void seen.push(data));
    });
    peer.open();
    peer.socket.say("push", 1, "page", "taken", 1, 8);
    peer.socket.say("push", 2, "page", "y", 2);
    assert.deepEqual(seen, [2]);
    assert.deepEqual(peer.socket.take(), [["ack", 8, true, null]]);
    const late = listen(peer, "taken");
    await settled();
    assert.deepEqual(late, []);
  });

  test("qos 0 is not held", async () => {
    const peer = setUp();
    peer.open();
    peer.socket.say("push", 0, "page", "x", 1);
    const seen = listen(peer);
    await settled();
    assert.deepEqual(seen, []);
    assert.equal(peer.events("unhandled").length, 1);
  });

  test("that nobody listens after 2 seconds is said once for each name", async (context) => {
    const warn = context.mock.method(console, "warn", () => {});
    const warned = () => warn.mock.calls.map(({ arguments: [text] }) => text);
    const peer = setUp();
    peer.open();
    for (const seq of [1, 2]) peer.socket.say("push", seq, "page", "lod", seq);
    peer.socket.say("push", 3, "page", "late", 3);
    listen(peer, "late");
    await peer.clock.advance(1999);
    assert.deepEqual(warned(), []);
    await peer.clock.advance(1);
    const words = "pagews: a push to 'lod' waits: nothing on this page has called on('lod') yet";
    assert.deepEqual(warned(), [words]);
    peer.socket.say("push", 4, "page", "lod", 4);
    await peer.clock.advance(10_000);
    assert.deepEqual(warned(), [words]);
  });

  test("more than 500, or 1 MiB, is lost, and said", async (context) => {
    for (const [count, data] of /** @type {const} */ ([[501, 1], [3, "x".repeat(400_000)]])) {
      const peer = setUp();
      peer.open();
      for (let seq = 1; seq < count; seq++) peer.socket.say("push", seq, "page", "x", data);
      assert.deepEqual(peer.events("lost"), []);
      /** @type {unknown[]} */
      const warnedOf = [];
      const warn = context.mock.method(console, "warn", () => warnedOf.push(peer.events("lost").length));
      peer.socket.say("push", count, "page", "x", data);
      assert.deepEqual(warnedOf, [0], "before the event");
      assert.match(String(warn.mock.calls[0]?.arguments[0]), /^pagews: more than 500 messages, or 1 MiB, wait for on\(\)/);
      assert.deepEqual([peer.events("lost"), peer.reloads], [[{ reason: "held" }], 1]);
      const seen = listen(peer);
      await settled();
      assert.deepEqual(seen, [], "never a part");
    }
  });
});

describe("messages()", () => {
  test("gives a delegate's data until its signal", async () => {
    const peer = setUp();
    const control = new AbortController();
    const lines = peer.page.messages("log", { signal: control.signal });
    peer.open();
    for (const seq of [1, 2]) peer.socket.say("push", seq, "page", "log", `line ${seq}`);
    const seen = [];
    for await (const line of lines) {
      seen.push(line);
      if (seen.length === 2) peer.socket.say("push", 3, "page", "log", "line 3");
      if (seen.length === 3) setImmediate(() => control.abort());
    }
    assert.deepEqual(seen, ["line 1", "line 2", "line 3"]);
    peer.socket.say("push", 4, "page", "log", "line 4");
    assert.equal(peer.events("unhandled").length, 1, "it listens no longer");
  });

  test("ends with a break, and at once with a signal that was", async () => {
    const peer = setUp();
    peer.open();
    const lines = peer.page.messages("log");
    peer.socket.say("push", 1, "page", "log", 1);
    for await (const line of lines) {
      assert.equal(line, 1);
      break;
    }
    assert.deepEqual(await lines.next(), { done: true, value: undefined });
    for await (const line of peer.page.messages("log", { signal: AbortSignal.abort() })) assert.fail(line);
  });

  test("a slow reader loses the oldest, counted and reported once", async () => {
    const peer = setUp();
    const lines = peer.page.messages("log");
    peer.open();
    for (let seq = 1; seq <= 1003; seq++) peer.socket.say("push", seq, "page", "log", seq);
    assert.equal(lines.dropped, 3);
    assert.deepEqual(peer.events("error").map(({ error }) => error.code), ["queuefull"]);
    assert.deepEqual(await lines.next(), { done: false, value: 4 });
  });
});
