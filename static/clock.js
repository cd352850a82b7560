/**
 * Time and chance as one argument, so that tests can hold both in their hands.
 *
 * @typedef {object} Clock
 * @property {() => number} now  milliseconds; goes on while the machine sleeps, may jump
 * @property {(ms: number, run: () => void) => () => void} after  runs once after `ms`, unless what it returns is called
 * @property {() => number} random  from 0 up to, not including, 1
 */

/** What timers can count at most; more would fire at once. */
const LONGEST = 2 ** 31 - 1;

/** @type {Clock} */
export const systemClock = {
  now: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, Math.min(ms, LONGEST));
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};
