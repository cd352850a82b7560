import { hello } from "./wire.js";

/**
 * What binds this document to its page: the page's id and token, and the cursor, which says what the document has of
 * the log.
 *
 * @typedef {{epoch: string, seq: number}} Cursor
 */
export class Attachment {
  /** @type {() => void} */
  #welcomed = () => {};
  /** @type {(why: Error) => void} */
  #never = () => {};
  /**
   * Resolves at the first welcome; rejects, never unhandled, when there will be none.
   *
   * @type {Promise<undefined>}
   */
  ready = new Promise((resolve, reject) => {
    this.#welcomed = () => resolve(undefined);
    this.#never = reject;
  });
  /** @type {string | null} null before the first welcome */
  id = null;
  /** @type {Cursor | null} null: that of the token, which only the server can read */
  cursor = null;
  /** @type {string | null} */
  token;
  /** Tells this JavaScript context apart from every other that may hold the same token. */
  document = newDocumentId();
  #attempt = 0;
  #epoch = "";

  /**
   * @param {string | null} token
   * @param {string | null} [before]  that of the page in whose place this one comes
   */
  constructor(token, before = null) {
    this.ready.catch(() => {});
    this.token = token;
    this.before = before;
  }

  /** The identity of the log, by the last welcome. */
  get epoch() {
    return this.#epoch;
  }

  /** @type {import("./carrier.js").Hello} */
  hello(fields) {
    const { token, cursor } = this;
    return hello({ token: token ?? "", document: this.document, attempt: ++this.#attempt, ...cursor, ...fields });
  }

  /**
   * @param {import("./wire.js").Welcome} said
   * @returns {{lost: string | null, forked: boolean}} what has to be told
   */
  welcome({ page, epoch, seq, lost: reason, forked, token }) {
    // A foreign epoch has other numbers under the same names, whatever else is said.
    const lost = reason ?? (this.cursor !== null && this.cursor.epoch !== epoch ? "epoch" : null);
    const news = { lost, forked: forked && page !== this.id };
    this.id = page;
    this.token = token ?? this.token;
    this.#epoch = epoch;
    if (lost !== null) this.cursor = { epoch, seq };
    this.#welcomed();
    return news;
  }

  /**
   * There will be no welcome.
   *
   * @param {Error} why
   */
  end(why) {
    this.#never(why);
  }

  /**
   * @param {number} seq
   * @returns {boolean} whether the cursor moved
   */
  advance(seq) {
    if (seq <= (this.cursor?.seq ?? 0)) return false;
    this.cursor = { epoch: this.#epoch, seq };
    return true;
  }
}

/** 128 random bits. */
function newDocumentId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
