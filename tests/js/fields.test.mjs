import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fieldsOf } from "../../static/fields.js";
import { control } from "./support/form.mjs";

/**
 * @param {any[]} elements
 * @param {[string, string][]} pairs  what the browser would submit
 * @param {any} submitter
 */
function fields(elements, pairs, submitter = null) {
  const submitted = new FormData();
  for (const [name, value] of pairs) submitted.append(name, value);
  return fieldsOf(/** @type {any} */ ({ elements }), submitter, submitted);
}

describe("each field has the type of its control", () => {
  const number = control("n", { type: "number" });
  const box = control("b", { type: "checkbox" });
  const valued = control("b", { type: "checkbox", value: "x" });
  const many = control("m", { localName: "select", type: "select-multiple" });
  const text = control("t");
  const radio = control("r", { type: "radio", value: "x" });
  for (const [what, elements, submitted, expected] of /** @type {[string, any[], [string, string][], object][]} */ ([
    ["a number", [number], [["n", "1.5e3"]], { n: 1500 }],
    ["a range", [control("n", { type: "range" })], [["n", "7"]], { n: 7 }],
    ["an empty number", [number], [["n", ""]], { n: null }],
    ["numbers that share a name", [number, number], [["n", "1"], ["n", ""]], { n: [1, null] }],
    ["a number and a text that share a name", [number, control("n")], [["n", "1"], ["n", "2"]], { n: ["1", "2"] }],
    ["a box that is checked", [box], [["b", "on"]], { b: true }],
    ["a box that is not", [box], [], { b: false }],
    ["a box with a value", [valued], [["b", "x"]], { b: "x" }],
    ["a box with a value that is not checked", [valued], [], {}],
    ["boxes that share a name", [valued, valued], [["b", "x"]], { b: ["x"] }],
    ["none of them checked", [box, valued], [], { b: [] }],
    ["a list of many", [many], [["m", "x"]], { m: ["x"] }],
    ["nothing chosen in it", [many], [], { m: [] }],
    ["a list of one", [control("s", { localName: "select", type: "select-one" })], [["s", "1"]], { s: "1" }],
    ["text that looks like a number", [text], [["t", "1"]], { t: "1" }],
    ["empty text", [control("t", { localName: "textarea", type: "textarea" })], [["t", ""]], { t: "" }],
    ["texts that share a name", [text, text], [["t", "a"], ["t", "b"]], { t: ["a", "b"] }],
    ["a radio group without choice", [radio, radio], [], {}],
    ["a choice", [radio, radio], [["r", "x"]], { r: "x" }],
    ["what no control of the form has", [], [["own", "x"]], { own: "x" }],
    ["a name that every object has", [text], [["__proto__", "x"], ["t", "y"]], JSON.parse('{"t":"y","__proto__":"x"}')],
  ])) {
    test(what, () => assert.equal(JSON.stringify(fields(elements, submitted)), JSON.stringify(expected)));
  }

  test("a disabled control, one without a name, and no control at all are not there", () => {
    const elements = [
      control("b", { type: "checkbox", disabled: true }),
      control("", { type: "checkbox" }),
      control("b", { localName: "fieldset", type: "fieldset" }),
    ];
    assert.deepEqual(fields(elements, []), {});
  });

  test("what is no control takes no part in what one of its name is", () => {
    const elements = [control("b", { localName: "fieldset", type: "fieldset" }), control("b", { type: "checkbox" })];
    assert.deepEqual(fields(elements, [["b", "on"]]), { b: true });
  });

  test("a disabled control takes no part in what another of its name is", () => {
    const elements = [control("b", { type: "checkbox" }), control("b", { type: "checkbox", disabled: true })];
    assert.deepEqual(fields(elements, [["b", "on"]]), { b: true });
  });
});

test("of the buttons only the one that was pressed", () => {
  const [save, drop] = ["save", "drop"].map((name) => control(name, { localName: "button", type: "submit" }));
  assert.deepEqual(fields([save, drop], [["save", ""]], save), { save: "" });
  const box = control("save", { type: "checkbox" });
  assert.deepEqual(fields([box, save], [["save", "all"]], save), { save: "all" });
  assert.deepEqual(fields([box, save], [["save", "on"]]), { save: true });
  const image = control("at", { type: "image" });
  const place = /** @type {[string, string][]} */ ([["at.x", "3"], ["at.y", "4"]]);
  assert.deepEqual(fields([image], place, image), { "at.x": "3", "at.y": "4" });
});

test("what pagews has written into the form is no field of it", () => {
  const own = ["pagews.token", "pagews.delegate"].map((name) => control(name, { type: "hidden" }));
  assert.deepEqual(fields([...own, control("t")], [["pagews.token", "T"], ["pagews.delegate", "d"], ["t", "x"]]), {
    t: "x",
  });
});
