import { checkName } from "./wire.js";

/** How many messages wait for delegates that have not registered yet, and how many bytes they may take together. */
const MOST = 500;
const MOST_BYTES = 1024 * 1024;

/** Milliseconds: a script that loads a little later than the link opens is no mistake. */
const LATE = 2000;

/**
 * @typedef {object} Message
 * @property {string} delegate
 * @property {string} to  `page`, `session`, `user` or `topic:NAME`
 * @property {number} seq  its number in the log; 0: qos 0
 * @property {any} data  a JSON value, or a Uint8Array
 *
 * @typedef {(data: any, message: Message) => unknown} Listener
 *
 * Takes the outcome of an asked message.
 * @typedef {{succeed: (value: unknown) => void, fail: (error: unknown) => void}} Asker
 *
 * @typedef {{message: Message, size: number, asker: Asker | null}} Held
 *
 * @typedef {object} DelegatesHost
 * @property {(error: unknown) => void} report  a listener threw
 * @property {(message: Message) => boolean} unhandled  nobody listens; whether to hold the message
 * @property {() => void} overflowed  what was held is dropped
 */

/** The browser's delegates: who listens under which name, and what waits for those that come late. */
export class Delegates {
  #host;
  #clock;
  /** @type {Map<string, Set<{listener: Listener}>>} */
  #listening = new Map();
  /** @type {Held[]} */
  #held = [];
  #heldBytes = 0;
  /** @type {Set<string>} the delegates that messages have ever been held for */
  #awaited = new Set();

  /**
   * @param {DelegatesHost} host
   * @param {import("./clock.js").Clock} clock
   */
  constructor(host, clock) {
    this.#host = host;
    this.#clock = clock;
  }

  /**
   * @param {string} delegate
   * @param {Listener} listener
   * @param {{signal?: AbortSignal}} options
   * @returns {() => void} ends the listening
   */
  on(delegate, listener, { signal } = {}) {
    checkName("a delegate", delegate);
    if (delegate.startsWith("pagews.")) throw new TypeError("delegates named pagews. are built in");
    if (typeof listener !== "function") throw new TypeError("a delegate's listener must be a function");
    if (signal?.aborted) return () => {};
    // An object of its own, so that one function may listen twice.
    const entry = { listener };
    const listening = this.#listening.get(delegate) ?? new Set();
    this.#listening.set(delegate, listening.add(entry));
    const off = () => {
      listening.delete(entry);
      signal?.removeEventListener("abort", off);
    };
    signal?.addEventListener("abort", off);
    // Not before the caller holds `off`.
    queueMicrotask(() => this.#handOver(delegate));
    return off;
  }

  /**
   * @param {Message} message
   * @param {number} size  bytes on the wire
   * @param {Asker | null} asker
   */
  deliver(message, size, asker) {
    if (this.#listens(message.delegate)) {
      this.#handOver(message.delegate);
      this.#call(message, asker);
    } else if (!this.#host.unhandled(message)) asker?.succeed(null);
    // The event may have made someone listen.
    else if (this.#listens(message.delegate)) this.deliver(message, size, asker);
    else if (message.seq > 0 || asker !== null) this.#hold({ message, size, asker });
  }

  /** Forgets the messages that wait. */
  drop() {
    this.#held = [];
    this.#heldBytes = 0;
  }

  /** @param {string} delegate */
  #listens(delegate) {
    return (this.#listening.get(delegate)?.size ?? 0) > 0;
  }

  /** @param {Held} held */
  #hold(held) {
    this.#held.push(held);
    this.#heldBytes += held.size;
    if (this.#held.length > MOST || this.#heldBytes > MOST_BYTES) {
      this.drop();
      console.warn("pagews: more than 500 messages, or 1 MiB, wait for on(): they are dropped, the page is lost");
      this.#host.overflowed();
    } else if (!this.#awaited.has(held.message.delegate)) {
      this.#awaited.add(held.message.delegate);
      this.#clock.after(LATE, () => this.#warnOfWait(held.message.delegate));
    }
  }

  /** @param {string} delegate */
  #warnOfWait(delegate) {
    if (!this.#held.some(({ message }) => message.delegate === delegate)) return;
    console.warn(`pagews: a push to '${delegate}' waits: nothing on this page has called on('${delegate}') yet`);
  }

  /** @param {string} delegate */
  #handOver(delegate) {
    const mine = this.#held.filter(({ message }) => message.delegate === delegate);
    if (mine.length === 0 || !this.#listens(delegate)) return;
    this.#held = this.#held.filter(({ message }) => message.delegate !== delegate);
    for (const { message, size, asker } of mine) {
      this.#heldBytes -= size;
      this.#call(message, asker);
    }
  }

  /**
   * @param {Message} message
   * @param {Asker | null} asker
   */
  #call(message, asker) {
    const listening = [...(this.#listening.get(message.delegate) ?? [])];
    const outcomes = listening.map(async ({ listener }) => listener(message.data, message));
    for (const outcome of outcomes) outcome.catch(this.#host.report);
    if (asker !== null) firstAnswer(outcomes).then(asker.succeed, asker.fail);
  }
}

/**
 * The first outcome that is something; when none is, the first error; else null.
 *
 * @param {Promise<unknown>[]} outcomes
 * @returns {Promise<unknown>}
 */
async function firstAnswer(outcomes) {
  const nothing = Symbol();
  try {
    return await Promise.any(
      outcomes.map(async (outcome) => {
        const value = await outcome;
        if (value === undefined) throw nothing;
        return value;
      }),
    );
  } catch (error) {
    const failures = error instanceof AggregateError ? error.errors.filter((one) => one !== nothing) : [];
    if (failures.length > 0) throw failures[0];
    return null;
  }
}
