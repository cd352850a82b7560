import assert from "node:assert/strict";
import { test } from "node:test";
import { PageError } from "../../static/errors.js";
import { reply, settled, setUp } from "./support/peer.mjs";

/** What every object, function or prototype has. */
const STRANGE = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf", "then"];

test("threat 11: a token that is not good is renewed once, and the page goes on", async () => {
  const peer = setUp();
  peer.page.connect();
  peer.renewals.push(reply(200, { token: "fresh" }));
  peer.socket.accept();
  peer.socket.cut(4500, "the token is not good for this browser session");
  await settled();
  assert.deepEqual(peer.asked, [{ token: "T1" }]);
  await peer.clock.advance(60_000);
  assert.equal(peer.socket.welcome().token, "fresh");
  assert.equal(peer.page.state, "open");
  assert.equal(peer.reloads, 0);
  assert.deepEqual(peer.events("identity"), []);
});

test("threat 24: a push to a strange name reaches whoever listens to it, and nobody else", () => {
  const peer = setUp();
  /** @type {unknown[]} */
  const seen = [];
  peer.open();
  for (const name of STRANGE) peer.page.on(name, (data, message) => void seen.push([message.delegate, data]));
  for (const [index, name] of STRANGE.entries()) peer.socket.say("push", index + 1, `topic:${name}`, name, index);
  assert.deepEqual(seen, STRANGE.map((name, index) => [name, index]));
});

test("threat 24: a push to a strange name to which nobody listens waits like any other", async () => {
  const peer = setUp();
  peer.open();
  for (const [index, name] of STRANGE.entries()) peer.socket.say("push", index + 1, "page", name, index);
  assert.deepEqual(peer.events("unhandled").map(({ message }) => message.delegate), STRANGE);
  assert.deepEqual(peer.events("error"), []);
  /** @type {unknown[]} */
  const seen = [];
  peer.page.on("constructor", (data) => void seen.push(data));
  await settled();
  assert.deepEqual(seen, [STRANGE.indexOf("constructor")]);
});

test("threat 24: a question to a strange name is answered by whoever listens to it", async () => {
  const peer = setUp();
  peer.open();
  for (const name of STRANGE) peer.page.on(name, () => name);
  peer.socket.take();
  for (const [index, name] of STRANGE.entries()) peer.socket.say("push", index + 1, "page", name, null, 100 + index);
  await settled();
  assert.deepEqual(
    peer.socket.take().sort(([, one], [, other]) => one - other),
    STRANGE.map((name, index) => ["ack", 100 + index, true, name]),
  );
});

test("threat 24: strange names go out as they are, as delegates and as topics", async () => {
  const peer = setUp();
  peer.open();
  peer.socket.take();
  const results = STRANGE.flatMap((name) => [peer.page.send(name, JSON.parse('{"__proto__":1}')), peer.page.join(name)]);
  const written = peer.socket.take();
  assert.deepEqual(
    written.map((frame) => JSON.stringify(frame)),
    STRANGE.flatMap((name, index) => [
      JSON.stringify(["send", 2 * index + 1, 1, name, JSON.parse('{"__proto__":1}')]),
      JSON.stringify(["join", 2 * index + 2, name]),
    ]),
  );
  for (const [, id] of written) peer.socket.say("result", id, true, id);
  assert.deepEqual(await Promise.all(results), written.map(([, id]) => id));
});

test("threat 24: an answer and an error that name what every object has are plain data", async () => {
  const peer = setUp();
  peer.open();
  const failing = peer.page.send("x");
  peer.socket.raw('["result",1,false,{"code":"__proto__","message":"constructor","__proto__":{"polluted":1}}]');
  await assert.rejects(failing, (error) => {
    assert.ok(error instanceof PageError);
    assert.deepEqual([error.code, error.message], ["__proto__", "constructor"]);
    return true;
  });
  const answered = peer.page.send("x");
  peer.socket.raw('["result",2,true,{"__proto__":{"polluted":1},"constructor":null}]');
  assert.deepEqual(Object.keys(/** @type {object} */ (await answered)).sort(), ["__proto__", "constructor"]);
  assert.equal(/** @type {any} */ ({}).polluted, undefined);
});

test("threat 24: what cannot be a name is refused where it is said", async () => {
  const peer = setUp();
  peer.open();
  peer.socket.take();
  for (const name of ["", "a\nb", "a\r\nb", "\0", "\u001b[2J", "\u2028", "\u200b", "\ud800", "x".repeat(201)]) {
    assert.throws(() => peer.page.on(name, () => {}), TypeError);
    await assert.rejects(peer.page.send(name), TypeError);
    await assert.rejects(peer.page.join(name), TypeError);
  }
  assert.deepEqual(peer.socket.take(), []);
});

test("threat 35: a page whose cookie lost asks once why, and is loaded again under guard", async () => {
  const peer = setUp();
  peer.page.connect();
  peer.renewals.push(reply(403, { code: 4503, reason: "the session or the user has changed" }));
  peer.socket.accept();
  peer.socket.cut(4500, "the token is not good for this browser session");
  await settled();
  assert.equal(peer.asked.length, 1);
  assert.equal(peer.events("identity").length, 1);
  await peer.clock.advance(60_000);
  assert.equal(peer.reloads, 1);
  await peer.clock.advance(600_000);
  assert.equal(peer.asked.length, 1);
  assert.equal(peer.reloads, 1);
});
