/** The notice that this page is out of date: why, and a button, as its reload waits where something would be lost. */

import { pagews } from "pagews";
import { element, show } from "./dom.js";

/** @type {Record<string, (detail: any) => string>} by event; "": the page goes on */
const reasons = {
  lost: ({ reason }) => `This page has lost messages (${reason}).`,
  forked: () => "This page was open a second time, and has become another one.",
  identity: ({ renewed }) => (renewed ? "" : "This page is of another session."),
  refused: ({ final, reason }) => (final ? `The server does not know this page any more (${reason}).` : ""),
};

const WAITS = "It reloads by itself, though not while a form is half filled in or an answer is out.";

/** To be started last: who has taken a reload into its own hands has canceled the event by then. */
export function startOutdated() {
  for (const [type, reasonOf] of Object.entries(reasons)) {
    pagews.addEventListener(type, (event) => {
      const { detail } = /** @type {CustomEvent} */ (event);
      const reason = reasonOf(detail);
      if (reason === "" || event.defaultPrevented) return;
      // Where a fresh page would be refused too, it does not reload by itself.
      show("outdated-why", type === "refused" && detail.code !== 4500 ? reason : `${reason} ${WAITS}`);
      element("outdated", HTMLElement).hidden = false;
    });
  }
  element("reload", HTMLButtonElement).addEventListener("click", () => location.reload());
}
