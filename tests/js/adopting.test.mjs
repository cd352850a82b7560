import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { outcome, reply, setUp, settled } from "./support/peer.mjs";

/** Longer than any first back-off. */
const A_MOMENT = 200;

/** An open page that does not reload, and what ends its session. */
function setUpOpen() {
  const peer = setUp();
  peer.page.addEventListener("identity", (event) => event.preventDefault());
  const hello = peer.open();
  const end = async () => {
    peer.renewals.push(reply(403, { code: 4503, reason: "the session has changed" }));
    peer.socket.cut(4503, "the session has ended");
    await settled();
    assert.equal(peer.page.state, "closed");
    peer.asked.splice(0);
  };
  return { peer, hello, end };
}

describe("adopt()", () => {
  test("takes on the identity that the browser has now, with nothing of the old one", async () => {
    const { peer, hello, end } = setUpOpen();
    /** @type {any[]} */
    const heard = [];
    peer.page.on("kept", (data) => void heard.push(data));
    peer.socket.say("push", 1, "page", "late", 1);
    await end();
    peer.renewals.push(reply(200, { token: "T9" }));
    const ready = outcome(peer.page.adopt());
    await peer.clock.advance(A_MOMENT);
    assert.deepEqual(peer.asked, [{ token: "T1", adopt: true }]);
    const fresh = peer.socket.welcome({ page: "p1", seq: 9 });
    assert.deepEqual([fresh.token, fresh.attempt, fresh.seq, fresh.epoch], ["T9", 1, undefined, undefined]);
    assert.notEqual(fresh.document, hello.document);
    await settled();
    assert.equal(ready.state, "resolved");
    assert.deepEqual([peer.page.state, peer.page.id, peer.reloads], ["open", "p1", 0]);
    peer.page.on("late", (data) => void heard.push(data));
    peer.socket.say("push", 10, "page", "kept", "new");
    await settled();
    assert.deepEqual(heard, ["new"]);
    assert.equal(peer.events("identity").length, 1);
    peer.renewals.push(reply(200, { token: "T10" }));
    peer.socket.cut(4500, "");
    await settled();
    assert.deepEqual(peer.asked[1], { token: "T9" });
  });

  test("in the listener of the event itself", async () => {
    const peer = setUp();
    peer.page.addEventListener("identity", (event) => {
      event.preventDefault();
      void peer.page.adopt();
    });
    peer.open();
    peer.renewals.push(reply(403, { code: 4503, reason: "" }), reply(200, { token: "T9" }));
    peer.socket.cut(4503, "");
    await settled();
    await peer.clock.advance(A_MOMENT);
    assert.deepEqual(peer.asked, [{ token: "T1" }, { token: "T1", adopt: true }]);
    assert.equal(peer.socket.welcome().token, "T9");
    assert.deepEqual([peer.page.state, peer.reloads], ["open", 0]);
  });

  test("what the old identity has sent is rejected, and never sent again", async () => {
    const { peer, end } = setUpOpen();
    const sends = [1, 2].map((qos) => outcome(peer.page.send("d", "old", { qos: /** @type {1 | 2} */ (qos) })));
    const joined = outcome(peer.page.join("t"));
    await end();
    const between = outcome(peer.page.send("d", "between"));
    peer.renewals.push(reply(200, { token: "T9" }));
    void peer.page.adopt();
    const after = outcome(peer.page.send("d", "new"));
    await peer.clock.advance(A_MOMENT);
    peer.socket.welcome();
    await settled();
    assert.deepEqual(
      [...sends, joined, between].map(({ value }) => value.code),
      ["refused", "refused", "refused", "refused"],
    );
    const [[kind, id, , , data], ...more] = peer.socket.take();
    assert.deepEqual([kind, data, more], ["send", "new", []]);
    peer.socket.say("result", id, true, "done");
    await settled();
    assert.equal(after.value, "done");
  });

  test("an answer that the old identity was asked for is not given", async () => {
    const { peer, end } = setUpOpen();
    let answer = (/** @type {unknown} */ _value) => {};
    peer.page.on("ask", () => new Promise((resolve) => (answer = resolve)));
    peer.page.on("now", () => "unconfirmed");
    peer.socket.say("push", 1, "page", "ask", null, 5);
    peer.socket.say("push", 2, "page", "now", null, 6);
    await settled();
    assert.deepEqual(peer.socket.take(), [["ack", 6, true, "unconfirmed"]]);
    await end();
    peer.renewals.push(reply(200, { token: "T9" }));
    void peer.page.adopt();
    await peer.clock.advance(A_MOMENT);
    peer.socket.welcome();
    answer("late");
    await settled();
    assert.deepEqual(peer.socket.take(), []);
  });

  test("waits for the cookie of the new session, ever longer", async () => {
    const { peer, end } = setUpOpen();
    await end();
    const notYet = reply(503, {}, { "retry-after": "0" });
    peer.renewals.push(notYet, notYet, notYet, reply(200, { token: "T9" }));
    const ready = outcome(peer.page.adopt());
    const counts = [];
    for (const ms of [100, 200, 400, 800]) {
      assert.equal(peer.page.state, "waiting");
      await peer.clock.advance(ms - 1);
      counts.push(peer.asked.length);
      await peer.clock.advance(1);
    }
    assert.deepEqual(counts, [0, 1, 2, 3]);
    assert.deepEqual(peer.asked, Array(4).fill({ token: "T1", adopt: true }));
    peer.socket.welcome();
    await settled();
    assert.equal(ready.state, "resolved");
  });

  test("who is thrown out at once again asks ever less often", async () => {
    const peer = setUp();
    peer.page.addEventListener("identity", (event) => {
      event.preventDefault();
      void peer.page.adopt();
    });
    peer.open();
    for (let round = 0; round < 20; round++) {
      peer.renewals.push(reply(403, { code: 4503, reason: "" }), reply(200, { token: `T${round}` }));
      const sockets = peer.sockets.length;
      peer.socket.cut(4503, "");
      while (peer.sockets.length === sockets) await peer.clock.advance(100);
      peer.socket.welcome();
    }
    assert.ok(peer.clock.time > 1_000_000 + 100_000, `20 times in ${peer.clock.time - 1_000_000} ms`);
  });

  test("rejects when it is refused, and may be called again", async () => {
    const { peer, end } = setUpOpen();
    await end();
    peer.renewals.push(reply(403, {}));
    const refused = outcome(peer.page.adopt());
    await peer.clock.advance(A_MOMENT);
    assert.deepEqual([refused.state, refused.value.code, peer.page.state], ["rejected", "refused", "closed"]);
    peer.renewals.push(reply(200, { token: "T9" }));
    void peer.page.adopt();
    await peer.clock.advance(2 * A_MOMENT);
    assert.deepEqual(peer.asked[1], { token: "T1", adopt: true });
    assert.equal(peer.socket.welcome().token, "T9");
  });

  test("of an open page ends that", async () => {
    const peer = setUp();
    peer.open();
    const sent = outcome(peer.page.send("d"));
    peer.socket.take();
    const old = peer.socket;
    peer.renewals.push(reply(200, { token: "T9" }));
    void peer.page.adopt();
    await peer.clock.advance(A_MOMENT);
    assert.equal(sent.value.code, "closed");
    assert.deepEqual(old.take(), [["bye"]]);
    assert.equal(peer.socket.welcome().token, "T9");
  });

  test("close() keeps it from coming back", async () => {
    const { peer, end } = setUpOpen();
    await end();
    const adopted = outcome(peer.page.adopt());
    peer.page.close();
    await peer.clock.advance(60_000);
    assert.deepEqual([adopted.value.code, peer.page.state, peer.asked], ["closed", "closed", []]);
  });

  test("needs an include", async () => {
    const peer = setUp({ included: false });
    await assert.rejects(peer.page.adopt(), { code: "closed" });
    assert.deepEqual(peer.asked, []);
  });
});

test("a page whose session has ended hears so before the cookie of the new one is there, too", async () => {
  const peer = setUp();
  peer.open();
  peer.renewals.push(reply(403, { code: 4500, reason: "the token is not good" }));
  peer.socket.cut(4503, "the session has ended");
  await settled();
  assert.deepEqual(peer.events("identity"), [{ code: 4503, reason: "the token is not good", renewed: false }]);
  assert.deepEqual(peer.events("refused"), []);
});

describe("a page that was away while the identity changed", () => {
  test("hears so when it comes back", async () => {
    const peer = setUp();
    peer.open();
    peer.cutAndReturn();
    peer.socket.accept();
    peer.renewals.push(reply(403, { code: 4503, reason: "the session or the user has changed" }));
    peer.socket.cut(4500, "the token is not good for this browser session");
    await settled();
    assert.deepEqual(peer.events("identity"), [
      { code: 4503, reason: "the session or the user has changed", renewed: false },
    ]);
    assert.deepEqual([peer.events("refused"), peer.reloads], [[], 1]);
  });
});
