import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { guardedReload, halfFilled } from "../../static/reload.js";
import { HandClock } from "./support/clock.mjs";

/** @param {object} fields by selector, as the guard asks for them */
function formOf(fields, activeElement = null) {
  const all = /** @type {Record<string, object[]>} */ (fields);
  return /** @type {any} */ ({ activeElement, querySelectorAll: (/** @type {string} */ name) => all[name] ?? [] });
}

const WHY = "lost messages (epoch)";

/** What the console was warned of. @returns {string[]} */
const warned = () => warn.mock.calls.map(({ arguments: [text] }) => text);

/** @type {import("node:test").Mock<(text: string) => void>} */
let warn;
beforeEach(() => {
  warn = mock.method(console, "warn", () => {});
});
afterEach(() => mock.reset());

function setUp() {
  const clock = new HandClock();
  /** @type {Map<string, string>} */
  const stored = new Map();
  const seen = { reloads: 0, waiting: 0 };
  const fields = { input: /** @type {object[]} */ ([]) };
  const window = {
    document: formOf(fields),
    location: { reload: () => seen.reloads++ },
    sessionStorage: {
      getItem: (/** @type {string} */ key) => stored.get(key) ?? null,
      setItem: (/** @type {string} */ key, /** @type {string} */ value) => stored.set(key, value),
    },
  };
  /** A fresh document of the same tab. */
  const load = () => guardedReload(/** @type {any} */ (window), clock, () => seen.waiting++);
  return { clock, seen, window, fields, load };
}

describe("the guarded reload", () => {
  test("is jittered, and asked for twice is done once", async () => {
    const { clock, seen, load } = setUp();
    const reload = load();
    reload({ busy: false }, WHY);
    reload({ busy: false }, WHY);
    assert.deepEqual(seen, { reloads: 0, waiting: 1 });
    await clock.advance(2499);
    assert.equal(seen.reloads, 0);
    await clock.advance(1);
    assert.equal(seen.reloads, 1);
    await clock.advance(300_000);
    assert.equal(seen.reloads, 1);
    assert.deepEqual(warned(), []);
  });

  test("never comes twice within a minute of a tab", async () => {
    const { clock, seen, load } = setUp();
    load()({ busy: false }, WHY);
    await clock.advance(2500);
    load()({ busy: false }, WHY);
    await clock.advance(59_999);
    assert.equal(seen.reloads, 1);
    await clock.advance(1);
    assert.equal(seen.reloads, 2);
    assert.deepEqual(warned(), ["pagews: the page lost messages (epoch) and reloads in 58 s"]);
  });

  test("is not held for ever by a clock that is set back", async () => {
    const { clock, seen, load } = setUp();
    load()({ busy: false }, WHY);
    await clock.advance(2500);
    clock.time -= 3_600_000;
    load()({ busy: false }, WHY);
    await clock.advance(2500);
    assert.equal(seen.reloads, 2);
  });

  test("waits for a send that is under way, and for a form", async () => {
    const { clock, seen, load, fields } = setUp();
    const page = { busy: true };
    load()(page, WHY);
    await clock.advance(60_000);
    assert.equal(seen.reloads, 0);
    page.busy = false;
    fields.input = [{ type: "text", value: "typed", defaultValue: "" }];
    await clock.advance(60_000);
    assert.equal(seen.reloads, 0);
    fields.input = [];
    await clock.advance(5_000);
    assert.equal(seen.reloads, 1);
    assert.deepEqual(warned(), [
      "pagews: the page lost messages (epoch) and reloads when the result of what it has sent is there",
    ]);
  });

  test("says that it waits for a form", async () => {
    const { clock, fields, load } = setUp();
    fields.input = [{ type: "text", value: "typed", defaultValue: "" }];
    load()({ busy: false }, WHY);
    await clock.advance(60_000);
    assert.deepEqual(warned(), ["pagews: the page lost messages (epoch) and reloads when no form is half filled in"]);
  });

  test("does nothing where it cannot remember having been done", async () => {
    const { clock, seen, window, load } = setUp();
    Object.defineProperty(window, "sessionStorage", {
      get() {
        throw new DOMException("denied", "SecurityError");
      },
    });
    load()({ busy: false }, WHY);
    await clock.advance(300_000);
    assert.equal(seen.reloads, 0);
  });
});

describe("half filled in", () => {
  const option = (selected = false, defaultSelected = false) => ({ selected, defaultSelected });
  for (const [what, expected, fields] of /** @type {const} */ ([
    ["nothing there", false, {}],
    ["text as it was", false, { input: [{ type: "text", value: "a", defaultValue: "a" }] }],
    ["text typed", true, { input: [{ type: "text", value: "ab", defaultValue: "a" }] }],
    ["a hidden field", false, { input: [{ type: "hidden", value: "ab", defaultValue: "a" }] }],
    ["a box checked", true, { input: [{ type: "checkbox", checked: true, defaultChecked: false }] }],
    [
      "a box as it was",
      false,
      { input: [{ type: "checkbox", checked: true, defaultChecked: true, value: "on", defaultValue: "" }] },
    ],
    ["a text area", true, { textarea: [{ value: "x", defaultValue: "" }] }],
    ["a list at its first", false, { select: [{ options: [option(true), option()], selectedIndex: 0, size: 0 }] }],
    ["a list moved on", true, { select: [{ options: [option(), option(true)], selectedIndex: 1, size: 0 }] }],
    ["a list at its default", false, { select: [{ options: [option(), option(true, true)], selectedIndex: 1 }] }],
    ["a list off its default", true, { select: [{ options: [option(true), option(false, true)], selectedIndex: 0 }] }],
    ["a list of many", true, { select: [{ options: [option(true), option()], selectedIndex: 0, multiple: true }] }],
  ])) {
    test(what, () => assert.equal(halfFilled(formOf(fields)), expected));
  }

  test("text being edited in place", () => {
    assert.equal(halfFilled(formOf({}, /** @type {any} */ ({ isContentEditable: true }))), true);
  });
});
