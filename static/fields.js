/**
 * @typedef {"number" | "boolean" | "list" | "text"} Kind
 * @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement | HTMLButtonElement} Control
 */

/** How the names of the fields begin that pagews itself writes into a form. */
export const OWN = "pagews.";

const BUTTONS = new Set(["submit", "button", "reset", "image"]);

/**
 * The fields of a form, each with the type of its control:
 *
 * - `input` of type number or range: a number, null when it is empty
 * - a checkbox without `value` attribute that has its name to itself: whether it is checked
 * - checkboxes that share a name, and `select multiple`: a list of strings, however many are chosen
 * - everything else as the browser submits it: a string, a list when its name comes more than once; nothing for what
 *   is not submitted, such as a disabled control or a radio group without choice
 *
 * Not what is pagews's own, under names that begin with `pagews.`.
 *
 * @param {HTMLFormElement} form
 * @param {HTMLElement | null} submitter
 * @param {FormData} submitted  what the browser would submit, no files among it
 * @returns {Record<string, unknown>}
 */
export function fieldsOf(form, submitter, submitted) {
  const kinds = kindsOf(form, submitter);
  const names = [...new Set([...kinds.keys(), ...submitted.keys()])].filter((name) => !name.startsWith(OWN));
  const fields = names.map((name) => {
    const texts = /** @type {string[]} */ (submitted.getAll(name));
    return [name, valueOf(kinds.get(name) ?? "text", texts)];
  });
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined));
}

/**
 * @param {HTMLFormElement} form
 * @param {HTMLElement | null} submitter
 * @returns {Map<string, Kind>} by name
 */
function kindsOf(form, submitter) {
  /** @type {Map<string, Control[]>} */
  const named = new Map();
  for (const control of form.elements) {
    if (!isControl(control)) continue;
    if (control.name === "" || control.matches(":disabled")) continue;
    if (BUTTONS.has(control.type) && control !== submitter) continue;
    named.set(control.name, [...(named.get(control.name) ?? []), control]);
  }
  return new Map([...named].map(([name, controls]) => [name, kindOf(controls)]));
}

/**
 * @param {Element} element
 * @returns {element is Control}
 */
function isControl(element) {
  return ["input", "select", "textarea", "button"].includes(element.localName);
}

/**
 * @param {Control[]} controls  that share a name
 * @returns {Kind}
 */
function kindOf(controls) {
  const all = (/** @type {string[]} */ ...types) => controls.every(({ type }) => types.includes(type));
  if (all("number", "range")) return "number";
  if (all("select-multiple")) return "list";
  if (!all("checkbox")) return "text";
  if (controls.length > 1) return "list";
  return controls[0]?.hasAttribute("value") ? "text" : "boolean";
}

/**
 * @param {Kind} kind
 * @param {string[]} texts
 */
function valueOf(kind, texts) {
  if (kind === "list") return texts;
  if (kind === "boolean") return texts.length > 0;
  const values = kind === "text" ? texts : texts.map((text) => (text === "" ? null : Number(text)));
  return values.length > 1 ? values : values[0];
}
