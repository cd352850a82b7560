import { recall, remember } from "./storage.js";

const KEY = "pagews:reloaded";
/** Two reloads are at least so far apart, in milliseconds. */
const APART = 60_000;
/** Reloads of many pages are spread over this time. */
const SPREAD = 5_000;
/** How often a reload that had to wait is tried again. */
const AGAIN = 5_000;

/**
 * Reloads under guard: jittered, never twice within a minute, and not while a form is half filled in or a send is under
 * way. A reload that has to wait is tried again, and the console says why; `waiting` is told once.
 *
 * @param {Window} window
 * @param {import("./clock.js").Clock} clock
 * @param {() => void} waiting
 * @returns {(page: {readonly busy: boolean}, why: string) => void}  `why` goes on from "the page ..."
 */
export function guardedReload(window, clock, waiting) {
  const storage = () => window.sessionStorage;
  let due = false;
  return (page, why) => {
    if (due) return;
    due = true;
    waiting();
    let warned = false;
    const putOff = (/** @type {string} */ until, /** @type {number} */ ms) => {
      if (!warned) console.warn(`pagews: the page ${why} and reloads ${until}`);
      warned = true;
      clock.after(ms, attempt);
    };
    const attempt = () => {
      const left = Number(recall(storage, KEY)) + APART - clock.now();
      // More than a whole minute left: the clock was set back since.
      if (left > 0 && left <= APART) putOff(`in ${Math.ceil(left / 1000)} s`, left);
      else if (page.busy) putOff("when the result of what it has sent is there", AGAIN);
      else if (halfFilled(window.document)) putOff("when no form is half filled in", AGAIN);
      // Without a memory there is no guard against reloading for ever, and so no reload.
      else if (remember(storage, KEY, String(clock.now()))) window.location.reload();
    };
    clock.after(clock.random() * SPREAD, attempt);
  };
}

const NOTHING_TYPED = new Set(["hidden", "submit", "button", "reset", "image"]);

/** @param {Document} document */
export function halfFilled(document) {
  const active = document.activeElement;
  if (active !== null && "isContentEditable" in active && active.isContentEditable) return true;
  for (const field of document.querySelectorAll("textarea")) {
    if (field.value !== field.defaultValue) return true;
  }
  for (const field of document.querySelectorAll("input")) {
    if (NOTHING_TYPED.has(field.type)) continue;
    if (field.checked !== field.defaultChecked) return true;
    if (field.type !== "checkbox" && field.type !== "radio" && field.value !== field.defaultValue) return true;
  }
  for (const field of document.querySelectorAll("select")) {
    const options = [...field.options];
    // Without a default, a list that shows one line shows its first.
    const preset = options.some((option) => option.defaultSelected) || field.multiple || field.size > 1;
    if (preset && options.some((option) => option.selected !== option.defaultSelected)) return true;
    if (!preset && field.selectedIndex > 0) return true;
  }
  return false;
}
