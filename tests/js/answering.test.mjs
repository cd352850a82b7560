import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PageError } from "../../static/errors.js";
import { settled, setUp } from "./support/peer.mjs";

/**
 * Pushes with receipt 7 to listeners that do as told; gives what was answered.
 *
 * @param {(() => unknown)[]} listeners
 */
async function answerOf(...listeners) {
  const peer = setUp();
  for (const listener of listeners) peer.page.on("x", listener);
  peer.open();
  peer.socket.say("push", 1, "page", "x", null, 7);
  await settled();
  return peer.socket.take();
}

function never() {
  return new Promise(() => {});
}

function fails() {
  throw new Error("no");
}

test("the answer is what the delegate returned, or its promise", async () => {
  assert.deepEqual(await answerOf(() => ({ yes: 1 })), [["ack", 7, true, { yes: 1 }]]);
  assert.deepEqual(await answerOf(async () => false), [["ack", 7, true, false]]);
  assert.deepEqual(await answerOf(() => null), [["ack", 7, true, null]]);
  assert.deepEqual(await answerOf(() => undefined), [["ack", 7, true, null]]);
});

test("of several the first that returns something", async () => {
  const silent = () => undefined;
  assert.deepEqual(await answerOf(silent, async () => undefined, () => "b", () => "c"), [["ack", 7, true, "b"]]);
  assert.deepEqual(await answerOf(never, () => "b"), [["ack", 7, true, "b"]]);
  assert.deepEqual(await answerOf(fails, () => "b"), [["ack", 7, true, "b"]]);
});

test("a delegate that throws answers with its error", async () => {
  assert.deepEqual(await answerOf(fails), [["ack", 7, false, { code: "internal", message: "no" }]]);
  assert.deepEqual(await answerOf(() => undefined, fails), [["ack", 7, false, { code: "internal", message: "no" }]]);
  assert.deepEqual(await answerOf(() => Promise.reject(new PageError("busy", "later"))), [
    ["ack", 7, false, { code: "busy", message: "later" }],
  ]);
  assert.deepEqual(await answerOf(() => Promise.reject("text")), [
    ["ack", 7, false, { code: "internal", message: "text" }],
  ]);
});

test("an answer that cannot be sent is an error on both sides", async () => {
  const [[kind, receipt, ok, error]] = await answerOf(() => 10n);
  assert.deepEqual([kind, receipt, ok, error.code], ["ack", 7, false, "internal"]);
  const peer = setUp();
  peer.page.on("x", () => "x".repeat(100));
  peer.open({ limits: { message: 100 } });
  peer.socket.say("push", 1, "page", "x", null, 7);
  await settled();
  assert.deepEqual(peer.socket.take(), [["ack", 7, false, { code: "toolarge", message: "the answer is too large" }]]);
  assert.equal(peer.events("error")[0].error.code, "toolarge");
});

test("bytes answer too", async () => {
  const [message] = await answerOf(() => new Uint8Array([1, 2]));
  assert.ok(message instanceof Uint8Array);
});

describe("kept until acked", () => {
  /** @param {number[]} runs */
  function asked(runs) {
    const peer = setUp();
    peer.page.on("x", (data) => {
      runs.push(data);
      return data * 10;
    });
    peer.open();
    return peer;
  }

  test("repeated after a cut, forgotten when filed", async () => {
    /** @type {number[]} */
    const runs = [];
    const peer = asked(runs);
    peer.socket.say("push", 1, "page", "x", 1, 7);
    peer.socket.say("push", 2, "page", "x", 2, 8);
    await settled();
    peer.socket.say("acked", 7);
    peer.cutAndReturn().welcome();
    assert.deepEqual(peer.socket.take(), [["ack", 8, true, 20]]);
    peer.socket.say("acked", 8);
    peer.cutAndReturn().welcome();
    assert.deepEqual(peer.socket.take(), []);
    assert.deepEqual(runs, [1, 2]);
  });

  test("a repeated push gets the stored answer; the delegate does not run again", async () => {
    /** @type {number[]} */
    const runs = [];
    const peer = asked(runs);
    peer.socket.say("push", 1, "page", "x", 1, 7);
    await settled();
    peer.socket.take();
    peer.socket.say("push", 1, "page", "x", 1, 7);
    assert.deepEqual([peer.socket.take(), runs], [[["ack", 7, true, 10]], [1]]);
    peer.socket.say("acked", 7);
    peer.socket.say("push", 1, "page", "x", 1, 7);
    await settled();
    assert.deepEqual([peer.socket.take(), runs], [[], [1]], "filed and seen: nothing is left to say");
  });

  test("repeated while the delegate still runs: one run, one answer", async () => {
    const peer = setUp();
    let runs = 0;
    /** @type {(value: string) => void} */
    let finish = () => {};
    peer.page.on("x", () => {
      runs++;
      return new Promise((resolve) => (finish = resolve));
    });
    peer.open();
    peer.socket.say("push", 1, "page", "x", null, 7);
    peer.cutAndReturn().welcome();
    peer.socket.say("push", 1, "page", "x", null, 7);
    finish("done");
    await settled();
    assert.deepEqual([runs, peer.socket.take()], [1, [["ack", 7, true, "done"]]]);
  });

  test("found while there is no link: written with the next", async () => {
    const peer = setUp();
    /** @type {(value: string) => void} */
    let finish = () => {};
    peer.page.on("x", () => new Promise((resolve) => (finish = resolve)));
    peer.open();
    peer.socket.say("push", 1, "page", "x", null, 7);
    peer.socket.cut();
    finish("done");
    await settled();
    peer.page.reconnect();
    peer.socket.welcome();
    assert.deepEqual(peer.socket.take(), [["ack", 7, true, "done"]]);
  });

  test("a late delegate answers what was held for it", async () => {
    const peer = setUp();
    peer.open();
    peer.socket.say("push", 1, "page", "x", 4, 7);
    peer.socket.say("push", 0, "page", "x", 5, 8);
    await settled();
    assert.deepEqual(peer.socket.take(), []);
    peer.page.on("x", (data) => data);
    await settled();
    assert.deepEqual(peer.socket.take(), [["ack", 7, true, 4], ["ack", 8, true, 5]]);
  });

  test("a new epoch has receipts of its own", async () => {
    /** @type {number[]} */
    const runs = [];
    const peer = asked(runs);
    peer.socket.say("push", 1, "page", "x", 1, 7);
    await settled();
    peer.cutAndReturn().welcome({ epoch: "e2", resumed: false, lost: "epoch", seq: 0 });
    assert.deepEqual(peer.socket.take(), []);
    peer.socket.say("push", 1, "page", "x", 2, 7);
    await settled();
    assert.deepEqual([peer.socket.take(), runs], [[["ack", 7, true, 20]], [1, 2]]);
  });

  test("beyond 1,000, or 1 MiB, the oldest is forgotten, and that is reported", async () => {
    for (const [count, answer] of /** @type {const} */ ([[1001, 1], [3, "x".repeat(400_000)]])) {
      const peer = setUp();
      peer.page.on("x", () => answer);
      peer.open({ limits: { message: 1_000_000 } });
      for (let seq = 1; seq <= count; seq++) peer.socket.say("push", seq, "page", "x", null, seq);
      await settled();
      assert.deepEqual(peer.events("error").map(({ error }) => error.code), ["queuefull"]);
      const late = peer.cutAndReturn();
      late.welcome({ limits: { message: 1_000_000 } });
      assert.deepEqual(late.take().map(([, receipt]) => receipt), Array.from({ length: count - 1 }, (_, n) => n + 2));
    }
  });

  test("1009 over an answer: an error takes its place", async () => {
    const peer = setUp();
    peer.page.on("x", () => "x".repeat(200));
    peer.open();
    void peer.page.send("x", "small");
    peer.socket.say("push", 1, "page", "x", null, 7);
    await settled();
    peer.socket.cut(1009, "");
    peer.page.wake();
    peer.socket.welcome();
    const [[kind, receipt, ok, error], send] = peer.socket.take();
    assert.deepEqual([kind, receipt, ok, error.code, send[0]], ["ack", 7, false, "toolarge", "send"]);
  });
});
