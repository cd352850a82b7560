/**
 * What the page does after a close code: `back` comes back with back-off, `renew` asks for a fresh token first,
 * `never` stays away.
 *
 * @typedef {"back" | "renew" | "never"} AfterClose
 */

export const NORMAL = 1000;
/** The connection ended without a word. */
export const CUT = 1006;
export const TOO_BIG = 1009;
export const LIMIT = 4004;
export const TOO_MANY = 4013;
export const BAD_TOKEN = 4500;
export const MALFORMED = 4501;
export const IDENTITY = 4503;

/**
 * First code, last code, what follows; the first row that fits counts. Codes in no row are the network's own
 * (1005, 1014, 1015 ...): the page comes back.
 *
 * @type {ReadonlyArray<readonly [number, number, AfterClose]>}
 */
export const AFTER_CLOSE = [
  [1002, 1003, "never"],
  [1007, 1007, "never"],
  [1010, 1010, "never"],
  [BAD_TOKEN, BAD_TOKEN, "renew"],
  [IDENTITY, IDENTITY, "renew"],
  [4500, 4999, "never"],
];

/**
 * @param {number} code
 * @returns {AfterClose}
 */
export function afterClose(code) {
  for (const [first, last, then] of AFTER_CLOSE) {
    if (first <= code && code <= last) return then;
  }
  return "back";
}

const LONGEST_DELAY = 3600;

/**
 * The delay in seconds that a close reason or a Retry-After header asks for, at most an hour; 0 when it asks for none.
 *
 * @param {string | null} seconds
 */
export function delayOf(seconds) {
  return seconds !== null && /^\d+(\.\d+)?$/.test(seconds) ? Math.min(LONGEST_DELAY, Number(seconds)) : 0;
}

/**
 * A reason that carries a delay ends in `retry=SECONDS`.
 *
 * @param {string} reason
 */
export function retryAfter(reason) {
  return delayOf(/(?:^|\W)retry=([\d.]+)$/.exec(reason)?.[1] ?? null);
}
