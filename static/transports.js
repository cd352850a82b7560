/**
 * @typedef {import("./carrier.js").Transport} Transport
 * @typedef {Record<Transport, import("./carrier.js").OpenCarrier>} Transports  the best comes first
 */

const KEY = "pagews:transport";
/** How long a page on a fallback waits before it tries a WebSocket again, about, in milliseconds. */
const AGAIN = 300_000;
/** How long a carrier may take to its welcome where another can be tried instead, in milliseconds ... */
const PROBE = 4000;
/** ... and where none can. */
const PATIENCE = 15_000;

/**
 * Which transport the next carrier has: the one that is forced; else a WebSocket, and where that does not get through
 * a stream, and then polls. What gets through is remembered for the tab.
 */
export class Choice {
  #transports;
  #names;
  #clock;
  #forced;
  #current = 0;
  /** When a WebSocket is to be tried again. */
  #due = 0;

  /**
   * @param {Transports} transports
   * @param {Transport | undefined} forced
   * @param {import("./clock.js").Clock} clock
   */
  constructor(transports, forced, clock) {
    this.#transports = transports;
    this.#names = /** @type {Transport[]} */ (Object.keys(transports));
    this.#clock = clock;
    this.#forced = forced !== undefined;
    const [name, due] = this.#forced ? [forced] : recall().split(" ");
    const known = this.#names.findIndex((other) => other === name);
    if (this.#forced && known < 0) throw new TypeError(`transport must be one of ${this.#names}`);
    this.#current = Math.max(0, known);
    this.#due = Number(due ?? 0);
  }

  /** Opens a carrier of the transport that is next. */
  get open() {
    return this.#transports[this.#names[this.#current] ?? "websocket"];
  }

  /** Milliseconds that a carrier may take to its welcome. */
  get patience() {
    return this.#forced || this.#current === this.#names.length - 1 ? PATIENCE : PROBE;
  }

  /**
   * What was tried does not get through.
   *
   * @returns {boolean} whether there is another to be tried at once
   */
  fallBack() {
    if (this.#forced) return false;
    if (this.#current === 0) this.postpone();
    this.#current = (this.#current + 1) % this.#names.length;
    return this.#current > 0;
  }

  /** What was tried gets through. */
  keep() {
    if (!this.#forced) remember(this.#current > 0 ? `${this.#names[this.#current]} ${this.#due}` : "");
  }

  // --- back to the best

  /** Milliseconds until a WebSocket is to be tried beside the fallback; null on a WebSocket, and where one is forced. */
  get untilBest() {
    return this.#forced || this.#current === 0 ? null : Math.max(0, this.#due - this.#clock.now());
  }

  get openBest() {
    return this.#transports.websocket;
  }

  postpone() {
    this.#due = this.#clock.now() + AGAIN * (0.5 + this.#clock.random());
    this.keep();
  }

  /** Another network: what did not get through may do so now. */
  hurry() {
    this.#due = 0;
  }

  /** The WebSocket beside the fallback has opened. */
  takeBest() {
    this.#current = 0;
  }
}

/** @returns {string} "" where there is no memory, or nothing in it */
function recall() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} choice  "" for none */
function remember(choice) {
  try {
    if (choice === "") sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, choice);
  } catch {
    // No storage, or not for us: it holds for this page alone.
  }
}
