import { sendForm, showOutcome } from "./forms.js";

/**
 * Markup without expressions.
 *
 * - `html[data-pagews-state]`: the page's state, or "lost" while a reload is due
 * - `data-pagews-text="delegate:path"`: shows what the delegate is sent, or what is at `path` (dots between keys) in it
 * - `data-pagews-on="delegate"`: gets a bubbling event `pagews:DELEGATE` with the message's data as `event.detail`
 * - `data-pagews-send="delegate"` on a form: sends its fields, see `forms.js`; on a button: its other `data-`
 *   attributes and its value. With qos 2: a press is one run of the delegate, also over a cut. `aria-busy` while
 *   under way; then a bubbling `pagews-result`, or `pagews-error`, has the
 *   outcome in `detail`
 * - `data-pagews-outcome` in such a form: shows the outcome, unless its event is canceled
 * - `data-pagews-progress` on a `progress` in such a form: shows how far the upload of its files is
 *
 * Delegates named in markup count as registered.
 *
 * @param {import("./page.js").Page} page
 * @param {Document} document
 */
export function followMarkup(page, document) {
  /** @type {Set<string>} */
  const known = new Set();
  const scan = (/** @type {ParentNode} */ root) => {
    for (const element of root.querySelectorAll(RECEIVERS)) {
      for (const delegate of delegatesOf(element)) {
        if (known.has(delegate)) continue;
        known.add(delegate);
        try {
          page.on(delegate, (data) => show(document, delegate, data));
        } catch (error) {
          console.error(element, error);
        }
      }
    }
  };
  scan(document);
  new MutationObserver((records) => {
    for (const { type, target, addedNodes } of records) {
      if (type === "attributes") scan(target.parentElement ?? document);
      else if (addedNodes.length > 0) scan(/** @type {Element | Document} */ (target));
    }
  }).observe(document, { subtree: true, childList: true, attributeFilter: ["data-pagews-text", "data-pagews-on"] });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || form.dataset.pagewsSend === undefined) return;
    event.preventDefault();
    void sendFrom(form, () => sendForm(page, form, event.submitter));
  });
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-pagews-send]") : null;
    if (!(button instanceof HTMLButtonElement) || button.disabled) return;
    event.preventDefault();
    const { pagewsSend, ...data } = button.dataset;
    const { name, value } = button;
    const all = value === "" ? data : { ...data, [name || "value"]: value };
    void sendFrom(button, () => page.send(pagewsSend ?? "", all, { qos: 2 }));
  });
}

/**
 * Keeps `html[data-pagews-state]`.
 *
 * @param {EventTarget & {readonly state: string}} page
 * @param {Document} document
 * @returns {() => void} shows "lost" from now on
 */
export function followState(page, document) {
  let lost = false;
  const refresh = () => {
    document.documentElement.dataset.pagewsState = lost ? "lost" : page.state;
  };
  page.addEventListener("statechange", refresh);
  refresh();
  return () => {
    lost = true;
    refresh();
  };
}

const RECEIVERS = "[data-pagews-text], [data-pagews-on]";

/**
 * What `delegate:path` means.
 *
 * @param {string} text
 * @returns {{delegate: string, path: string[]}}
 */
export function parseText(text) {
  const colon = text.lastIndexOf(":");
  if (colon < 0) return { delegate: text, path: [] };
  return { delegate: text.slice(0, colon), path: text.slice(colon + 1).split(".") };
}

/**
 * @param {unknown} data
 * @param {string[]} path
 * @returns {string} "" where there is nothing
 */
export function textAt(data, path) {
  let value = data;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return "";
    value = /** @type {Record<string, unknown>} */ (value)[key];
  }
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** @param {Element} element */
function delegatesOf(element) {
  const text = element.getAttribute("data-pagews-text");
  const on = element.getAttribute("data-pagews-on");
  return [text === null ? null : parseText(text).delegate, on].filter((name) => name !== null);
}

/**
 * @param {Document} document
 * @param {string} delegate
 * @param {unknown} data
 */
function show(document, delegate, data) {
  for (const element of document.querySelectorAll(RECEIVERS)) {
    const text = element.getAttribute("data-pagews-text");
    const at = text === null ? null : parseText(text);
    if (at?.delegate === delegate) element.textContent = textAt(data, at.path);
    if (element.getAttribute("data-pagews-on") === delegate) {
      element.dispatchEvent(new CustomEvent(`pagews:${delegate}`, { bubbles: true, detail: data }));
    }
  }
}

/**
 * @param {HTMLElement} element
 * @param {() => Promise<unknown>} send
 */
async function sendFrom(element, send) {
  if (element.getAttribute("aria-busy") === "true") return;
  element.setAttribute("aria-busy", "true");
  const tell = (/** @type {string} */ type, /** @type {unknown} */ detail) =>
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, cancelable: true, detail }));
  showOutcome(element, "");
  try {
    const result = await send();
    if (tell("pagews-result", result)) showOutcome(element, result);
  } catch (error) {
    if (tell("pagews-error", error) && !showOutcome(element, error)) console.error(error);
  } finally {
    element.removeAttribute("aria-busy");
  }
}
