import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, test } from "node:test";
import { outcome, reply, setUp, settled } from "./support/peer.mjs";
import { postings } from "./support/posting.mjs";

/** @param {[string, string | File][]} pairs */
function form(...pairs) {
  const data = new FormData();
  for (const [name, value] of pairs) data.append(name, value);
  return data;
}

const FULL = { code: "full", message: "No room." };

const FILE = new File(["x"], "a.txt");

/** @param {import("node:test").TestContext} context */
function attached(context) {
  const posted = postings(context);
  const peer = setUp();
  const hello = peer.open({ page: "p1" });
  return { posted, peer, page: peer.page, hello };
}

describe("what is posted", () => {
  test("first whose it is, then the fields, and none that pretends to be pagews's own", async (context) => {
    const { posted, page, hello } = attached(context);
    const sent = outcome(page.upload("album", form(["pagews.token", "stolen"], ["title", "x"], ["photo", FILE])));
    await settled();
    assert.equal(posted.last.address, "http://server.test/pagews/form");
    assert.deepEqual(posted.last.headers, { accept: "application/json" });
    assert.equal(posted.last.responseType, "json");
    assert.deepEqual(posted.last.fields, [
      ["pagews.token", "T1"],
      ["pagews.delegate", "album"],
      ["pagews.document", hello.document],
      ["pagews.epoch", "e1"],
      ["pagews.id", "1"],
      ["title", "x"],
      ["photo", "a.txt"],
    ]);
    posted.last.answer(200, { ok: true, value: { photos: 1 } });
    await settled();
    assert.deepEqual(sent, { state: "resolved", value: { photos: 1 } });
  });

  test("each has a number of its own, which no send has", async (context) => {
    const { posted, peer, page } = attached(context);
    void page.send("x");
    for (const _ of [1, 2]) void page.upload("album", form());
    void page.send("y");
    await settled();
    const ids = posted.made.map(({ body }) => Number(body?.get("pagews.id")));
    const sent = peer.socket.take().map(([, id]) => id);
    assert.equal(new Set([...ids, ...sent]).size, 4);
  });

  test("before the first welcome the server cannot know a number", async (context) => {
    const posted = postings(context);
    const { page } = setUp();
    void page.upload("album", form());
    await settled();
    assert.deepEqual(posted.last.fields, [
      ["pagews.token", "T1"],
      ["pagews.delegate", "album"],
    ]);
  });

  test("a page without a token has one first", async (context) => {
    const posted = postings(context);
    const peer = setUp({ token: null });
    peer.renewals.push(reply(200, { token: "T2" }));
    void peer.page.upload("album", form());
    peer.page.connect();
    await settled();
    assert.deepEqual(posted.made, []);
    peer.socket.welcome();
    await settled();
    assert.equal(posted.last.body?.get("pagews.token"), "T2");
  });

  test("a page that was restarted is another", async (context) => {
    const { posted, peer, page } = attached(context);
    peer.renewals.push(reply(200, { token: "T2" }));
    void page.restart();
    void page.upload("album", form());
    await settled();
    peer.socket.welcome({ page: "p2" });
    await settled();
    assert.equal(posted.last.body?.get("pagews.token"), "T2");
  });
});

test("progress is told as it comes", async (context) => {
  const { posted, page } = attached(context);
  /** @type {number[][]} */
  const told = [];
  void page.upload("album", form(["photo", FILE]), { progress: (...bytes) => told.push(bytes) });
  await settled();
  for (const loaded of [10, 20, 30]) posted.last.progress(loaded, 30);
  assert.deepEqual(told, [[10, 30], [20, 30], [30, 30]]);
});

test("busy until the last has its outcome", async (context) => {
  const { posted, page } = attached(context);
  for (const _ of [1, 2]) page.upload("album", form()).catch(() => {});
  await settled();
  assert.equal(page.busy, true);
  posted.made[0]?.answer(200, { ok: true, value: null });
  await settled();
  assert.equal(page.busy, true);
  posted.made[1]?.breakOff();
  await settled();
  assert.equal(page.busy, false);
});

test("goes on when its page is closed, or becomes another", async (context) => {
  const { posted, page } = attached(context);
  const sent = outcome(page.upload("album", form()));
  await settled();
  page.close();
  void page.restart();
  await settled();
  assert.deepEqual([posted.last.aborted, page.busy, sent.state], [false, true, "pending"]);
  posted.last.answer(200, { ok: true, value: 1 });
  await settled();
  assert.deepEqual([sent, page.busy], [{ state: "resolved", value: 1 }, false]);
});

describe("what fails", () => {
  for (const [what, status, response, error] of /** @type {[string, number, unknown, object][]} */ ([
    ["the delegate's word", 200, { ok: false, ...FULL }, FULL],
    ["too large for the server", 413, null, { code: "toolarge", message: "this is more than the server takes" }],
    ["not let through", 502, null, { code: "refused", message: "the server answered 502" }],
    ["a page of somebody else", 200, null, { code: "refused", message: "the server answered 200" }],
    ["JSON of somebody else", 429, { error: "slow down" }, { code: "refused", message: "the server answered 429" }],
    ["JSON that is no object", 200, 7, { code: "refused", message: "the server answered 200" }],
  ])) {
    test(what, async (context) => {
      const { posted, page } = attached(context);
      const sent = page.upload("album", form());
      await settled();
      posted.last.answer(status, response);
      await assert.rejects(sent, { name: "PageError", ...error });
    });
  }

  test("broken off before all had left: it has not run", async (context) => {
    const { posted, page } = attached(context);
    const sent = page.upload("album", form(["photo", FILE]));
    await settled();
    posted.last.progress(10, 30);
    posted.last.breakOff();
    await assert.rejects(sent, { code: "closed" });
  });

  test("broken off when all had left: it may have run", async (context) => {
    const { posted, page } = attached(context);
    const sent = page.upload("album", form(["photo", FILE]));
    await settled();
    posted.last.leave();
    posted.last.breakOff();
    await assert.rejects(sent, { code: "outcome-unknown", message: "the upload broke off, and may have arrived" });
  });

  test("two minutes in which nothing leaves: others wait for their turn", async (context) => {
    const { posted, peer, page } = attached(context);
    const sent = outcome(page.upload("album", form(["photo", FILE])));
    await settled();
    for (const loaded of [10, 20]) {
      await peer.clock.advance(119_000);
      posted.last.progress(loaded, 30);
    }
    await peer.clock.advance(119_000);
    assert.deepEqual([posted.last.aborted, sent.state], [false, "pending"]);
    await peer.clock.advance(1_000);
    assert.deepEqual([posted.last.aborted, page.busy, sent.state], [true, false, "rejected"]);
    assert.equal(Reflect.get(Object(sent.value), "code"), "closed");
  });

  test("what has left as a whole waits for its delegate", async (context) => {
    const { posted, peer, page } = attached(context);
    const sent = outcome(page.upload("album", form(["photo", FILE])));
    await settled();
    posted.last.leave();
    await peer.clock.advance(600_000);
    assert.deepEqual([posted.last.aborted, sent.state], [false, "pending"]);
    const before = peer.clock.set;
    posted.last.answer(200, { ok: true, value: null });
    await settled();
    assert.deepEqual([sent.state, peer.clock.set], ["resolved", before]);
  });

  test("wrong calls, and a page that is over, post nothing", async (context) => {
    const { posted, page } = attached(context);
    await assert.rejects(page.upload("", form()), TypeError);
    page.close();
    await assert.rejects(page.upload("album", form()), { code: "closed" });
    assert.deepEqual([posted.made, page.busy], [[], false]);
  });

  test("a page that ends before it has a token", async (context) => {
    const posted = postings(context);
    const { page } = setUp({ token: null });
    const sent = page.upload("album", form());
    page.close();
    await assert.rejects(sent, { code: "closed" });
    assert.deepEqual([posted.made, page.busy], [[], false]);
  });
});

describe("a signal", () => {
  test("that has been given posts nothing", async (context) => {
    const { posted, page } = attached(context);
    const signal = AbortSignal.abort(new RangeError("no more"));
    await assert.rejects(page.upload("album", form(), { signal }), RangeError);
    assert.ok(posted.made.every(({ body }) => body === null));
  });

  test("ends what is under way", async (context) => {
    const { posted, page } = attached(context);
    const ending = new AbortController();
    const sent = outcome(page.upload("album", form(), { signal: ending.signal }));
    await settled();
    ending.abort("enough");
    await settled();
    assert.equal(posted.last.aborted, true);
    assert.deepEqual(sent, { state: "rejected", value: "enough" });
    assert.equal(page.busy, false);
  });

  test("ends the wait for a token", async (context) => {
    const posted = postings(context);
    const { page } = setUp({ token: null });
    const ending = new AbortController();
    const sent = outcome(page.upload("album", form(), { signal: ending.signal }));
    await settled();
    ending.abort("enough");
    await settled();
    assert.deepEqual([sent, page.busy, posted.made], [{ state: "rejected", value: "enough" }, false, []]);
  });

  test("is let go of when there is an outcome", async (context) => {
    const { posted, page } = attached(context);
    const { signal } = new AbortController();
    const sent = page.upload("album", form(), { signal });
    await settled();
    assert.equal(getEventListeners(signal, "abort").length, 1);
    posted.last.answer(200, { ok: true, value: null });
    await sent;
    assert.equal(getEventListeners(signal, "abort").length, 0);
  });
});
