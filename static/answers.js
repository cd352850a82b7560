import { PageError } from "./errors.js";
import { answered, failed, sizeOf } from "./wire.js";

/** How many answers are kept until the server has filed them, and how many bytes they may take together. */
const MOST = 1000;
const MOST_BYTES = 1024 * 1024;

/** @typedef {{frame: import("./wire.js").Encoded | null, size: number}} Answer  frame null: still being found */

/**
 * The answers to pushes that want one, kept until the server has filed them: written again after a cut, and when the
 * push is repeated, without running the delegate again. Beyond 1,000 answers or 1 MiB the oldest is forgotten, and
 * reported.
 */
export class Answers {
  /** Bytes that one message may take, by the server's word. */
  limit = Infinity;
  #write;
  #report;
  #bytes = 0;
  /** @type {Map<number, Answer>} */
  #kept = new Map();

  /**
   * @param {(frame: import("./wire.js").Encoded) => boolean} write
   * @param {(error: unknown) => void} report
   */
  constructor(write, report) {
    this.#write = write;
    this.#report = report;
  }

  /**
   * Answers a repeated push from what is kept; false when the push is not known.
   *
   * @param {number} receipt
   */
  repeat(receipt) {
    const answer = this.#kept.get(receipt);
    if (answer?.frame) this.#write(answer.frame);
    return answer !== undefined;
  }

  /**
   * @param {number} receipt
   * @returns {import("./delegates.js").Asker} takes the outcome, once
   */
  expect(receipt) {
    /** @type {Answer} */
    const answer = { frame: null, size: 0 };
    this.#keep(receipt, answer);
    return {
      succeed: (value) => this.#file(receipt, answer, () => answered(receipt, value)),
      fail: (error) => this.#file(receipt, answer, () => failure(receipt, error)),
    };
  }

  /**
   * Answers with an error instead of what is kept.
   *
   * @param {number} receipt
   * @param {PageError} error
   */
  replace(receipt, error) {
    const answer = this.#kept.get(receipt);
    if (answer !== undefined) this.#file(receipt, answer, () => failure(receipt, error));
  }

  /** Writes all that has been found to a socket that has just been welcomed. */
  resend() {
    for (const { frame } of this.#kept.values()) if (frame !== null) this.#write(frame);
  }

  /** @param {number} receipt */
  forget(receipt) {
    this.#bytes -= this.#kept.get(receipt)?.size ?? 0;
    this.#kept.delete(receipt);
  }

  /** @returns {{receipt: number, size: number}} the largest that is kept; size 0 when none is */
  largest() {
    let largest = { receipt: 0, size: 0 };
    for (const [receipt, { size }] of this.#kept) if (size > largest.size) largest = { receipt, size };
    return largest;
  }

  /** The log is another one: its receipts have nothing to do with those that are kept. */
  clear() {
    this.#kept.clear();
    this.#bytes = 0;
  }

  /**
   * @param {number} receipt
   * @param {Answer} answer
   * @param {() => import("./wire.js").Encoded} encode
   */
  #file(receipt, answer, encode) {
    // Forgotten meanwhile, for want of room or with its log.
    if (this.#kept.get(receipt) !== answer) return;
    let frame;
    try {
      frame = encode();
      if (sizeOf(frame) > this.limit) throw new PageError("toolarge", "the answer is too large");
    } catch (error) {
      this.#report(error);
      frame = failure(receipt, error);
    }
    this.#bytes -= answer.size;
    answer.frame = frame;
    answer.size = sizeOf(frame);
    this.#keep(receipt, answer);
    this.#write(frame);
  }

  /**
   * @param {number} receipt
   * @param {Answer} answer
   */
  #keep(receipt, answer) {
    this.#bytes += answer.size;
    this.#kept.set(receipt, answer);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MOST && this.#bytes <= MOST_BYTES) break;
      this.forget(oldest);
      this.#report(new PageError("queuefull", `too many answers wait to be filed: that of receipt ${oldest} is lost`));
    }
  }
}

/**
 * @param {number} receipt
 * @param {unknown} error
 */
function failure(receipt, error) {
  const code = error instanceof PageError ? error.code : "internal";
  return failed(receipt, code, error instanceof Error ? error.message : String(error));
}
