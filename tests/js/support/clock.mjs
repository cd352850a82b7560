/** Time that stands still until it is moved, and chance that is always the same. */
export class HandClock {
  time = 1_000_000;
  /** What `random` gives. */
  chance = 0.5;
  /** How many timers have ever been set. */
  made = 0;
  /** @type {{at: number, run: () => void}[]} */
  #timers = [];

  now = () => this.time;

  random = () => this.chance;

  /** @type {(ms: number, run: () => void) => () => void} */
  after = (ms, run) => {
    const timer = { at: this.time + ms, run };
    this.made++;
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  };

  /** How many timers are set. */
  get set() {
    return this.#timers.length;
  }

  /**
   * Moves time on, running what falls due in order, with what that sets off.
   *
   * @param {number} ms
   */
  async advance(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.time = Math.max(this.time, due.at);
      due.run();
      await settled();
    }
    this.time = Math.max(this.time, end);
    await settled();
  }

  /**
   * The machine sleeps: time goes on, timers do not.
   *
   * @param {number} ms
   */
  sleep(ms) {
    this.time += ms;
  }
}

/** Lets everything run that waits for nothing but its turn. */
export async function settled() {
  await new Promise((resolve) => setImmediate(resolve));
}
