/** The quiet page: connects when the visitor says so. */

import { pagews } from "pagews";
import { element } from "./dom.js";
import { showNotes } from "./notes.js";

export function startNostream() {
  const connectButton = element("connect", HTMLButtonElement);
  const closeButton = element("disconnect", HTMLButtonElement);
  const update = () => {
    const connected = pagews.state !== "idle" && pagews.state !== "closed";
    connectButton.disabled = connected;
    closeButton.disabled = !connected;
  };

  showNotes();
  pagews.addEventListener("statechange", update);
  connectButton.addEventListener("click", () => pagews.connect());
  closeButton.addEventListener("click", () => pagews.close());
  update();
}
