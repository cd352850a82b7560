/** The targets panel: pushes a note to the page, its session or its user, and follows a login in another tab. */

import { pagews } from "pagews";
import { attempt, element, tell } from "./dom.js";
import { showNotes } from "./notes.js";

export function startTargets() {
  showNotes();
  followIdentity();
  element("note-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const to = event.submitter instanceof HTMLButtonElement ? event.submitter.value : "page";
    const text = element("note-text", HTMLInputElement).value;
    attempt("note-status", async () => {
      await pagews.send("note_push", { to, text });
      tell("note-status", "");
    });
  });
}

/**
 * Somebody logged in or out in another tab, and this page shows the old identity. By itself it would reload once a
 * minute at most, spread over some seconds; a demo may be quicker.
 */
function followIdentity() {
  pagews.addEventListener("identity", (event) => {
    event.preventDefault();
    setTimeout(() => location.reload(), 500);
  });
}
