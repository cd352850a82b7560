import assert from "node:assert/strict";
import { createPage } from "../../../static/page.js";
import { HandClock, settled } from "./clock.mjs";
import { WELCOME } from "./server.mjs";

/** The server's end of one socket, moved by hand. */
export class PeerSocket {
  /** @type {any[]} frames that the page has written and the test has not taken yet */
  written = [];
  /** @type {{code: number, reason: string} | null} how the page closed it */
  closed = null;
  binaryType = "blob";
  bufferedAmount = 0;
  readyState = 1;
  onopen = () => {};
  onmessage = (/** @type {{data: unknown}} */ _event) => {};
  onclose = (/** @type {{code: number, reason: string}} */ _event) => {};

  /**
   * @param {string} url
   * @param {string} protocol
   */
  constructor(url, protocol) {
    this.url = url;
    this.protocol = protocol;
  }

  /** @param {string | Uint8Array} frame */
  send(frame) {
    assert.equal(this.closed, null, "written after its close");
    this.written.push(typeof frame === "string" ? JSON.parse(frame) : frame);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  close(code, reason) {
    this.closed ??= { code, reason };
  }

  /** The upgrade is accepted. @returns {any} the fields of the hello */
  accept() {
    this.onopen();
    const [[kind, fields]] = this.take();
    assert.equal(kind, "hello");
    return fields;
  }

  /** Accepts and welcomes. @param {object} fields that differ from a plain welcome */
  welcome(fields = {}) {
    const hello = this.accept();
    this.say("welcome", { ...WELCOME, ...fields });
    return hello;
  }

  /** Welcomes again. @param {object} fields */
  welcomeAgain(fields) {
    this.say("welcome", { ...WELCOME, ...fields });
  }

  /** @param {unknown[]} frame */
  say(...frame) {
    this.raw(JSON.stringify(frame));
  }

  /** @param {unknown} data */
  raw(data) {
    this.onmessage({ data });
  }

  /** The link breaks, or the server closes. */
  cut(code = 1006, reason = "") {
    this.onclose({ code, reason });
  }

  /** What the page has written since the last time. */
  take() {
    return this.written.splice(0);
  }
}

/**
 * A page against a scripted server.
 *
 * @param {Partial<import("../../../static/page.js").PageOptions>} options
 */
export function setUp(options = {}) {
  /** @type {PeerSocket[]} */
  const sockets = [];
  const clock = new HandClock();
  /** @type {{type: string, detail: any}[]} */
  const events = [];
  /** @type {any[]} bodies of what `/renew` was asked */
  const asked = [];
  /** @type {(() => Response | Promise<Response>)[]} what `/renew` answers; then: nobody there */
  const renewals = [];
  let reloads = 0;
  class FakeWebSocket extends PeerSocket {
    /**
     * @param {string} url
     * @param {string} protocol
     */
    constructor(url, protocol) {
      super(url, protocol);
      sockets.push(this);
    }
  }
  const page = createPage({
    base: "http://server.test/pagews",
    token: "T1",
    transport: "websocket",
    clock,
    WebSocket: /** @type {any} */ (FakeWebSocket),
    fetch: async (url, init) => {
      assert.equal(String(url), "http://server.test/pagews/renew");
      assert.equal(init?.method, "POST");
      assert.equal(init?.credentials, "same-origin");
      assert.equal(new Headers(init?.headers).get("content-type"), "application/json");
      asked.push(JSON.parse(String(init?.body)));
      const answer = renewals.shift();
      if (answer === undefined) throw new TypeError("nobody there");
      return answer();
    },
    reload: () => reloads++,
    ...options,
  });
  for (const type of ["statechange", "lost", "forked", "identity", "refused", "unhandled", "error"]) {
    page.addEventListener(type, (event) => {
      events.push({ type, detail: /** @type {CustomEvent} */ (event).detail });
      if (type === "error") event.preventDefault();
    });
  }
  return {
    page,
    clock,
    sockets,
    asked,
    renewals,
    /** The newest socket. */
    get socket() {
      const newest = sockets.at(-1);
      assert.ok(newest, "no socket was made");
      return newest;
    },
    get reloads() {
      return reloads;
    },
    /** @param {string} type */
    events: (type) => events.filter((event) => event.type === type).map(({ detail }) => detail),
    /** @param {object} fields of the welcome */
    open(fields = {}) {
      page.connect();
      return this.socket.welcome(fields);
    },
    /** Cuts the newest socket, and does not let the page wait for the next. */
    cutAndReturn() {
      const before = sockets.length;
      this.socket.cut();
      page.wake();
      assert.equal(sockets.length, before + 1);
      return this.socket;
    },
  };
}

/**
 * @param {number} status
 * @param {object} body
 * @param {Record<string, string>} headers
 */
export function reply(status, body, headers = {}) {
  return () => Response.json(body, { status, headers });
}

/** Collects what comes of a promise without waiting for it. @param {Promise<unknown>} promise */
export function outcome(promise) {
  /** @type {{state: "pending" | "resolved" | "rejected", value: any}} */
  const seen = { state: "pending", value: undefined };
  promise.then(
    (value) => Object.assign(seen, { state: "resolved", value }),
    (value) => Object.assign(seen, { state: "rejected", value }),
  );
  return seen;
}

export { settled };
