import { recall, remember } from "./storage.js";

const KEY = "pagews:debug";

const storage = () => localStorage;

/** Frames to the console, tokens hidden; whether to is remembered for the browser. */
export class Debug {
  #on = recall(storage, KEY) !== null;

  /** @param {boolean} on */
  turn(on) {
    this.#on = on;
    remember(storage, KEY, on ? "on" : null);
  }

  /**
   * @param {"in" | "out"} direction
   * @param {unknown} message
   */
  trace(direction, message) {
    if (this.#on) console.debug("pagews", direction, typeof message === "string" ? hideTokens(message) : message);
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
