/**
 * The upload panel: the markup moves the bar and shows the outcome; this writes the number
 * beside the bar, and takes both back when the file was not taken.
 */

import { element, show } from "./dom.js";

export function startUpload() {
  const form = element("upload-form", HTMLFormElement);
  form.addEventListener("pagews:progress", (event) => {
    const { loaded, total } = /** @type {CustomEvent<{loaded: number, total: number}>} */ (event).detail;
    show("upload-percent", `${Math.round((100 * loaded) / total)} %`);
  });
  form.addEventListener("pagews-error", () => {
    element("upload-bar", HTMLProgressElement).value = 0;
    show("upload-percent", "0 %");
  });
}
