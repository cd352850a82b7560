import { systemClock } from "./clock.js";
import { followMarkup, followState } from "./dom.js";
import { PageError } from "./errors.js";
import { followLifecycle } from "./lifecycle.js";
import { Page, createPage } from "./page.js";
import { guardedReload } from "./reload.js";

export { PageError, createPage };

const SINGLETON = Symbol.for("pagews");

const held = /** @type {{[SINGLETON]?: Page}} */ (globalThis);

/** The page's singleton, the same however often, and under however many addresses, this file is imported. */
export const pagews = (held[SINGLETON] ??= start());

/** From the script tag; without one the page stays idle, and says so. */
function start() {
  if (typeof document === "undefined") return createPage({ base: new URL("..", import.meta.url).href.slice(0, -1) });
  const tag = /** @type {HTMLElement | null} */ (document.querySelector("script[data-pagews]"));
  const base = tag === null ? new URL("..", import.meta.url) : new URL(tag.dataset.pagews ?? "", location.href);
  let showLost = () => {};
  const page = createPage({
    base: base.href.replace(/\/$/, ""),
    token: tag?.dataset.page ?? null,
    ...(tag?.dataset.transport && { transport: /** @type {any} */ (tag.dataset.transport) }),
    included: tag !== null,
    reload: guardedReload(window, systemClock, () => showLost()),
  });
  showLost = followState(page, document);
  followMarkup(page, document);
  followLifecycle(page, window);
  Object.assign(window, { pagews: page });
  document.dispatchEvent(new CustomEvent("pagews:ready", { detail: page }));
  if (tag !== null && tag.dataset.nostream === undefined) page.connect();
  return page;
}
