/** The list of notes that reached this page, each with the target it was pushed to. */

import { pagews } from "pagews";
import { addLine } from "./dom.js";

export function showNotes() {
  pagews.on("note", ({ text }, { to }) => addLine("notes", text, { by: `to the ${to}` }));
}
