import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import * as wire from "../../static/wire.js";

/**
 * `canonical`: exactly what the client writes for these items.
 *
 * @typedef {{direction: "up" | "down", frame?: string, base64?: string, ok: boolean, why: string, canonical?: true}} Row
 */

/** @type {Row[]} */
const corpus = JSON.parse(readFileSync(new URL("../wire_corpus.json", import.meta.url), "utf8"));

/** @param {Row} row */
function messageOf({ frame, base64 }) {
  return frame ?? new Uint8Array(Buffer.from(base64 ?? "", "base64")).buffer;
}

/** @param {any[]} items */
function encode([kind, ...items]) {
  switch (kind) {
    case "hello":
      return wire.hello(items[0]);
    case "send":
      return wire.send(items[0], items[1], items[2], items[3]);
    case "ack":
      return items[1] ? wire.answered(items[0], items[2]) : wire.failed(items[0], items[2].code, items[2].message);
    case "join":
    case "leave":
      return wire.membership(kind, items[0], items[1]);
    case "bye":
      return wire.BYE;
    case "pong":
      return wire.PONG;
    default:
      throw new Error(`the page never sends ${kind}`);
  }
}

describe("the corpus, server to page", () => {
  for (const row of corpus.filter(({ direction }) => direction === "down")) {
    test(`${row.ok ? "good" : "bad"}: ${row.why}: ${(row.frame ?? row.base64 ?? "").slice(0, 60)}`, () => {
      if (row.ok) {
        const items = row.frame === undefined ? null : JSON.parse(row.frame);
        const decoded = wire.decode(messageOf(row));
        if (items !== null) assert.equal(decoded.kind, items[0]);
        if (items !== null && decoded.kind === "push") assert.deepEqual(decoded.data, items[4]);
      } else assert.throws(() => wire.decode(messageOf(row)), wire.MalformedFrame);
    });
  }
});

describe("the corpus, page to server", () => {
  const canonical = corpus.filter((row) => row.direction === "up" && row.canonical);
  assert.ok(canonical.length > 20);
  for (const row of canonical) {
    test(`${row.why}: ${(row.frame ?? row.base64 ?? "").slice(0, 60)}`, () => {
      if (row.frame !== undefined) {
        assert.equal(encode(JSON.parse(row.frame)), row.frame);
        return;
      }
      const bytes = Buffer.from(row.base64 ?? "", "base64");
      const size = bytes.readUInt32BE(0);
      const items = JSON.parse(bytes.subarray(4, 4 + size).toString());
      items[items.lastIndexOf(null)] = bytes.subarray(4 + size);
      assert.deepEqual(Buffer.from(/** @type {Uint8Array} */ (encode(items))), bytes);
    });
  }
});

test("bytes are data, whatever holds them", () => {
  const bytes = new Uint8Array([9, 1, 2, 3, 9]);
  const view = bytes.subarray(1, 4);
  const sent = /** @type {Uint8Array} */ (wire.send(1, 1, "x", view));
  assert.deepEqual([...sent.subarray(-3)], [1, 2, 3]);
  assert.deepEqual(wire.send(1, 1, "x", new DataView(bytes.buffer, 1, 3)), sent);
  assert.deepEqual(wire.send(1, 1, "x", bytes.slice(1, 4).buffer), sent);
  bytes.fill(0);
  assert.deepEqual([...sent.subarray(-3)], [1, 2, 3], "a snapshot");
});

test("binary data of a push is exactly its payload", () => {
  const header = Buffer.from('["push",4,"page","x",null]');
  const message = new Uint8Array(4 + header.length + 2);
  new DataView(message.buffer).setUint32(0, header.length);
  message.set(header, 4);
  message.set([7, 8], 4 + header.length);
  const frame = wire.decode(message.buffer);
  assert.ok(frame.kind === "push" && frame.data instanceof Uint8Array);
  assert.deepEqual([...frame.data], [7, 8]);
});

test("what has no JSON form, or no Unicode one, is refused at the call", () => {
  /** @type {any} */
  const cycle = {};
  cycle.self = cycle;
  for (const data of [cycle, 10n, () => 1, Symbol("x"), "\ud800", { deep: ["\\\udfff"] }, { ["\udc00"]: 1 }]) {
    assert.throws(() => wire.send(1, 1, "x", data), TypeError);
  }
  for (const data of ["\\ud800", "\\\\ud800 \\", "\u{1f600}", "\u2028"]) {
    assert.deepEqual(JSON.parse(String(wire.send(1, 1, "x", data)))[4], data);
  }
});

test("names are 1 to 200 printable characters", () => {
  for (const name of ["x", "room/7", "with space", "\u{1f600}".repeat(200), "topic:ä", "__proto__"]) {
    wire.checkName("a topic", name);
  }
  const wrong = ["", "n".repeat(201), "a\nb", "a\u0000b", "\u007f", "\u2028", "\u00a0", "\ud800", 5, null, undefined];
  for (const name of wrong) {
    assert.throws(() => wire.checkName("a topic", name), TypeError);
  }
});

test("an error that travels is whole text of bounded length", () => {
  const [, , ok, error] = JSON.parse(wire.failed(3, "internal", "x".repeat(999) + "\u{1f600}"));
  assert.equal(ok, false);
  assert.equal(error.message, "x".repeat(999) + "\ufffd");
});
