import { recall, remember } from "./storage.js";

/**
 * @typedef {import("./carrier.js").Transport} Transport
 * @typedef {Record<Transport, import("./carrier.js").OpenCarrier>} Transports  the best comes first
 */

const KEY = "pagews:transport";

const storage = () => sessionStorage;

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
  #warned = false;
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
    const [name, due] = this.#forced ? [forced] : (recall(storage, KEY) ?? "").split(" ");
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
   * @param {string | null} why  goes on from the transport's name; null: it may next time
   * @returns {boolean} whether there is another to be tried at once
   */
  fallBack(why) {
    if (this.#forced) {
      if (why !== null) this.#warn(why);
      return false;
    }
    if (this.#current === 0) this.postpone();
    this.#current = (this.#current + 1) % this.#names.length;
    return this.#current > 0;
  }

  /** @param {string} why */
  #warn(why) {
    if (this.#warned) return;
    this.#warned = true;
    const name = this.#names[this.#current];
    const by = `transport="${name}" of pagews_script(), script_tag() or createPage(), or data-transport`;
    console.warn(`pagews: ${name} ${why}. This page is forced to it (${by}) and tries on; not forced, it finds a way`);
  }

  /** What was tried gets through. */
  keep() {
    if (this.#forced) return;
    remember(storage, KEY, this.#current > 0 ? `${this.#names[this.#current]} ${this.#due}` : null);
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
