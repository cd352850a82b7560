import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PageError } from "../../static/errors.js";
import { sendForm, showOutcome } from "../../static/forms.js";
import { Form, Place, control, readForms } from "./support/form.mjs";
import { outcome, setUp, settled } from "./support/peer.mjs";
import { postings } from "./support/posting.mjs";

/** @param {import("node:test").TestContext} context */
function openPage(context) {
  readForms(context);
  const posted = postings(context);
  const peer = setUp();
  peer.open();
  return { peer, posted };
}

/**
 * @param {{page: import("../../static/page.js").Page}} peer
 * @param {Form} form
 */
function submit({ page }, form) {
  return outcome(sendForm(page, /** @type {any} */ (form), null));
}

describe("a form", () => {
  test("without files goes over the link, once, with the types of its controls", async (context) => {
    const { peer, posted } = openPage(context);
    const form = new Form("order", [control("count", { type: "number" })], [["count", "3"]]);
    const sent = submit(peer, form);
    assert.deepEqual(peer.socket.take(), [["send", 1, 2, "order", { count: 3 }]]);
    peer.socket.say("result", 1, true, "three");
    await settled();
    assert.deepEqual(sent, { state: "resolved", value: "three" });
    assert.deepEqual(posted.made, []);
  });

  test("with file fields is uploaded as the browser would, also when no file is chosen", async (context) => {
    const { peer, posted } = openPage(context);
    const sent = submit(peer, new Form("album", [], [["count", "3"], ["photo", new File([], "")]]));
    await settled();
    assert.deepEqual(posted.last.fields.slice(-2), [["count", "3"], ["photo", ""]]);
    assert.deepEqual(peer.socket.take(), []);
    posted.last.answer(200, { ok: false, code: "no-photo", message: "Choose one." });
    await settled();
    assert.equal(sent.value.code, "no-photo");
  });

  test("tells how far its upload is, in order, by its bars before its events", async (context) => {
    const { peer, posted } = openPage(context);
    const form = new Form("album", [], [["photo", new File(["x"], "x")]]);
    form.bars = [{ max: 1, value: 0 }, { max: 1, value: 0 }];
    /** @type {unknown[]} */
    const told = [];
    form.addEventListener("pagews:progress", (event) => {
      const { bubbles, detail } = /** @type {CustomEvent} */ (event);
      told.push([bubbles, detail, ...form.bars.map(({ max, value }) => [value, max])]);
    });
    submit(peer, form);
    await settled();
    posted.last.progress(10, 20);
    posted.last.progress(20, 20);
    assert.deepEqual(told, [
      [true, { loaded: 10, total: 20 }, [10, 20], [10, 20]],
      [true, { loaded: 20, total: 20 }, [20, 20], [20, 20]],
    ]);
  });

  test("whose upload fails has its bars at the beginning", async (context) => {
    const { peer, posted } = openPage(context);
    const form = new Form("album", [], [["photo", new File(["x"], "x")]]);
    form.bars = [{ max: 1, value: 0 }, { max: 1, value: 0 }];
    const sent = submit(peer, form);
    await settled();
    posted.last.progress(10, 20);
    posted.last.breakOff();
    await settled();
    assert.deepEqual([sent.value.code, form.bars.map(({ value }) => value)], ["closed", [0, 0]]);
    assert.equal(sent.value.message, "the upload broke off: send it again");
  });

  test("that names no delegate fails without a request", async (context) => {
    const { peer, posted } = openPage(context);
    for (const submitted of /** @type {[string, string | File][][]} */ ([[], [["photo", new File([], "")]]])) {
      const sent = submit(peer, new Form("", [], submitted));
      await settled();
      assert.ok(sent.value instanceof TypeError);
    }
    assert.deepEqual([peer.socket.take(), posted.made], [[], []]);
  });
});

describe("an outcome is shown", () => {
  for (const [what, result, role, text] of /** @type {[string, unknown, string, string][]} */ ([
    ["short text as it is", "three times tea", "status", "three times tea"],
    ["text of 500 characters", "x".repeat(500), "status", "x".repeat(500)],
    ["longer text", "x".repeat(501), "status", "sent"],
    ["anything else", { photos: 1 }, "status", "sent"],
    ["nothing", null, "status", "sent"],
    ["an error", new PageError("full", "No room."), "alert", "No room."],
    ["the beginning of another", "", "status", ""],
  ])) {
    test(what, () => {
      const form = new Form("order", [], []);
      form.outcome = new Place();
      assert.equal(showOutcome(/** @type {any} */ (form), result), true);
      assert.deepEqual([form.outcome.attributes, form.outcome.textContent], [{ role }, text]);
    });
  }

  test("where there is a place", () => {
    assert.equal(showOutcome(/** @type {any} */ (new Form("order", [], [])), "x"), false);
  });
});
