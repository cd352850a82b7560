const FIRST = 200;
const LONGEST = 20_000;

/** Full jitter: any delay up to a bound that doubles from 0.2 s to 20 s, so that a crowd comes back spread out. */
export class Backoff {
  #random;
  #bound = FIRST;

  /** @param {() => number} random */
  constructor(random) {
    this.#random = random;
  }

  /** @returns {number} milliseconds to wait before the next attempt */
  next() {
    const delay = this.#random() * this.#bound;
    this.#bound = Math.min(LONGEST, this.#bound * 2);
    return delay;
  }

  reset() {
    this.#bound = FIRST;
  }
}
