/** The upload panel: the markup moves the bar and shows the outcome; this only writes the number beside it. */

import { element, show } from "./dom.js";

export function startUpload() {
  element("upload-form", HTMLFormElement).addEventListener("pagews:progress", (event) => {
    const { loaded, total } = /** @type {CustomEvent<{loaded: number, total: number}>} */ (event).detail;
    show("upload-percent", `${Math.round((100 * loaded) / total)} %`);
  });
}
