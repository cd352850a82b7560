import { PageError } from "./errors.js";
import { sizeOf } from "./wire.js";

/** How many sends may wait for their result, and how many bytes they may take together. */
const MOST = 1000;
const MOST_BYTES = 1024 * 1024;

/**
 * @typedef {object} SendOptions
 * @property {0 | 1 | 2} [qos]  0: at most once, 1 (default): at least once, 2: exactly once
 * @property {number} [timeout]  milliseconds until the promise rejects with `timeout`; default 30,000, Infinity: never
 * @property {AbortSignal} [signal]  rejects with its reason, and sends no more
 *
 * @typedef {object} Entry
 * @property {import("./wire.js").Encoded} frame
 * @property {number} size
 * @property {number} qos
 * @property {boolean} written  to any socket yet
 * @property {(value: unknown) => void} resolve
 * @property {(error: unknown) => void} reject
 * @property {() => void} release
 */

/** What the page has sent and has no result for yet: written again, in order and with the same ids, after a cut. */
export class Outbox {
  /** Bytes that one message may take, by the server's word. */
  limit = Infinity;
  #write;
  #clock;
  #lastId = 0;
  #bytes = 0;
  /** @type {Map<number, Entry>} */
  #waiting = new Map();

  /**
   * @param {(frame: import("./wire.js").Encoded) => boolean} write  false when there is no live socket
   * @param {import("./clock.js").Clock} clock
   */
  constructor(write, clock) {
    this.#write = write;
    this.#clock = clock;
  }

  /** Whether a result is still out. */
  get busy() {
    return this.#waiting.size > 0;
  }

  /** The number of what is sent by another way. */
  takeId() {
    return ++this.#lastId;
  }

  /**
   * Sends once, and forgets. Rejects with `closed` when there is no live socket.
   *
   * @param {(id: number) => import("./wire.js").Encoded} encode
   * @param {number} unsent  bytes that the socket has not got rid of
   */
  once(encode, unsent) {
    const frame = encode(++this.#lastId);
    this.#check(sizeOf(frame), unsent);
    if (!this.#write(frame)) throw new PageError("closed", "not connected: qos 0 is sent now or not at all");
  }

  /**
   * @param {(id: number) => import("./wire.js").Encoded} encode
   * @param {SendOptions} options
   * @returns {Promise<any>} the result
   */
  request(encode, { qos = 1, timeout = 30_000, signal }) {
    if (!(timeout > 0)) throw new TypeError("timeout must be milliseconds above zero");
    signal?.throwIfAborted();
    if (this.#waiting.size >= MOST) throw new PageError("queuefull", `${MOST} sends wait for their result`);
    const id = ++this.#lastId;
    const frame = encode(id);
    const size = sizeOf(frame);
    this.#check(size, this.#bytes);
    return new Promise((resolve, reject) => {
      const abort = () => this.#take(id)?.reject(signal?.reason);
      const cancel = this.#clock.after(timeout, () => this.fail(id, "timeout", `no result within ${timeout} ms`));
      signal?.addEventListener("abort", abort);
      const release = () => {
        cancel();
        signal?.removeEventListener("abort", abort);
      };
      this.#waiting.set(id, { frame, size, qos, written: this.#write(frame), resolve, reject, release });
      this.#bytes += size;
    });
  }

  /** Writes everything that waits to a socket that has just been welcomed. */
  resend() {
    for (const [id, entry] of this.#waiting) {
      if (entry.size > this.limit) this.fail(id, "toolarge", tooLarge(entry.size, this.limit));
      else entry.written = this.#write(entry.frame) || entry.written;
    }
  }

  /** @param {import("./wire.js").Succeeded | import("./wire.js").Failed} result */
  settle(result) {
    if (result.ok) this.#take(result.id)?.resolve(result.value);
    else this.fail(result.id, result.code, result.message);
  }

  /**
   * @param {number} id
   * @param {string} code
   * @param {string} [message]
   */
  fail(id, code, message) {
    this.#take(id)?.reject(new PageError(code, message));
  }

  /**
   * @param {string} code
   * @param {string} message
   */
  failAll(code, message) {
    for (const id of [...this.#waiting.keys()]) this.fail(id, code, message);
  }

  /** What knew which sends of qos 2 have run is gone: running them again would break the promise. */
  forgetOutcomes() {
    for (const [id, { qos, written }] of [...this.#waiting]) {
      if (qos === 2 && written) this.fail(id, "outcome-unknown", "the server does not know any more whether it ran");
    }
  }

  /** @returns {{id: number, size: number}} the largest that waits; size 0 when none does */
  largest() {
    let largest = { id: 0, size: 0 };
    for (const [id, { size }] of this.#waiting) if (size > largest.size) largest = { id, size };
    return largest;
  }

  /**
   * @param {number} size
   * @param {number} waiting
   */
  #check(size, waiting) {
    if (size > this.limit) throw new PageError("toolarge", tooLarge(size, this.limit));
    if (waiting + size > MOST_BYTES) throw new PageError("queuefull", `${MOST_BYTES} bytes wait to be sent`);
  }

  /** @param {number} id */
  #take(id) {
    const entry = this.#waiting.get(id);
    if (entry === undefined) return undefined;
    this.#waiting.delete(id);
    this.#bytes -= entry.size;
    entry.release();
    return entry;
  }
}

/**
 * @param {number} size
 * @param {number} limit
 */
function tooLarge(size, limit) {
  return `the message has ${size} bytes, the server takes ${limit}`;
}
