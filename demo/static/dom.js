/** Small helpers around the document, shared by the panels. */

/**
 * The element with this id; fails loudly when the page has none, or one of another kind.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {{ new (): T }} kind
 * @returns {T}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`no ${kind.name} with the id ${id}`);
  return found;
}

/**
 * @param {string} id
 * @param {string | number} text
 */
export function show(id, text) {
  element(id, HTMLElement).textContent = String(text);
}

/**
 * Tells the visitor how something went.
 * @param {string} id of a panel's status line
 * @param {string} text
 * @param {boolean} [failed]
 */
export function tell(id, text, failed = false) {
  show(id, text);
  element(id, HTMLElement).classList.toggle("failed", failed);
}

/**
 * Does what a visitor asked for; a failure is told in the panel's status line.
 * @param {string} id
 * @param {() => Promise<void>} action
 */
export async function attempt(id, action) {
  try {
    await action();
  } catch (error) {
    tell(id, error instanceof Error ? error.message : String(error), true);
  }
}

/**
 * Appends a line to a log, keeps the last `most`, and shows it if the reader is at the end.
 * @param {string} id
 * @param {string} text
 * @param {{ by?: string, most?: number }} [options] `by`: who or what it came from, set apart
 */
export function addLine(id, text, { by = "", most = 200 } = {}) {
  const log = element(id, HTMLOListElement);
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
  const line = document.createElement("li");
  if (by) {
    const origin = document.createElement("span");
    origin.className = "by";
    origin.textContent = by;
    line.append(origin);
  }
  line.append(text);
  log.append(line);
  while (log.childElementCount > most) log.firstElementChild?.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}
