import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { runInNewContext } from "node:vm";
import { PageError } from "../../static/errors.js";
import { outcome, settled, setUp } from "./support/peer.mjs";

test("send resolves with the delegate's result, join and leave likewise", async () => {
  const peer = setUp();
  peer.open();
  const { page } = peer;
  const results = [page.send("mod_example", { hello: "world" }), page.join("room/7"), page.leave("room/7")];
  assert.deepEqual(peer.socket.take(), [
    ["send", 1, 1, "mod_example", { hello: "world" }],
    ["join", 2, "room/7"],
    ["leave", 3, "room/7"],
  ]);
  assert.equal(peer.page.busy, true);
  peer.socket.say("result", 3, true, "three");
  peer.socket.say("result", 1, true, { echo: 1 });
  peer.socket.say("result", 2, true, null);
  assert.deepEqual(await Promise.all(results), [{ echo: 1 }, null, "three"]);
  assert.equal(peer.page.busy, false);
});

test("a failure is a PageError with the server's code", async () => {
  const peer = setUp();
  peer.open();
  const sent = peer.page.send("x");
  peer.socket.say("result", 1, false, { code: "not-authorized", message: "who are you" });
  await assert.rejects(sent, (error) => {
    assert.ok(error instanceof PageError);
    assert.deepEqual([error.code, error.message], ["not-authorized", "who are you"]);
    return true;
  });
});

test("results for what was never sent are ignored", () => {
  const peer = setUp();
  peer.open();
  peer.socket.say("result", 99, true, 1);
  peer.socket.say("result", 99, false, { code: "x", message: "" });
  assert.equal(peer.page.state, "open");
});

test("data is a snapshot, null when left out", () => {
  const peer = setUp();
  const data = { n: 1 };
  void peer.page.send("x", data);
  void peer.page.send("x");
  data.n = 2;
  peer.open();
  assert.deepEqual(peer.socket.take(), [["send", 1, 1, "x", { n: 1 }], ["send", 2, 1, "x", null]]);
});

test("after a cut what has no result goes again: same ids, in order, before new ones", async () => {
  const peer = setUp();
  peer.open();
  const first = peer.page.send("a", 1);
  void peer.page.send("b", 2, { qos: 2 });
  void peer.page.join("t");
  const written = peer.socket.take();
  peer.socket.say("result", 1, true, "done");
  assert.equal(await first, "done");
  peer.socket.cut();
  void peer.page.send("c", 3);
  peer.page.addEventListener("statechange", () => peer.page.state === "open" && void peer.page.send("d", 4));
  await peer.clock.advance(200);
  peer.socket.accept();
  assert.deepEqual(peer.socket.take(), [], "not before welcome");
  peer.socket.welcomeAgain({});
  assert.deepEqual(peer.socket.take(), [...written.slice(1), ["send", 4, 1, "c", 3], ["send", 5, 1, "d", 4]]);
  peer.socket.welcomeAgain({ resumed: false, lost: "trimmed" });
  assert.deepEqual(peer.socket.take(), [], "a welcome on a live socket is no cut");
});

describe("qos 0", () => {
  test("is sent once and resolves at once", async () => {
    const peer = setUp();
    peer.open();
    assert.equal(await peer.page.send("x", 1, { qos: 0 }), undefined);
    assert.deepEqual(peer.socket.take(), [["send", 1, 0, "x", 1]]);
    const socket = peer.cutAndReturn();
    socket.welcome();
    assert.deepEqual(socket.take(), []);
  });

  test("without a link is closed", async () => {
    const peer = setUp();
    await assert.rejects(peer.page.send("x", 1, { qos: 0 }), { code: "closed" });
    peer.page.connect();
    await assert.rejects(peer.page.send("x", 1, { qos: 0 }), { code: "closed" });
  });

  test("does not grow what the socket has not got rid of without bound", async () => {
    const peer = setUp();
    peer.open();
    peer.socket.bufferedAmount = 1024 * 1024;
    await assert.rejects(peer.page.send("x", 1, { qos: 0 }), { code: "queuefull" });
  });
});

describe("giving up", () => {
  test("a timeout, 30 seconds by default", async () => {
    const peer = setUp();
    peer.open({ heartbeat: 1000 });
    const usual = outcome(peer.page.send("x"));
    const short = outcome(peer.page.join("x", { timeout: 50 }));
    const endless = outcome(peer.page.send("x", 1, { timeout: Infinity }));
    await peer.clock.advance(50);
    assert.deepEqual([short.value.code, usual.state], ["timeout", "pending"]);
    await peer.clock.advance(29_950);
    assert.equal(usual.value.code, "timeout");
    await peer.clock.advance(600_000);
    assert.equal(endless.state, "pending");
    peer.socket.say("result", 1, true, 1);
    peer.socket.take();
    const socket = peer.cutAndReturn();
    socket.welcome();
    assert.deepEqual(socket.take(), [["send", 3, 1, "x", 1]], "what was given up is not sent again");
  });

  test("a signal", async () => {
    const peer = setUp();
    peer.open();
    const control = new AbortController();
    const sent = outcome(peer.page.send("x", 1, { signal: control.signal }));
    control.abort(new Error("enough"));
    await settled();
    assert.equal(sent.value.message, "enough");
    assert.equal(peer.page.busy, false);
    await assert.rejects(peer.page.send("x", 1, { signal: control.signal }), { message: "enough" });
    await assert.rejects(peer.page.send("x", 1, { qos: 0, signal: control.signal }), { message: "enough" });
    assert.equal(peer.socket.take().length, 1);
  });

  test("a result ends timer and signal", async () => {
    const peer = setUp();
    peer.open();
    const { set } = peer.clock;
    const sent = peer.page.send("x", 1, { signal: new AbortController().signal });
    peer.socket.say("result", 1, true, 1);
    await sent;
    assert.equal(peer.clock.set, set);
  });
});

describe("wrong calls", () => {
  test("are TypeErrors, and the page goes on", async () => {
    const peer = setUp();
    peer.open();
    const wrong = [
      peer.page.send("", 1),
      peer.page.send("a\nb", 1),
      peer.page.send("x".repeat(201), 1),
      peer.page.send(/** @type {any} */ (5), 1),
      peer.page.send("x", 10n),
      peer.page.send("x", 1, { qos: /** @type {any} */ (3) }),
      peer.page.send("x", 1, { timeout: 0 }),
      peer.page.send("x", 1, { timeout: NaN }),
      peer.page.join(""),
      peer.page.leave("\u0000"),
    ];
    for (const call of wrong) await assert.rejects(call, TypeError);
    assert.deepEqual(peer.socket.take(), []);
    assert.equal(peer.page.busy, false);
  });
});

describe("bounds", () => {
  test("1,000 wait, the next is queuefull", async () => {
    const peer = setUp();
    for (let n = 0; n < 1000; n++) void peer.page.send("x", n);
    await assert.rejects(peer.page.send("x"), { code: "queuefull" });
    peer.open();
    assert.equal(peer.socket.take().length, 1000);
    peer.socket.say("result", 1, true, null);
    void peer.page.send("x");
    assert.equal(peer.socket.take().length, 1);
  });

  test("1 MiB waits, more is queuefull", async () => {
    const peer = setUp();
    const half = "x".repeat(512 * 1024);
    void peer.page.send("x", half.slice(100));
    void peer.page.send("x", half.slice(100));
    await assert.rejects(peer.page.send("x", half), { code: "queuefull" });
    peer.open({ limits: { message: 1024 * 1024 } });
    peer.socket.say("result", 1, true, null);
    void peer.page.send("x", half.slice(100));
    assert.equal(peer.socket.take().length, 3, "a result makes room");
  });

  test("the server's limit counts bytes, also of what was sent before it was known", async () => {
    const peer = setUp();
    const before = outcome(peer.page.send("x", "é".repeat(40)));
    peer.open({ limits: { message: 60 } });
    await assert.rejects(peer.page.send("x", "é".repeat(25)), { code: "toolarge" });
    await assert.rejects(peer.page.send("x", "é".repeat(25), { qos: 0 }), { code: "toolarge" });
    assert.equal(before.value.code, "toolarge");
    void peer.page.send("x", "e".repeat(25));
    assert.equal(peer.socket.take().length, 1);
  });

  test("1009: the page comes back without its largest message", async () => {
    const peer = setUp();
    peer.open();
    const small = outcome(peer.page.send("x", "small"));
    const large = outcome(peer.page.send("x", "large".repeat(100)));
    peer.socket.cut(1009, "");
    await peer.clock.advance(200);
    assert.deepEqual([small.state, large.value.code], ["pending", "toolarge"]);
    peer.socket.welcome();
    assert.deepEqual(peer.socket.take(), [["send", 1, 1, "x", "small"]]);
  });

  test("1009: before a welcome nothing of ours was too large", async () => {
    const peer = setUp();
    const waiting = outcome(peer.page.send("x", "waiting"));
    peer.page.connect();
    peer.socket.accept();
    peer.socket.cut(1009, "");
    await settled();
    assert.equal(waiting.state, "pending");
  });
});

for (const { because, said } of [
  { because: "a new epoch", said: { epoch: "e2", resumed: false, lost: "epoch", seq: 0 } },
  { because: "away for longer than its record is kept", said: { resumed: false, lost: "expired", seq: 9 } },
  { because: "a fork, which has no part in the record", said: { forked: true, page: "another" } },
]) test(`${because}: what of qos 2 was written has an unknown outcome`, async () => {
  const peer = setUp();
  peer.open();
  peer.socket.say("push", 3, "page", "x", 1);
  const once = outcome(peer.page.send("x", 1, { qos: 2 }));
  const again = outcome(peer.page.send("x", 2));
  peer.socket.cut();
  const fresh = outcome(peer.page.send("x", 3, { qos: 2 }));
  await peer.clock.advance(200);
  peer.socket.welcome(said);
  await settled();
  assert.deepEqual([once.value.code, again.state, fresh.state], ["outcome-unknown", "pending", "pending"]);
  assert.deepEqual(peer.socket.take().map(([, id]) => id), [2, 3]);
});

test("bytes go as they are", () => {
  const peer = setUp();
  peer.open();
  void peer.page.send("upload", new Uint8Array([1, 2, 3]));
  const [message] = peer.socket.take();
  assert.ok(message instanceof Uint8Array);
  assert.deepEqual([...message.subarray(-3)], [1, 2, 3]);
});

test("what JSON would turn into {} is refused, with what to send instead", async () => {
  const peer = setUp();
  peer.open();
  class Nothing {}
  for (const [data, words] of /** @type {const} */ ([
    [new FormData(), "a FormData would be sent as {}: send Object.fromEntries(it) instead"],
    [new Map([["a", 1]]), "a Map would be sent as {}: send Object.fromEntries(it) instead"],
    [{ list: [{}, new Set([1])] }, "a Set would be sent as {}: send [...it] instead"],
    [new Blob(["a"]), "a Blob would be sent as {}: send await it.arrayBuffer(), on its own, instead"],
    [{ file: new File(["a"], "a") }, "a File would be sent as {}: send await it.arrayBuffer(), on its own, instead"],
    [Promise.resolve(1), "a Promise would be sent as {}: send what it resolves with instead"],
    [new Nothing(), "a Nothing would be sent as {}: send a plain object instead"],
  ])) {
    for (const qos of /** @type {const} */ ([0, 1])) {
      await assert.rejects(peer.page.send("x", data, { qos }), { name: "TypeError", message: words });
    }
  }
  assert.deepEqual([peer.socket.take(), peer.page.busy], [[], false]);
});

test("plain objects and what has a JSON form of its own are not refused", () => {
  const peer = setUp();
  peer.open();
  const date = new Date(0);
  const boxed = [new String(""), new Number(1)];
  for (const data of [{}, [{}], Object.create(null), { a: {}, date, boxed }, runInNewContext("({ a: {} })"), "{}"]) {
    void peer.page.send("x", data);
  }
  assert.deepEqual(
    peer.socket.take().map((frame) => frame[4]),
    [{}, [{}], {}, { a: {}, date: date.toJSON(), boxed: ["", 1] }, { a: {} }, "{}"],
  );
});
