import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { createPage } from "../../static/page.js";
import { HandClock, settled } from "./support/clock.mjs";
import { PeerSocket, reply, setUp as setUpPeer } from "./support/peer.mjs";
import { isIn, serve, told, welcome } from "./support/server.mjs";

const KEY = "pagews:transport";

/**
 * A page that chooses, a real server for its requests, and WebSockets moved by hand.
 *
 * @param {import("node:test").TestContext} context
 */
async function setUp(context) {
  const server = await serve(context);
  /** @type {PeerSocket[]} */
  const sockets = [];
  const clock = new HandClock();
  class FakeWebSocket extends PeerSocket {
    /**
     * @param {string} url
     * @param {string} protocol
     */
    constructor(url, protocol) {
      super(url, protocol);
      sockets.push(this);
    }
  }
  const page = createPage({
    base: server.base,
    token: "T1",
    clock,
    WebSocket: /** @type {any} */ (FakeWebSocket),
  });
  context.after(() => page.close());
  return {
    server,
    page,
    clock,
    sockets,
    get socket() {
      const newest = sockets.at(-1);
      assert.ok(newest, "no socket was made");
      return newest;
    },
    /** The newest socket is refused, and the next; each time the server finds nothing wrong with the page. */
    async refuse() {
      for (const next of [sockets.length + 1, 0]) {
        this.socket.cut();
        (await server.next("renew")).reply({ token: "T2" });
        while (sockets.length < next) await settled();
      }
    },
    /** A page on the stream that it has fallen back to. */
    async fallBack() {
      page.connect();
      await this.refuse();
      const stream = await server.next("stream");
      stream.welcome();
      await isIn(page, "open");
      return stream;
    },
  };
}

/** A memory for the tab, as browsers have one. */
function giveMemory() {
  /** @type {Map<string, string>} */
  const kept = new Map();
  Object.assign(globalThis, {
    sessionStorage: {
      getItem: (/** @type {string} */ key) => kept.get(key) ?? null,
      setItem: (/** @type {string} */ key, /** @type {string} */ value) => void kept.set(key, value),
      removeItem: (/** @type {string} */ key) => void kept.delete(key),
    },
  });
  return kept;
}

afterEach(() => {
  Reflect.deleteProperty(globalThis, "sessionStorage");
});

/**
 * Time passes on a stream that lives.
 *
 * @param {Awaited<ReturnType<typeof serve>>} server
 * @param {import("./support/server.mjs").Exchange} stream
 * @param {HandClock} clock
 * @param {number} ms
 */
async function pass(server, stream, clock, ms) {
  for (let left = ms; left > 0; left -= 10_000) {
    stream.say(["ping", 0]);
    (await server.next("post")).reply([]);
    await clock.advance(Math.min(left, 10_000));
  }
}

describe("falling back", () => {
  test("a WebSocket comes first, and when it works nothing else is tried", async (context) => {
    const rig = await setUp(context);
    rig.page.connect();
    rig.socket.welcome();
    assert.equal(rig.page.transport, "websocket");
    rig.socket.cut();
    await rig.clock.advance(200);
    assert.equal(rig.sockets.length, 2);
    rig.socket.welcome();
    assert.deepEqual(["stream", "poll", "renew"].map(rig.server.left), [0, 0, 0]);
  });

  test("refused, though the page is fine: a stream at once", async (context) => {
    const rig = await setUp(context);
    const { body } = await rig.fallBack();
    assert.deepEqual([body[1].token, body[1].attempt], ["T2", 1]);
    assert.equal(rig.page.transport, "stream");
  });

  test("none there to be made: a stream at once", async (context) => {
    const server = await serve(context);
    const page = createPage({ base: server.base, token: "T1", WebSocket: /** @type {any} */ (undefined) });
    context.after(() => page.close());
    page.connect();
    (await server.next("stream")).welcome();
    await page.ready;
    assert.equal(page.transport, "stream");
  });

  test("hangs: after 4 seconds", async (context) => {
    for (const opened of [true, false]) {
      const rig = await setUp(context);
      rig.page.connect();
      if (opened) rig.socket.accept();
      await rig.clock.advance(3999);
      assert.equal(rig.socket.closed, null);
      await rig.clock.advance(1);
      assert.notEqual(rig.socket.closed, null);
      if (!opened) (await rig.server.next("renew")).reply({ token: "T2" });
      (await rig.server.next("stream")).welcome();
      await isIn(rig.page, "open");
      rig.page.close();
    }
  });

  test("dies before its first message", async (context) => {
    const rig = await setUp(context);
    rig.page.connect();
    rig.socket.accept();
    rig.socket.cut();
    await rig.server.next("stream");
  });

  test("not when the server says why", async (context) => {
    for (const [code, reason] of /** @type {const} */ ([
      [1012, "draining; retry=1"],
      [1013, "full"],
      [4004, "pages of a session; retry=1"],
      [1011, ""],
    ])) {
      const rig = await setUp(context);
      rig.page.connect();
      rig.socket.accept();
      rig.socket.cut(code, reason);
      await rig.clock.advance(1200);
      assert.equal(rig.sockets.length, 2, reason);
      rig.page.close();
    }
  });

  test("not when the server does not answer, or is about to stop", async (context) => {
    for (const status of [503, 502, 429]) {
      const rig = await setUp(context);
      rig.page.connect();
      rig.socket.cut();
      (await rig.server.next("renew")).reply({}, status, { "retry-after": "1" });
      while (rig.sockets.length < 2) await rig.clock.advance(100);
      rig.socket.welcome();
      assert.equal(rig.page.transport, "websocket");
      rig.page.close();
    }
  });

  test("not when the page is refused", async (context) => {
    const rig = await setUp(context);
    const identity = told(rig.page, "identity");
    rig.page.connect();
    rig.socket.cut();
    (await rig.server.next("renew")).reply({ code: 4503, reason: "logged out" }, 403);
    await identity;
    assert.deepEqual([rig.page.state, rig.sockets.length], ["closed", 1]);
  });

  test("not for a cut after the welcome", async (context) => {
    const rig = await setUp(context);
    const stream = await rig.fallBack();
    stream.cut();
    await isIn(rig.page, "waiting");
    await rig.clock.advance(400);
    assert.equal((await rig.server.next("stream")).body[1].attempt, 2);
  });

  test("a stream whose first bytes do not come gives way to polls", async (context) => {
    const rig = await setUp(context);
    rig.page.connect();
    await rig.refuse();
    const stream = await rig.server.next("stream");
    await isIn(rig.page, "connecting");
    await rig.clock.advance(4000);
    await stream.ended;
    (await rig.server.next("renew")).reply({ token: "T3" });
    const poll = await rig.server.next("poll");
    assert.deepEqual([poll.body[1].token, poll.body[1].wait], ["T3", false]);
    poll.reply([welcome()]);
    await isIn(rig.page, "open");
    assert.equal(rig.page.transport, "poll");
  });

  test("a stream that falls silent gives way to polls", async (context) => {
    const rig = await setUp(context);
    await rig.fallBack();
    await rig.clock.advance(30_000);
    (await rig.server.next("poll")).reply([welcome()]);
    await isIn(rig.page, "open");
    assert.equal(rig.page.transport, "poll");
  });

  test("not when the process that refused it was about to stop: another one may take it", async (context) => {
    const rig = await setUp(context);
    rig.page.connect();
    rig.socket.cut();
    (await rig.server.next("renew")).reply({ token: "T2" });
    await isIn(rig.page, "connecting");
    assert.equal(rig.socket.welcome().token, "T2");
    assert.deepEqual([rig.page.transport, rig.sockets.length], ["websocket", 2]);
    // At the next restart it may again.
    rig.socket.cut();
    await rig.clock.advance(200);
    rig.socket.cut();
    (await rig.server.next("renew")).reply({ token: "T3" });
    await isIn(rig.page, "connecting");
    rig.socket.welcome();
    assert.deepEqual([rig.page.transport, rig.sockets.length], ["websocket", 4]);
    assert.deepEqual(["stream", "poll", "renew"].map(rig.server.left), [0, 0, 0]);
  });

  test("too many streams of one browser: polls", async (context) => {
    const rig = await setUp(context);
    rig.page.connect();
    await rig.refuse();
    const stream = await rig.server.next("stream");
    stream.open();
    stream.say(["close", 4004, "streams"]);
    await rig.server.next("poll");
  });

  test("polls may take their time; when they fail too, a WebSocket again, with back-off", async (context) => {
    const rig = await setUp(context);
    rig.page.connect();
    await rig.refuse();
    (await rig.server.next("stream")).response.end();
    const poll = await rig.server.next("poll");
    await rig.clock.advance(14_000);
    poll.cut();
    (await rig.server.next("renew")).reply({ token: "T4" });
    await isIn(rig.page, "waiting");
    assert.equal(rig.sockets.length, 2);
    while (rig.sockets.length < 3) await rig.clock.advance(100);
    assert.equal(rig.socket.welcome().token, "T4");
  });

  test("what was sent on one is sent again on the other", async (context) => {
    const rig = await setUp(context);
    rig.page.connect();
    rig.socket.welcome();
    const sent = rig.page.send("order", 1, { qos: 2, timeout: Infinity });
    const [frame] = rig.socket.take();
    rig.socket.cut();
    await rig.clock.advance(200);
    await rig.refuse();
    (await rig.server.next("stream")).welcome();
    const post = await rig.server.next("post");
    assert.deepEqual(post.body[1], frame);
    post.reply([["result", 1, true, "done"]]);
    assert.equal(await sent, "done");
  });
});

/** What the console warns of while a test runs. @param {import("node:test").TestContext} context */
function warnings(context) {
  /** @type {string[]} */
  const said = [];
  context.mock.method(console, "warn", (/** @type {string} */ text) => said.push(text));
  return said;
}

describe("forced", () => {
  test("a stream for which there is no room is tried again, and the console says once why", async (context) => {
    const said = warnings(context);
    const clock = new HandClock();
    const server = await serve(context);
    const page = createPage({ base: server.base, token: "T1", transport: "stream", clock });
    context.after(() => page.close());
    page.connect();
    for (const bound of [200, 400, 800]) {
      const stream = await server.next("stream");
      stream.open();
      stream.say(["close", 4004, "streams"]);
      await isIn(page, "waiting");
      await clock.advance(bound / 2 - 1);
      assert.deepEqual(["stream", "poll", "renew"].map(server.left), [0, 0, 0]);
      await clock.advance(1);
    }
    (await server.next("stream")).welcome();
    await isIn(page, "open");
    assert.equal(page.transport, "stream");
    assert.equal(said.length, 1);
    assert.match(said[0] ?? "", /^pagews: stream has no room: .*limits\.held.* forced to it \(transport="stream"/);
  });

  test("a stream whose first bytes do not come, too", async (context) => {
    const said = warnings(context);
    const clock = new HandClock();
    const server = await serve(context);
    const page = createPage({ base: server.base, token: "T1", transport: "stream", clock });
    context.after(() => page.close());
    page.connect();
    for (let attempt = 0; attempt < 3; attempt++) {
      const stream = await server.next("stream");
      await clock.advance(14_999);
      assert.deepEqual([page.state, said.length], ["connecting", Math.min(attempt, 1)]);
      await clock.advance(1);
      await stream.ended;
      (await server.next("renew")).reply({ token: "T2" });
      while (said.length === 0) await settled();
      while (server.left("stream") === 0) await clock.advance(100);
    }
    assert.equal(said.length, 1);
    assert.match(said[0] ?? "", /^pagews: stream does not get through: .* holds it back\. This page is forced to it/);
  });

  test("one transport, and no other", async (context) => {
    for (const transport of /** @type {const} */ (["stream", "poll"])) {
      const server = await serve(context);
      const page = createPage({ base: server.base, token: "T1", transport, WebSocket: /** @type {any} */ (null) });
      page.connect();
      (await server.next(transport)).cut();
      (await server.next("renew")).reply({ token: "T2" });
      await server.next(transport);
      page.close();
    }
    const peer = setUpPeer();
    peer.renewals.push(reply(200, { token: "T2" }));
    peer.page.connect();
    peer.socket.cut();
    await settled();
    await peer.clock.advance(200);
    assert.equal(peer.sockets.length, 2);
  });

  test("a WebSocket where there is none", () => {
    const options = { base: "http://server.test/pagews", WebSocket: /** @type {any} */ (undefined) };
    assert.throws(() => createPage({ ...options, transport: "websocket" }), /no WebSocket here: pass WebSocket=/);
    assert.equal(createPage(options).state, "idle");
  });

  test("none that there is not", () => {
    const transport = /** @type {any} */ ("telegraph");
    assert.throws(() => createPage({ base: "http://server.test/pagews", transport }), TypeError);
  });
});

describe("remembered for the tab", () => {
  test("what got through comes first, and a WebSocket is tried when it is due", async (context) => {
    const kept = giveMemory();
    const rig = await setUp(context);
    await rig.fallBack();
    assert.equal(kept.get(KEY), `stream ${rig.clock.now() + 300_000}`);
    rig.page.close();

    const next = await setUp(context);
    next.clock.time += 100_000;
    next.page.connect();
    const stream = await next.server.next("stream");
    stream.welcome();
    await isIn(next.page, "open");
    await pass(next.server, stream, next.clock, 199_999);
    assert.equal(next.sockets.length, 0);
    await next.clock.advance(1);
    next.socket.welcome();
    assert.deepEqual([next.page.transport, kept.has(KEY)], ["websocket", false]);
  });

  test("what is no transport, or cannot be read, is forgotten", async (context) => {
    giveMemory().set(KEY, "telegraph 1");
    const rig = await setUp(context);
    rig.page.connect();
    rig.socket.welcome();
    Object.defineProperty(globalThis, "sessionStorage", {
      configurable: true,
      get: () => {
        throw new Error("not for you");
      },
    });
    const other = await setUp(context);
    await other.fallBack();
  });

  test("not what was forced", async (context) => {
    const kept = giveMemory();
    kept.set(KEY, "poll 1");
    const server = await serve(context);
    const page = createPage({ base: server.base, token: "T1", transport: "stream" });
    context.after(() => page.close());
    page.connect();
    (await server.next("stream")).welcome();
    await page.ready;
    assert.equal(kept.get(KEY), "poll 1");
  });
});

describe("back to a WebSocket", () => {
  test("it is tried beside the stream every five minutes, and changes nothing when it fails", async (context) => {
    const rig = await setUp(context);
    const stream = await rig.fallBack();
    /** @type {string[]} */
    const states = [];
    rig.page.addEventListener("statechange", (event) => states.push(/** @type {any} */ (event).detail.state));
    await pass(rig.server, stream, rig.clock, 300_000);
    assert.equal(rig.sockets.length, 3);
    rig.socket.cut();
    assert.deepEqual([rig.page.transport, states], ["stream", []]);
    await pass(rig.server, stream, rig.clock, 300_000);
    assert.equal(rig.sockets.length, 4);
    rig.socket.welcome();
    assert.equal(rig.page.transport, "websocket");
    await stream.ended;
    assert.deepEqual(states, ["connecting", "open"]);
    await rig.clock.advance(0);
    assert.equal(rig.sockets.length, 4);
  });

  test("what is under way goes on", async (context) => {
    const rig = await setUp(context);
    const stream = await rig.fallBack();
    /** @type {number[]} */
    const seen = [];
    rig.page.on("x", (data) => void seen.push(data));
    stream.say(["push", 3, "page", "x", 3]);
    while (seen.length === 0) await settled();
    const sent = rig.page.send("order", 1, { qos: 2, timeout: Infinity });
    await rig.server.next("post");
    rig.page.online();
    (await rig.server.next("stream")).welcome();
    await isIn(rig.page, "open");
    await rig.clock.advance(0);
    const hello = rig.socket.welcome({ seq: 3 });
    assert.deepEqual([hello.transport, hello.seq], ["websocket", 3]);
    assert.deepEqual(rig.socket.take(), [["send", 1, 2, "order", 1]]);
    rig.socket.say("push", 3, "page", "x", 3);
    rig.socket.say("push", 4, "page", "x", 4);
    rig.socket.say("result", 1, true, "done");
    assert.equal(await sent, "done");
    assert.deepEqual(seen, [3, 4]);
  });

  test("one that opens and then says nothing is left for a fallback", async (context) => {
    const rig = await setUp(context);
    await rig.fallBack();
    rig.page.online();
    (await rig.server.next("stream")).welcome();
    await isIn(rig.page, "open");
    await rig.clock.advance(0);
    rig.socket.accept();
    assert.equal(rig.page.state, "connecting");
    await rig.clock.advance(4000);
    (await rig.server.next("stream")).welcome();
    await isIn(rig.page, "open");
    assert.equal(rig.sockets.length, 3);
  });

  test("the one that is tried does not outlive the page", async (context) => {
    const rig = await setUp(context);
    await rig.fallBack();
    rig.page.online();
    (await rig.server.next("stream")).welcome();
    await isIn(rig.page, "open");
    await rig.clock.advance(0);
    rig.page.close();
    assert.notEqual(rig.socket.closed, null);
  });
});

describe("restart()", () => {
  test("ends the page and begins another", async () => {
    const peer = setUpPeer();
    /** @type {any[]} */
    const heard = [];
    peer.page.on("kept", (data) => void heard.push(data));
    const first = peer.open();
    const sent = peer.page.send("d").catch((error) => error.code);
    peer.socket.say("push", 1, "page", "late", 1);
    peer.socket.take();
    const old = peer.socket;
    peer.renewals.push(reply(200, { token: "T9" }));
    const ready = peer.page.restart();
    assert.equal(await sent, "closed");
    assert.deepEqual(old.take(), [["bye"]]);
    await settled();
    assert.deepEqual(peer.asked, [{ token: null }]);
    const hello = peer.socket.welcome({ page: "p2" });
    assert.deepEqual([hello.token, hello.attempt, hello.seq], ["T9", 1, undefined]);
    assert.notEqual(hello.document, first.document);
    await ready;
    assert.deepEqual([peer.page.id, peer.page.state], ["p2", "open"]);
    peer.page.on("late", (data) => void heard.push(data));
    peer.socket.say("push", 1, "page", "kept", "new");
    await settled();
    assert.deepEqual(heard, ["new"]);
    assert.deepEqual(peer.events("forked"), []);
  });

  test("an answer that is found late is none of the new page's", async () => {
    const peer = setUpPeer();
    let answer = (/** @type {unknown} */ _value) => {};
    peer.page.on("ask", () => new Promise((resolve) => (answer = resolve)));
    peer.open();
    peer.socket.say("push", 1, "page", "ask", null, 5);
    peer.renewals.push(reply(200, { token: "T9" }));
    void peer.page.restart();
    await settled();
    peer.socket.welcome({ page: "p2" });
    answer("late");
    await settled();
    assert.deepEqual(peer.socket.take(), []);
  });

  test("after the end of a page, too", async () => {
    const peer = setUpPeer();
    peer.open();
    peer.socket.cut(4509, "another one has it");
    assert.equal(peer.page.state, "closed");
    peer.renewals.push(reply(200, { token: "T9" }));
    const ready = peer.page.restart();
    await settled();
    peer.socket.welcome({ page: "p2" });
    await ready;
  });

  test("rejects when there is no new page to be had", async () => {
    const peer = setUpPeer();
    peer.open();
    peer.renewals.push(reply(403, { code: 4500, reason: "no session" }));
    await assert.rejects(peer.page.restart(), { code: "refused" });
  });

  test("needs an include", async () => {
    const peer = setUpPeer({ included: false });
    await assert.rejects(peer.page.restart(), { code: "closed" });
  });
});
