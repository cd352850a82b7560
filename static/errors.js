/**
 * A failure that the other side, the link or a bound caused. A call with wrong arguments is a TypeError instead.
 *
 * `code` is one of `timeout`, `closed`, `refused`, `toolarge`, `queuefull`, `outcome-unknown`, `internal`, or what
 * the other side's delegate raised.
 */
export class PageError extends Error {
  /**
   * @param {string} code
   * @param {string} [message]
   */
  constructor(code, message = code) {
    super(message);
    this.name = "PageError";
    this.code = code;
  }
}
