import { fieldsOf } from "./fields.js";

/** Characters of a result that is shown as it is. */
const MESSAGE_LENGTH = 500;

/**
 * Sends a form: its fields over the page's link, see `fields.js`; with file fields all of it as an upload, which tells
 * how far it is by bubbling events `pagews:progress` with `{loaded, total}`, in bytes.
 *
 * @param {import("./page.js").Page} page
 * @param {HTMLFormElement} form
 * @param {HTMLElement | null} submitter
 * @returns {Promise<unknown>}
 */
export async function sendForm(page, form, submitter) {
  const delegate = form.dataset.pagewsSend ?? "";
  const submitted = new FormData(form, submitter);
  if (![...submitted.values()].some((value) => value instanceof File)) {
    return page.send(delegate, fieldsOf(form, submitter, submitted), { qos: 2 });
  }
  const bars = /** @type {NodeListOf<HTMLProgressElement>} */ (form.querySelectorAll("progress[data-pagews-progress]"));
  const progress = (/** @type {number} */ loaded, /** @type {number} */ total) => {
    for (const bar of bars) [bar.max, bar.value] = [total, loaded];
    form.dispatchEvent(new CustomEvent("pagews:progress", { bubbles: true, detail: { loaded, total } }));
  };
  try {
    return await page.upload(delegate, submitted, { progress });
  } catch (error) {
    for (const bar of bars) bar.value = 0;
    throw error;
  }
}

/**
 * Shows what became of a form, as the server does without a script.
 *
 * @param {HTMLElement} form
 * @param {unknown} outcome  what the delegate returned, or an error
 * @returns {boolean} whether there is a place to show it
 */
export function showOutcome(form, outcome) {
  const place = form.querySelector("[data-pagews-outcome]");
  if (place === null) return false;
  const failed = outcome instanceof Error;
  const isShort = typeof outcome === "string" && outcome.length <= MESSAGE_LENGTH;
  place.setAttribute("role", failed ? "alert" : "status");
  place.textContent = failed ? outcome.message : isShort ? outcome : "sent";
  return true;
}
