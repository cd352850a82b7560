import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { outcome, reply, settled, setUp } from "./support/peer.mjs";

describe("attaching", () => {
  test("nothing happens before connect()", () => {
    const { page, sockets, clock } = setUp();
    assert.deepEqual([page.state, page.transport, page.id, page.cursor], ["idle", null, null, null]);
    assert.deepEqual([sockets.length, clock.set], [0, 0]);
  });

  test("hello comes first, and welcome opens", async () => {
    const peer = setUp();
    const ready = outcome(peer.page.ready);
    peer.page.connect();
    assert.equal(peer.page.state, "connecting");
    assert.deepEqual([peer.socket.url, peer.socket.protocol], ["ws://server.test/pagews/socket", "pagews.v1"]);
    assert.equal(peer.socket.binaryType, "arraybuffer");
    const { document, ...hello } = peer.socket.accept();
    assert.match(document, /^[0-9a-f]{32}$/);
    assert.deepEqual(hello, { token: "T1", attempt: 1, transport: "websocket" });
    await settled();
    assert.equal(ready.state, "pending");
    peer.socket.welcomeAgain({});
    assert.deepEqual([peer.page.state, peer.page.transport, peer.page.id], ["open", "websocket", "p1"]);
    await settled();
    assert.equal(ready.state, "resolved");
    assert.deepEqual(
      peer.events("statechange").map(({ previous, state }) => [previous, state]),
      [["idle", "connecting"], ["connecting", "open"]],
    );
  });

  test("https means wss", () => {
    const peer = setUp({ base: "https://server.test/app/pagews" });
    peer.page.connect();
    assert.equal(peer.socket.url, "wss://server.test/app/pagews/socket");
  });

  test("connect() on a link that is up changes nothing", () => {
    const peer = setUp();
    peer.open();
    peer.page.connect();
    assert.equal(peer.sockets.length, 1);
  });

  test("a new attempt of the same document brings the cursor", async () => {
    const peer = setUp();
    const first = peer.open();
    peer.socket.say("push", 5, "page", "x", 1);
    const socket = peer.cutAndReturn();
    const second = socket.accept();
    assert.deepEqual(second, { ...first, attempt: 2, epoch: "e1", seq: 5 });
  });

  test("without a token the server is asked for a page", async () => {
    const peer = setUp({ token: null });
    peer.renewals.push(reply(200, { token: "T9" }));
    peer.page.connect();
    assert.deepEqual([peer.page.state, peer.sockets.length], ["waiting", 0]);
    await settled();
    assert.deepEqual(peer.asked, [{ token: null }]);
    assert.equal(peer.socket.accept().token, "T9");
  });

  test("a server that never welcomes is left", async () => {
    const peer = setUp();
    peer.page.connect();
    peer.socket.accept();
    await peer.clock.advance(14_999);
    assert.equal(peer.sockets.length, 1);
    await peer.clock.advance(1 + 200);
    assert.equal(peer.sockets.length, 2);
    assert.notEqual(peer.sockets[0]?.closed, null);
  });

  test("a socket that cannot be made is reported and tried again", async () => {
    class Refuses {
      constructor() {
        throw new Error("not here");
      }
    }
    const peer = setUp({ WebSocket: /** @type {any} */ (Refuses) });
    peer.page.connect();
    assert.equal(peer.page.state, "waiting");
    assert.equal(peer.events("error")[0].error.message, "not here");
    await peer.clock.advance(100);
    assert.equal(peer.events("error").length, 2);
  });
});

describe("coming back", () => {
  test("a cut waits with full jitter, doubling until there is progress", async () => {
    const peer = setUp();
    peer.clock.chance = 0.5;
    peer.open();
    for (const bound of [200, 400, 800]) {
      const before = peer.sockets.length;
      peer.socket.cut();
      assert.equal(peer.page.state, "waiting");
      await peer.clock.advance(bound / 2 - 1);
      assert.equal(peer.sockets.length, before);
      await peer.clock.advance(1);
      assert.equal(peer.sockets.length, before + 1);
      peer.socket.welcome();
    }
    peer.socket.say("ping", 3);
    peer.socket.cut();
    await peer.clock.advance(100);
    peer.socket.welcome();
    peer.socket.say("push", 4, "page", "x", 1);
    peer.socket.cut();
    await peer.clock.advance(100);
    peer.socket.welcome();
    peer.socket.say("push", 4, "page", "x", 1);
    peer.socket.cut();
    await peer.clock.advance(100);
    assert.equal(peer.sockets.length, 6, "a push that was seen before is no progress");
    await peer.clock.advance(100);
    assert.equal(peer.sockets.length, 7);
  });

  test("the server's delay is kept, with jitter on top", async () => {
    const peer = setUp();
    peer.open();
    peer.socket.cut(1012, "draining; retry=3.5");
    peer.page.wake();
    peer.page.online();
    await peer.clock.advance(3599);
    assert.equal(peer.sockets.length, 1);
    await peer.clock.advance(1);
    assert.equal(peer.sockets.length, 2);
  });

  test("a close frame says what a WebSocket close says", async () => {
    const peer = setUp();
    peer.open();
    peer.socket.say("close", 1012, "retry=2");
    assert.equal(peer.page.state, "waiting");
    assert.notEqual(peer.socket.closed, null);
    peer.socket.cut(4501, "too late to count");
    assert.equal(peer.page.state, "waiting");
    await peer.clock.advance(2100);
    assert.equal(peer.sockets.length, 2);
  });

  test("frames of any socket but the newest are dropped", () => {
    const peer = setUp();
    /** @type {number[]} */
    const seen = [];
    peer.page.on("x", (data) => void seen.push(data));
    peer.open();
    const old = peer.socket;
    peer.page.reconnect();
    assert.notEqual(old.closed, null);
    old.say("push", 1, "page", "x", 1);
    old.cut(4501, "");
    peer.socket.welcome();
    old.say("push", 2, "page", "x", 2);
    peer.socket.say("push", 1, "page", "x", 3);
    assert.deepEqual(seen, [3]);
    assert.equal(peer.page.state, "open");
  });

  test("online and a visible page wait no longer", async () => {
    for (const hurry of /** @type {const} */ (["wake", "online", "reconnect"])) {
      const peer = setUp();
      peer.open();
      peer.socket.cut();
      peer.page[hurry]();
      assert.equal(peer.sockets.length, 2, hurry);
      await peer.clock.advance(1000);
      assert.equal(peer.sockets.length, 2, "the wait that was cut short is gone");
    }
  });

  test("online does not trust an open socket", () => {
    const peer = setUp();
    peer.open();
    peer.page.online();
    assert.equal(peer.sockets.length, 2);
  });

  test("offline is a broken line: the page tries on, and online comes back at once", async () => {
    for (const opened of [true, false]) {
      const peer = setUp();
      peer.page.connect();
      if (opened) peer.socket.welcome();
      peer.page.offline();
      peer.page.offline();
      assert.deepEqual([peer.page.state, peer.socket.closed?.code, peer.sockets.length], ["waiting", 1000, 1]);
      peer.page.online();
      assert.equal(peer.sockets.length, 2);
      peer.page.offline();
      await peer.clock.advance(200);
      assert.equal(peer.sockets.length, 3, "the browser's word may be wrong");
    }
  });

  test("codes that end the page", async () => {
    for (const code of [1002, 1003, 1007, 1010, 4501, 4509]) {
      const peer = setUp();
      peer.open();
      const sent = outcome(peer.page.send("x"));
      peer.socket.cut(code, "why");
      assert.equal(peer.page.state, "closed");
      await peer.clock.advance(60_000);
      assert.deepEqual([peer.sockets.length, peer.clock.set, peer.reloads], [1, 0, 0], String(code));
      assert.deepEqual(peer.events("refused"), [{ code, reason: "why", final: true }]);
      assert.equal(sent.value.code, "refused");
      await assert.rejects(peer.page.send("x"), { code: "refused" });
      peer.page.connect();
      assert.equal(peer.sockets.length, 2, "unless it is told to");
    }
  });

  test("close() says goodbye and stays away", async () => {
    const peer = setUp();
    peer.open();
    const sent = outcome(peer.page.send("x"));
    peer.socket.take();
    peer.page.close();
    assert.deepEqual(peer.socket.take(), [["bye"]]);
    assert.deepEqual([peer.page.state, peer.socket.closed?.code], ["closed", 1000]);
    await peer.clock.advance(60_000);
    assert.equal(sent.value.code, "closed");
    assert.deepEqual([peer.sockets.length, peer.clock.set], [1, 0]);
  });

  test("who connects again on hearing that the page is closed can send", async () => {
    for (const end of /** @type {const} */ (["close", "4501"])) {
      const peer = setUp();
      peer.page.addEventListener("statechange", () => peer.page.state === "closed" && peer.page.connect());
      peer.open();
      const before = outcome(peer.page.send("x"));
      if (end === "close") peer.page.close();
      else peer.socket.cut(4501, "why");
      peer.socket.welcome();
      assert.equal(peer.page.state, "open");
      const sent = peer.page.send("y", 1);
      assert.deepEqual(peer.socket.take(), [["send", 2, 1, "y", 1]], end);
      peer.socket.say("result", 2, true, "done");
      assert.equal(await sent, "done");
      assert.equal(before.state, "rejected");
    }
  });

  test("ready rejects when the page is closed before its first welcome, and nobody need listen", async () => {
    const peer = setUp();
    peer.page.connect();
    peer.page.close();
    await settled();
    await assert.rejects(peer.page.ready, { code: "closed" });
  });
});

describe("liveness", () => {
  test("a ping is answered by the script", () => {
    const peer = setUp();
    peer.open();
    peer.socket.say("ping", 0);
    assert.deepEqual(peer.socket.take(), [["pong"]]);
  });

  test("one and a half heartbeats of silence end the socket; any frame is a sign of life", async () => {
    const peer = setUp();
    peer.open({ heartbeat: 20 });
    await peer.clock.advance(29_000);
    peer.socket.say("token", "T2");
    await peer.clock.advance(29_999);
    assert.equal(peer.page.state, "open");
    await peer.clock.advance(1);
    assert.equal(peer.page.state, "waiting");
    await peer.clock.advance(200);
    assert.equal(peer.sockets.length, 2);
  });

  test("a machine that slept notices by the clock when its timer fires late", async () => {
    const peer = setUp();
    peer.open({ heartbeat: 20 });
    peer.clock.sleep(3_600_000);
    await peer.clock.advance(0);
    assert.equal(peer.page.state, "waiting");
  });

  test("visible again after a missed ping: at once; before: the socket is kept", () => {
    const peer = setUp();
    peer.open({ heartbeat: 20 });
    peer.clock.sleep(24_000);
    peer.page.wake();
    assert.equal(peer.sockets.length, 1);
    peer.clock.sleep(2_000);
    peer.page.wake();
    assert.equal(peer.sockets.length, 2);
  });

  test("a clock that is set back does not blind the watch", async () => {
    const peer = setUp();
    peer.open({ heartbeat: 20 });
    peer.clock.time -= 3_600_000;
    peer.page.wake();
    assert.equal(peer.page.state, "open");
    peer.clock.sleep(26_000);
    peer.page.wake();
    assert.equal(peer.sockets.length, 2);
  });
});

describe("a document that sleeps", () => {
  test("lets go of its socket and comes back at once", async () => {
    const peer = setUp();
    peer.open();
    peer.page.suspend();
    assert.deepEqual([peer.page.state, peer.socket.closed?.code], ["waiting", 1000]);
    assert.deepEqual(peer.socket.take(), [], "no goodbye");
    peer.page.wake();
    peer.page.offline();
    peer.page.online();
    await peer.clock.advance(60_000);
    assert.equal(peer.sockets.length, 1);
    peer.page.resume();
    peer.page.resume();
    assert.equal(peer.sockets.length, 2);
    assert.equal(peer.socket.accept().attempt, 2);
  });

  test("an idle or closed page neither sleeps nor wakes", () => {
    const peer = setUp();
    for (const step of /** @type {const} */ (["suspend", "resume", "wake", "online", "offline"])) peer.page[step]();
    assert.deepEqual([peer.page.state, peer.sockets.length], ["idle", 0]);
    peer.open();
    peer.page.close();
    for (const step of /** @type {const} */ (["suspend", "resume", "wake", "online", "offline"])) peer.page[step]();
    assert.deepEqual([peer.page.state, peer.sockets.length], ["closed", 1]);
  });
});

describe("a server that breaks the protocol", () => {
  for (const [what, frame] of /** @type {const} */ ([
    ["no JSON", "nonsense"],
    ["unknown kind", '["nothing"]'],
    ["negative seq", '["push",-1,"page","x",1]'],
  ])) {
    test(`${what} is reported, and the page comes back with back-off`, async () => {
      const peer = setUp();
      peer.open();
      const old = peer.socket;
      old.raw(frame);
      assert.deepEqual([old.closed?.code, peer.page.state], [4501, "waiting"]);
      assert.equal(peer.events("error")[0].error.name, "MalformedFrame");
      old.say("push", 1, "page", "x", 1);
      assert.equal(peer.page.cursor, null);
      await peer.clock.advance(100);
      assert.equal(peer.sockets.length, 2);
    });
  }

  test("nothing but welcome or close may come first", () => {
    const peer = setUp();
    peer.page.connect();
    peer.socket.accept();
    peer.socket.say("push", 1, "page", "x", 1);
    assert.match(peer.events("error")[0].error.message, /before welcome/);
    assert.deepEqual([peer.page.cursor, peer.page.state], [null, "waiting"]);
  });

  test("who closes the page while hearing of it stays closed", async () => {
    const peer = setUp();
    peer.page.addEventListener("error", () => peer.page.close());
    peer.open();
    peer.socket.raw("nonsense");
    await peer.clock.advance(60_000);
    assert.deepEqual([peer.page.state, peer.sockets.length], ["closed", 1]);
  });
});

describe("asking why", () => {
  test("4500: one fresh token, at once; a second refusal is final and reloads under guard", async () => {
    const peer = setUp();
    peer.renewals.push(reply(200, { token: "T2" }));
    peer.page.connect();
    peer.socket.accept();
    peer.socket.cut(4500, "");
    assert.equal(peer.page.state, "waiting");
    await settled();
    assert.deepEqual(peer.asked, [{ token: "T1" }]);
    assert.equal(peer.socket.accept().token, "T2");
    peer.socket.cut(4500, "still not");
    await settled();
    assert.deepEqual([peer.page.state, peer.asked.length, peer.reloads], ["closed", 1, 1]);
    assert.deepEqual(peer.events("refused"), [{ code: 4500, reason: "still not", final: true }]);
  });

  test("after a welcome the next refusal may be asked about again", async () => {
    const peer = setUp();
    for (const token of ["T2", "T3"]) {
      peer.renewals.push(reply(200, { token }));
      peer.page.connect();
      peer.socket.welcome();
      peer.socket.cut(4500, "");
      await settled();
      assert.equal(peer.sockets.length, peer.asked.length + 1);
    }
    assert.equal(peer.socket.accept().token, "T3");
  });

  test("4503: a fresh token is told of, and no reload", async () => {
    const peer = setUp();
    peer.renewals.push(reply(200, { token: "T2" }));
    peer.open();
    peer.socket.cut(4503, "logout");
    await settled();
    assert.deepEqual(peer.events("identity"), [{ code: 4503, reason: "logout", renewed: true }]);
    assert.deepEqual([peer.page.state, peer.reloads], ["connecting", 0]);
  });

  test("4503: without one the page reloads under guard, unless the event is canceled", async () => {
    for (const cancel of [false, true]) {
      const peer = setUp();
      if (cancel) peer.page.addEventListener("identity", (event) => event.preventDefault());
      peer.renewals.push(reply(403, { code: 4503, reason: "session ended" }));
      peer.open();
      peer.socket.cut(4503, "logout");
      await settled();
      assert.deepEqual(peer.events("identity"), [{ code: 4503, reason: "session ended", renewed: false }]);
      assert.deepEqual([peer.page.state, peer.reloads], ["closed", cancel ? 0 : 1]);
    }
  });

  test("no answer is no refusal: it is asked again, not before the server said", async () => {
    const peer = setUp();
    peer.renewals.push(reply(503, {}, { "retry-after": "7" }), () => Promise.reject(new TypeError("down")));
    peer.open();
    peer.socket.cut(4503, "logout");
    await settled();
    await peer.clock.advance(7099);
    assert.equal(peer.asked.length, 1);
    await peer.clock.advance(1);
    assert.equal(peer.asked.length, 2);
    peer.renewals.push(reply(200, { token: "T2" }));
    await peer.clock.advance(400);
    assert.equal(peer.asked.length, 3);
    assert.deepEqual([peer.sockets.length, peer.reloads], [2, 0]);
  });

  test("a page too many, or one that said too much, is told so, and goes on trying", async () => {
    for (const { code, reason } of [
      { code: 4004, reason: "pages" },
      { code: 4013, reason: "too many messages in too little time" },
    ]) {
      const peer = setUp();
      peer.open();
      peer.socket.cut(code, reason);
      await settled();
      assert.deepEqual(peer.events("refused"), [{ code, reason, final: false }]);
      assert.equal(peer.page.state, "waiting");
      await peer.clock.advance(400);
      assert.equal(peer.sockets.length, 2);
    }
  });

  test("a refused upgrade: the reason is asked for, and told, and the page goes on trying", async () => {
    const peer = setUp();
    peer.renewals.push(reply(403, { code: 4004, reason: "origin" }));
    peer.page.connect();
    peer.socket.cut(1006);
    await settled();
    assert.deepEqual(peer.events("refused"), [{ code: 4004, reason: "origin", final: false }]);
    assert.equal(peer.page.state, "waiting");
    await peer.clock.advance(200);
    assert.equal(peer.sockets.length, 2);
    peer.renewals.push(reply(503, {}, { "retry-after": "30" }));
    peer.socket.cut(1006);
    await settled();
    await peer.clock.advance(29_999);
    assert.equal(peer.sockets.length, 2);
    await peer.clock.advance(1000);
    assert.equal(peer.sockets.length, 3);
  });

  test("a refused upgrade of a page that is not wanted any more ends it", async () => {
    const peer = setUp();
    peer.renewals.push(reply(403, { code: 4500, reason: "unknown" }));
    peer.page.connect();
    peer.socket.cut(1006);
    await settled();
    assert.deepEqual([peer.page.state, peer.reloads], ["closed", 1]);
  });

  test("a refused upgrade with a fresh token for an answer uses it", async () => {
    const peer = setUp();
    peer.renewals.push(reply(200, { token: "T2" }));
    peer.page.connect();
    peer.socket.cut(1006);
    await settled();
    await peer.clock.advance(200);
    assert.equal(peer.socket.accept().token, "T2");
  });

  test("a server that hangs over the question is left after ten seconds", async () => {
    /** @type {AbortSignal | null | undefined} */
    let signal;
    const peer = setUp({
      fetch: (_url, init) =>
        new Promise((_resolve, reject) => {
          signal = init?.signal;
          signal?.addEventListener("abort", () => reject(new Error("aborted")));
        }),
    });
    peer.page.connect();
    peer.socket.cut(1006);
    await peer.clock.advance(9_999);
    assert.equal(signal?.aborted, false);
    await peer.clock.advance(1);
    assert.equal(signal?.aborted, true);
    await peer.clock.advance(200);
    assert.equal(peer.sockets.length, 2);
  });

  test("an answer that comes after the page was closed changes nothing", async () => {
    const peer = setUp();
    peer.renewals.push(reply(200, { token: "T2" }));
    peer.open();
    peer.socket.cut(4503, "");
    peer.page.close();
    await peer.clock.advance(60_000);
    assert.deepEqual([peer.page.state, peer.sockets.length, peer.events("identity").length], ["closed", 1, 0]);
  });
});
