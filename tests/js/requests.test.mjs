import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createPage } from "../../static/page.js";
import { HandClock, settled } from "./support/clock.mjs";
import { outcome } from "./support/peer.mjs";
import { binary, isIn, serve, told, welcome } from "./support/server.mjs";

/**
 * @param {import("node:test").TestContext} context
 * @param {"stream" | "poll"} transport
 */
async function setUp(context, transport, options = {}) {
  const server = await serve(context);
  const page = createPage({ base: server.base, token: "T1", transport, ...options });
  context.after(() => page.close());
  return { server, page };
}

/** @type {WeakMap<import("../../static/page.js").Page, import("./support/server.mjs").Exchange>} */
const streams = new WeakMap();

/** A page on a stream. @param {import("node:test").TestContext} context */
async function streaming(context, options = {}) {
  const { server, page } = await setUp(context, "stream", options);
  page.connect();
  const stream = await server.next("stream");
  stream.welcome();
  streams.set(page, stream);
  await page.ready;
  return { server, page, stream };
}

/** A page that polls; its first poll has been answered. @param {import("node:test").TestContext} context */
async function polling(context, options = {}) {
  const { server, page } = await setUp(context, "poll", options);
  page.connect();
  (await server.next("poll")).reply([welcome()]);
  await page.ready;
  return { server, page };
}

/** Collects what a delegate is sent. @param {import("../../static/page.js").Page} page */
function heard(page, delegate = "x") {
  /** @type {any[]} */
  const data = [];
  page.on(delegate, (one) => void data.push(one));
  return data;
}

describe("a stream", () => {
  test("begins with the hello in its body", async (context) => {
    const { server, page } = await setUp(context, "stream");
    page.connect();
    const { body, response } = await server.next("stream");
    const [kind, { document, ...hello }] = body;
    assert.deepEqual([kind, hello], ["hello", { token: "T1", attempt: 1, transport: "stream" }]);
    assert.match(document, /^[0-9a-f]{32}$/);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`:   \n\ndata: ${JSON.stringify(welcome())}\n\n`);
    await page.ready;
    assert.deepEqual([page.state, page.transport], ["open", "stream"]);
  });

  test("copes with any chunking", async (context) => {
    const { page, stream } = await streaming(context);
    const data = heard(page);
    const end = told(page, "end");
    page.on("end", () => void page.dispatchEvent(new CustomEvent("end")));
    const text = [
      `data: ${JSON.stringify(["push", 1, "page", "x", "wörld 🌍"])}\n\n: a comment\n\n`,
      `data: ${binary(["push", 2, "page", "x", null], [0, 255])}\r\n\r\n`,
      `data: ${JSON.stringify(["push", 3, "page", "x", "three"])}\n\ndata: ["push",4,"page","end",null]\n\n`,
    ].join("");
    for (const byte of Buffer.from(text)) {
      stream.response.write(Buffer.from([byte]));
      await settled();
    }
    await end;
    assert.deepEqual(data, ["wörld 🌍", new Uint8Array([0, 255]), "three"]);
  });

  test("several frames in one chunk", async (context) => {
    const { page, stream } = await streaming(context);
    const data = heard(page);
    const last = new Promise((resolve) => page.on("last", resolve));
    stream.say(["push", 1, "page", "x", 1], ["push", 2, "page", "x", 2], ["push", 3, "page", "last", 3]);
    await last;
    assert.deepEqual(data, [1, 2]);
  });

  test("its end without a close frame is a cut", async (context) => {
    for (const how of /** @type {const} */ (["cut", "end"])) {
      const { server, page, stream } = await streaming(context);
      stream.say(["push", 5, "page", "x", 1]);
      await told(page, "unhandled");
      if (how === "cut") stream.cut();
      else stream.response.end();
      await isIn(page, "waiting");
      const again = await server.next("stream");
      assert.deepEqual([again.body[1].attempt, again.body[1].epoch, again.body[1].seq], [2, "e1", 5]);
      page.close();
    }
  });

  test("a close frame is a close", async (context) => {
    const { page, stream } = await streaming(context);
    const refused = told(page, "refused");
    stream.say(["close", 4501, "malformed"]);
    assert.deepEqual(await refused, { code: 4501, reason: "malformed", final: true });
    assert.equal(page.state, "closed");
    await stream.ended;
  });

  test("what is no frame is reported", async (context) => {
    const { page, stream } = await streaming(context);
    page.addEventListener("error", (event) => event.preventDefault());
    const error = told(page, "error");
    stream.response.write("data: no base64!\n\n");
    assert.match((await error).error.message, /^malformed frame/);
  });

  test("one that is refused asks why", async (context) => {
    const { server, page } = await setUp(context, "stream");
    page.connect();
    (await server.next("stream")).reply({}, 403);
    const refused = told(page, "identity");
    (await server.next("renew")).reply({ code: 4503, reason: "logged out" }, 403);
    assert.equal((await refused).reason, "logged out");
    assert.equal(page.state, "closed");
  });

  test("suspend() lets go of it", async (context) => {
    const { page, stream } = await streaming(context);
    page.suspend();
    await stream.ended;
    assert.equal(page.state, "waiting");
  });
});

describe("polls", () => {
  test("the first is answered at once, the others wait", async (context) => {
    const { server, page } = await setUp(context, "poll");
    const data = heard(page);
    page.connect();
    const first = await server.next("poll");
    const { document, ...hello } = first.body[1];
    assert.deepEqual(hello, { token: "T1", attempt: 1, transport: "poll", wait: false });
    first.reply([welcome(), ["push", 1, "page", "x", "wörld"]]);
    const second = await server.next("poll");
    assert.deepEqual([page.state, page.transport, data], ["open", "poll", ["wörld"]]);
    assert.deepEqual(second.body[1], { ...hello, document, attempt: 2, wait: true, epoch: "e1", seq: 1 });
    second.reply([welcome(), binary(["push", 2, "page", "x", null], [1, 2]), ["push", 3, "page", "x", 3]]);
    assert.equal((await server.next("poll")).body[1].seq, 3);
    assert.deepEqual(data, ["wörld", new Uint8Array([1, 2]), 3]);
  });

  test("a repeated welcome is no fresh one", async (context) => {
    const { server, page } = await polling(context);
    /** @type {string[]} */
    const states = [];
    page.addEventListener("statechange", (event) => states.push(/** @type {any} */ (event).detail.state));
    void page.send("d").catch(() => {});
    await server.next("post");
    (await server.next("poll")).reply([welcome({ token: "T2" }), ["push", 1, "page", "x", 1]]);
    assert.equal((await server.next("poll")).body[1].token, "T2");
    assert.deepEqual([states, server.left("post")], [[], 0]);
  });

  test("one that is answered at once with nothing waits before the next", async (context) => {
    const clock = new HandClock();
    const { server } = await polling(context, { clock });
    const second = await server.next("poll");
    const { made } = clock;
    second.reply([welcome()]);
    while (clock.made === made) await settled();
    await clock.advance(1999);
    assert.equal(server.left("poll"), 0);
    await clock.advance(1);
    const third = await server.next("poll");
    clock.time += 1000;
    third.reply([welcome()]);
    await server.next("poll");
  });

  test("one that fails is a cut", async (context) => {
    for (const fail of /** @type {((poll: import("./support/server.mjs").Exchange) => void)[]} */ ([
      (poll) => poll.cut(),
      (poll) => poll.reply({}, 502),
      (poll) => poll.response.end("<!doctype html>"),
    ])) {
      const { server, page } = await polling(context);
      fail(await server.next("poll"));
      await isIn(page, "waiting");
      assert.deepEqual((await server.next("poll")).body[1].wait, false);
      page.close();
    }
  });

  test("a close frame ends them", async (context) => {
    const { server, page } = await polling(context);
    (await server.next("poll")).reply([["close", 4501, "no"]]);
    await isIn(page, "closed");
    assert.equal(server.left("poll"), 0);
  });

  test("a silent server is left", async (context) => {
    const clock = new HandClock();
    const { server, page } = await polling(context, { clock });
    const poll = await server.next("poll");
    await clock.advance(30_000);
    await poll.ended;
    assert.equal(page.state, "waiting");
  });
});

for (const start of [streaming, polling]) {
  describe(`up, while ${start.name}`, () => {
    test("a send goes in a request, its result comes in the answer", async (context) => {
      const { server, page } = await start(context);
      const sent = page.send("order", { tea: 1 });
      const post = await server.next("post");
      const [[kind, hello], ...frames] = post.body;
      assert.deepEqual([kind, hello.token, hello.transport], ["hello", "T1", page.transport]);
      assert.deepEqual(frames, [["send", 1, 1, "order", { tea: 1 }]]);
      post.reply([["result", 1, true, "done"]]);
      assert.equal(await sent, "done");
    });

    test("one request at a time, in order, what waits goes together", async (context) => {
      const { server, page } = await start(context);
      const sent = [page.send("d", 1), page.send("d", 2)];
      const first = await server.next("post");
      assert.deepEqual(first.body.slice(1).map((/** @type {any} */ frame) => frame[4]), [1, 2]);
      sent.push(page.send("d", 3), page.join("room"));
      await settled();
      assert.equal(server.left("post"), 0);
      first.reply([["result", 1, true, 1], ["result", 2, true, 2]]);
      const second = await server.next("post");
      assert.deepEqual(second.body.slice(1), [["send", 3, 1, "d", 3], ["join", 4, "room"]]);
      second.reply([["result", 3, true, 3], ["result", 4, true, null]]);
      assert.deepEqual(await Promise.all(sent), [1, 2, 3, null]);
    });

    test("at most 100 frames, and what one message may have, go in a request", async (context) => {
      const { server, page } = await start(context);
      const sent = Array.from({ length: 150 }, (_, index) => page.send("d", index));
      const answer = (/** @type {any} */ post) =>
        post.reply(post.body.slice(1).map((/** @type {any} */ frame) => ["result", frame[1], true, null]));
      const first = await server.next("post");
      assert.equal(first.body.length, 101);
      answer(first);
      answer(await server.next("post"));
      await Promise.all(sent);
      const large = [page.send("d", "x".repeat(40_000)), page.send("d", "y".repeat(40_000))];
      const third = await server.next("post");
      assert.equal(third.body.length, 2);
      answer(third);
      answer(await server.next("post"));
      await Promise.all(large);
    });

    test("bytes go in base64", async (context) => {
      const { server, page } = await start(context);
      const sent = page.send("d", new Uint8Array([0, 1, 255]));
      const post = await server.next("post");
      assert.equal(post.body[1], binary(["send", 1, 1, "d", null], [0, 1, 255]));
      post.reply([binary(["result", 1, true, null], [9])]);
      assert.deepEqual(await sent, new Uint8Array([9]));
    });

    test("what has no result yet is asked for again", async (context) => {
      const clock = new HandClock();
      const { server, page } = await start(context, { clock });
      const sent = page.send("slow", 1, { timeout: Infinity });
      const first = await server.next("post");
      clock.time += 20_000;
      const { made } = clock;
      first.reply([]);
      while (clock.made === made) await settled();
      await clock.advance(0);
      const second = await server.next("post");
      assert.deepEqual(second.body.slice(1), first.body.slice(1));
      second.reply([["result", 1, true, "at last"]]);
      assert.equal(await sent, "at last");
    });

    test("not at once, when the answer came at once", async (context) => {
      const clock = new HandClock();
      const { server, page } = await start(context, { clock });
      const sent = outcome(page.send("slow", 1));
      const post = await server.next("post");
      const { made } = clock;
      post.reply([]);
      while (clock.made === made) await settled();
      await clock.advance(1999);
      assert.equal(server.left("post"), 0);
      await clock.advance(1);
      (await server.next("post")).reply([["result", 1, true, 1]]);
      while (sent.state === "pending") await settled();
    });

    test("an answer does not wait for the send that waits for it", async (context) => {
      const { server, page } = await start(context);
      page.on("confirm", () => "yes");
      const sent = page.send("delete");
      const post = await server.next("post");
      await down(page, server, ["push", 1, "page", "confirm", null, 7]);
      const answer = await server.next("post");
      assert.deepEqual(answer.body.slice(1), [["ack", 7, true, "yes"]]);
      answer.reply([["acked", 7]]);
      post.reply([["result", 1, true, "deleted"]]);
      assert.equal(await sent, "deleted");
    });

    test("bytes answer too, on the same lane", async (context) => {
      const { server, page } = await start(context);
      page.on("read", () => new Uint8Array([5]));
      void page.send("slow").catch(() => {});
      await server.next("post");
      await down(page, server, ["push", 1, "page", "read", null, 3]);
      assert.equal((await server.next("post")).body[1], binary(["ack", 3, true, null], [5]));
    });

    test("a ping is answered", async (context) => {
      const { server, page } = await start(context);
      await down(page, server, ["ping", 4]);
      assert.deepEqual((await server.next("post")).body.slice(1), [["pong"]]);
      assert.equal(page.cursor?.seq, 4);
    });

    test("a request that fails is a cut, and what waits is sent again", async (context) => {
      for (const fail of /** @type {((post: import("./support/server.mjs").Exchange) => void)[]} */ ([
        (post) => post.cut(),
        (post) => post.reply({}, 500),
      ])) {
        const { server, page } = await start(context);
        const sent = page.send("d", 1, { qos: 2 });
        const post = await server.next("post");
        fail(post);
        await isIn(page, "waiting");
        const transport = start === streaming ? "stream" : "poll";
        let next;
        do next = await server.next(transport);
        while (next.body[1].attempt < post.body[0][1].attempt);
        if (transport === "stream") next.welcome();
        else next.reply([welcome()]);
        const again = await server.next("post");
        assert.deepEqual(again.body.slice(1), post.body.slice(1));
        again.reply([["result", 1, true, "once"]]);
        assert.equal(await sent, "once");
        page.close();
      }
    });

    test("a request without an answer is a cut: nothing waits behind it for ever, nor is anything sent twice", async (context) => {
      const clock = new HandClock();
      const { server, page } = await start(context, { clock });
      const sent = page.send("d", 1, { qos: 2, timeout: Infinity });
      const silent = await server.next("post");
      const behind = page.send("d", 2, { timeout: Infinity });
      const said = JSON.stringify(silent.body).length;
      await live(page, server, clock, 30_000 + said - 1);
      assert.deepEqual([page.state, server.left("post"), silent.response.destroyed], ["open", 0, false]);
      await clock.advance(1);
      await silent.ended;
      assert.equal(page.state, "waiting");
      await clock.advance(200);
      await resumed(page, server, start);
      const again = await server.next("post");
      assert.deepEqual(again.body.slice(1), [["send", 1, 2, "d", 1], ["send", 2, 1, "d", 2]]);
      again.reply([["result", 1, true, "once"], ["result", 2, true, "too"]]);
      assert.deepEqual(await Promise.all([sent, behind]), ["once", "too"]);
    });

    test("one whose answer breaks off in silence, too", async (context) => {
      const clock = new HandClock();
      const { server, page } = await start(context, { clock });
      void page.send("d", 1).catch(() => {});
      const { body, response, ended } = await server.next("post");
      response.writeHead(200, { "content-type": "application/json" });
      response.write("[");
      await live(page, server, clock, 30_000 + JSON.stringify(body).length);
      await ended;
      await isIn(page, "waiting");
    });

    test("a long one has the time that a slow line takes", async (context) => {
      const clock = new HandClock();
      const { server, page } = await start(context, { clock });
      const sent = page.send("d", "x".repeat(60_000), { timeout: Infinity });
      const post = await server.next("post");
      await live(page, server, clock, 80_000);
      post.reply([["result", 1, true, "at last"]]);
      assert.equal(await sent, "at last");
    });

    test("an answer may close the page", async (context) => {
      const { server, page } = await start(context);
      void page.send("d").catch(() => {});
      (await server.next("post")).reply([["close", 4509, "another one has it"]]);
      await isIn(page, "closed");
    });

    test("goodbye takes along what has not gone", async (context) => {
      const { server, page } = await start(context);
      void page.send("d", 1, { qos: 0 });
      page.close();
      const { body } = await server.next("post");
      assert.deepEqual(body.slice(1), [["send", 1, 0, "d", 1], ["bye"]]);
    });

    for (const [what, text, count, quota, all, tries] of /** @type {const} */ ([
      ["takes along what has not gone", "x".repeat(40_000), 1, 60_000, true, 1],
      ["is alone where that has too many bytes, though not characters", "€".repeat(20_000), 1, 60_000, false, 1],
      ["is alone where that has too many messages for one request", "x", 100, 60_000, false, 1],
      ["is alone where the browser takes no more", "x".repeat(40_000), 1, 20_000, false, 2],
    ])) {
      test(`a beacon's goodbye ${what}`, async (context) => {
        const { server, page } = await start(context);
        const tried = catchBeacons(context, quota);
        void page.send("slow").catch(() => {});
        await server.next("post");
        for (let index = 0; index < count; index++) void page.send("d", text, { qos: 0 });
        page.close();
        assert.equal(tried.length, tries);
        const [[kind], ...frames] = JSON.parse((await tried.at(-1)?.text()) ?? "");
        assert.equal(kind, "hello");
        assert.deepEqual(frames, all ? [["send", 2, 0, "d", text], ["bye"]] : [["bye"]]);
        await settled();
        assert.equal(server.left("post"), 0);
      });
    }

    test("goodbye does not wait for what is under way", async (context) => {
      const { server, page } = await start(context);
      void page.send("slow").catch(() => {});
      const slow = await server.next("post");
      page.close();
      const { body } = await server.next("post");
      assert.deepEqual(body.slice(1), [["bye"]]);
      assert.equal(slow.response.destroyed, false);
    });

    test("unsent bytes bound what goes once", async (context) => {
      const { server, page } = await start(context);
      void page.send("slow").catch(() => {});
      await server.next("post");
      const text = "x".repeat(60_000);
      for (let index = 0; index < 17; index++) await page.send("d", text, { qos: 0 });
      await assert.rejects(page.send("d", text, { qos: 0 }), { code: "queuefull" });
    });
  });
}

/**
 * Beacons while a test runs; Node has none.
 *
 * @param {import("node:test").TestContext} context
 * @param {number} quota  bytes that one may have
 */
function catchBeacons(context, quota) {
  /** @type {Blob[]} all that were tried */
  const tried = [];
  const sendBeacon = (/** @type {string} */ _url, /** @type {Blob} */ body) => tried.push(body) > 0 && body.size < quota;
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { sendBeacon } });
  context.after(() => {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else Reflect.deleteProperty(globalThis, "navigator");
  });
  return tried;
}

/**
 * Time passes on a page that hears from its server.
 *
 * @param {import("../../static/page.js").Page} page
 * @param {Awaited<ReturnType<typeof serve>>} server
 * @param {HandClock} clock
 * @param {number} ms
 */
async function live(page, server, clock, ms) {
  let seq = 0;
  for (let left = ms; left > 0; left -= 10_000) {
    await down(page, server, ["push", ++seq, "page", "life", seq]);
    while (page.cursor?.seq !== seq) await settled();
    await clock.advance(Math.min(left, 10_000));
  }
}

/**
 * Welcomes a page that comes back.
 *
 * @param {import("../../static/page.js").Page} page
 * @param {Awaited<ReturnType<typeof serve>>} server
 * @param {typeof streaming | typeof polling} start
 */
async function resumed(page, server, start) {
  if (start === streaming) {
    (await server.next("stream")).welcome();
  } else {
    let poll;
    // Behind the one that was given up.
    do poll = await server.next("poll");
    while (poll.body[1].wait);
    poll.reply([welcome()]);
  }
  await isIn(page, "open");
}

/**
 * Sends a frame down, by whatever the page listens with.
 *
 * @param {import("../../static/page.js").Page} page
 * @param {Awaited<ReturnType<typeof serve>>} server
 * @param {unknown[]} frame
 */
async function down(page, server, frame) {
  if (page.transport === "poll") (await server.next("poll")).reply([welcome(), frame]);
  else streams.get(page)?.say(frame);
}
