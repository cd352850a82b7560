const KEY = "pagews:debug";

/** Frames to the console, tokens hidden; whether to is remembered for the browser. */
export class Debug {
  #on = remembered();

  /** @param {boolean} on */
  turn(on) {
    this.#on = on;
    try {
      if (on) localStorage.setItem(KEY, "on");
      else localStorage.removeItem(KEY);
    } catch {
      // No storage, or not for us: it holds for this page alone.
    }
  }

  /**
   * @param {"in" | "out"} direction
   * @param {unknown} message
   */
  trace(direction, message) {
    if (this.#on) console.debug("pagews", direction, typeof message === "string" ? hideTokens(message) : message);
  }
}

function remembered() {
  try {
    return localStorage.getItem(KEY) !== null;
  } catch {
    return false;
  }
}

/** @param {string} text */
function hideTokens(text) {
  try {
    const frame = JSON.parse(text, (key, value) => (key === "token" && typeof value === "string" ? "..." : value));
    if (Array.isArray(frame) && frame[0] === "token") frame[1] = "...";
    return JSON.stringify(frame);
  } catch {
    return text;
  }
}
