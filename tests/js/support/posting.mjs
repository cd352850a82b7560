import assert from "node:assert/strict";

/** A browser's request with progress, moved by hand: Node has none. */
export class Posting {
  upload = { onprogress: (/** @type {object} */ _event) => {}, onload: () => {} };
  onload = () => {};
  onerror = () => {};
  onabort = () => {};
  onloadend = () => {};
  status = 0;
  /** @type {unknown} */
  response = null;
  responseType = "";
  address = "";
  aborted = false;
  /** @type {Record<string, string>} */
  headers = {};
  /** @type {FormData | null} */
  body = null;

  /**
   * @param {string} method
   * @param {string} address
   */
  open(method, address) {
    assert.equal(method, "POST");
    this.address = address;
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  setRequestHeader(name, value) {
    this.headers[name.toLowerCase()] = value;
  }

  /** @param {FormData} body */
  send(body) {
    this.body = body;
  }

  abort() {
    this.aborted = true;
    this.onabort();
    this.onloadend();
  }

  /** The fields of the body, in order; of a file its name. */
  get fields() {
    return [...(this.body ?? [])].map(([name, value]) => [name, value instanceof File ? value.name : value]);
  }

  /**
   * @param {number} loaded
   * @param {number} total
   */
  progress(loaded, total) {
    this.upload.onprogress({ loaded, total });
  }

  /** The body has gone. */
  leave() {
    this.upload.onload();
  }

  /**
   * @param {number} status
   * @param {unknown} response  null: it is no JSON
   */
  answer(status, response) {
    this.leave();
    this.status = status;
    this.response = response;
    this.onload();
    this.onloadend();
  }

  breakOff() {
    this.onerror();
    this.onloadend();
  }
}

/**
 * What is posted while a test runs.
 *
 * @param {import("node:test").TestContext} context
 */
export function postings(context) {
  /** @type {Posting[]} */
  const made = [];
  const before = Reflect.get(globalThis, "XMLHttpRequest");
  const XMLHttpRequest = class extends Posting {
    constructor() {
      super();
      made.push(this);
    }
  };
  Object.assign(globalThis, { XMLHttpRequest });
  context.after(() => Object.assign(globalThis, { XMLHttpRequest: before }));
  return {
    made,
    /** The newest. */
    get last() {
      const newest = made.at(-1);
      assert.ok(newest, "nothing was posted");
      return newest;
    },
  };
}
