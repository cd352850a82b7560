import { Answers } from "./answers.js";
import { Attachment } from "./attachment.js";
import { systemClock } from "./clock.js";
import { BAD_TOKEN, IDENTITY } from "./codes.js";
import { Debug } from "./debug.js";
import { Delegates } from "./delegates.js";
import { PageError } from "./errors.js";
import { Link } from "./link.js";
import { messages } from "./messages.js";
import { Outbox } from "./outbox.js";
import { overPoll } from "./poll.js";
import { renew } from "./renew.js";
import { overStream } from "./stream.js";
import { Choice } from "./transports.js";
import { inTurn, unlessAborted, upload } from "./upload.js";
import { overWebSocket } from "./websocket.js";
import { checkName, membership, send } from "./wire.js";

const NO_INCLUDE = "this page has no include: put {{ pagews_script() }} into its template";

/**
 * @typedef {object} PageOptions
 * @property {string} base  where the server's pagews is, e.g. "https://example.org/pagews"
 * @property {string | null} [token]  the page's token; without one the server is asked for a page first
 * @property {import("./carrier.js").Transport} [transport]  the one to use, and no other; default: the best that works
 * @property {typeof WebSocket} [WebSocket]  default: the one there is
 * @property {typeof fetch} [fetch]  default: the one there is
 * @property {import("./clock.js").Clock} [clock]
 * @property {(page: Page, why: string) => void} [reload]  what to do when this page cannot go on as it is; default:
 *   nothing. `why` goes on from "the page ..."
 * @property {boolean} [included]  whether there is an include, the default. Without one the page cannot connect
 */

/**
 * The browser's end of a page: hears from the server through delegates, and sends to the server's.
 *
 * Events, with what `event.detail` holds; (c): cancelable, the default is a reload under guard.
 *
 * - `statechange` {state, previous}
 * - `lost` (c) {reason}: messages are missing; `epoch`, `expired`, `trimmed`, or `held`: too many waited for a delegate
 * - `forked` (c) {id}: another document has this page, the server made a new one from its cursor
 * - `identity` {code, reason, renewed}: the session ended or changed; (c) unless a fresh token was had (`renewed`)
 * - `refused` {code, reason, final}: the server does not want this page; it is asked again unless `final`, which is
 *   (c) where a fresh page would help (4500)
 * - `unhandled` {message}: nobody listens; the message waits for its delegate unless the event is canceled
 * - `error` {error}: a delegate threw, or the server broke the protocol; goes to the console unless canceled
 */
export class Page extends EventTarget {
  /** @type {PageError | null} why nothing can be sent any more */
  #over = null;
  #base;
  #included;
  #attachment;
  #clock;
  #uploads = 0;
  #reload;
  #debug = new Debug();
  #link;
  #outbox;
  #answers;
  #delegates;

  /** @param {PageOptions} options */
  constructor({
    base,
    token = null,
    transport,
    WebSocket = globalThis.WebSocket,
    fetch,
    clock = systemClock,
    reload = () => {},
    included = true,
  }) {
    super();
    if (transport === "websocket" && !WebSocket) throw new TypeError("no WebSocket here: pass WebSocket=...");
    this.#base = base;
    this.#clock = clock;
    this.#included = included;
    this.#attachment = new Attachment(token);
    this.#reload = reload;
    /** @type {import("./request.js").Http} */
    const http = {
      base,
      // Called as a plain function: a browser's fetch refuses any other `this`.
      fetch: (...args) => (fetch ?? globalThis.fetch)(...args),
      clock,
      limit: () => this.#outbox.limit,
    };
    const transports = {
      websocket: overWebSocket(WebSocket, base),
      stream: overStream(http),
      poll: overPoll(http),
    };
    this.#link = new Link(
      {
        hasToken: () => this.#attachment.token !== null,
        hello: (fields) => this.#attachment.hello(fields),
        welcomed: (frame, fresh) => this.#welcomed(frame, fresh),
        received: (frame, size) => this.#received(frame, size),
        answered: () => this.#outbox.resend(),
        changed: (state, previous) => this.#emit("statechange", { state, previous }),
        broken: (error) => this.#report(error),
        renewed: (fresh, cause) => this.#renewed(fresh, cause),
        refused: (cause) => this.#emit("refused", { ...cause, final: false }),
        ended: (cause) => this.#ended(cause),
        tooBig: () => this.#dropLargest(),
        trace: (direction, message) => this.#debug.trace(direction, message),
      },
      new Choice(transports, transport, clock),
      () => renew(http, this.#attachment),
      clock,
    );
    this.#outbox = new Outbox((frame) => this.#link.write(frame), clock);
    this.#answers = new Answers(
      (frame) => this.#link.write(frame),
      (error) => this.#report(error),
    );
    this.#delegates = new Delegates(
      {
        report: (error) => this.#report(error),
        unhandled: (message) => this.#emit("unhandled", { message }),
        overflowed: () => this.#lost("held"),
      },
      clock,
    );
    if (!included) {
      console.warn(`pagews: ${NO_INCLUDE}`);
      this.#finish(new PageError("closed", NO_INCLUDE));
    }
  }

  get state() {
    return this.#link.state;
  }

  /** Resolves at the first welcome; rejects, never unhandled, when the page is closed for good before. */
  get ready() {
    return this.#attachment.ready;
  }

  /** What carries the open link: "websocket", "stream" or "poll"; null while there is none. */
  get transport() {
    return this.#link.transport;
  }

  /** The page's id; null before the first welcome. */
  get id() {
    return this.#attachment.id;
  }

  /** What this document has of the log; null while that is only in the token. */
  get cursor() {
    const { cursor } = this.#attachment;
    return cursor && { ...cursor };
  }

  /** Whether the result of a send, join, leave or upload is still out. */
  get busy() {
    return this.#outbox.busy || this.#uploads > 0;
  }

  /**
   * Listens under a delegate's name. What the listener returns, or its promise, answers an `ask`; of several listeners
   * the first that gives something (not undefined) does. Messages that came before anyone listened are handed over:
   * up to 500, or 1 MiB, wait; beyond that the page is `lost`.
   *
   * @param {string} delegate  1 to 200 printable characters
   * @param {import("./delegates.js").Listener} listener
   * @param {{signal?: AbortSignal}} [options]  the signal ends the listening
   * @returns {() => void} ends the listening
   * @throws {TypeError} no such name, or no function
   */
  on(delegate, listener, options) {
    return this.#delegates.on(delegate, listener, options);
  }

  /**
   * A delegate's data, for `for await`. Keeps 1,000 for a slow reader; the oldest beyond are dropped, counted in
   * `dropped` and reported by an `error` event.
   *
   * @param {string} delegate
   * @param {{signal?: AbortSignal}} [options]  the signal ends the iteration
   */
  messages(delegate, { signal } = {}) {
    const listen = (/** @type {(data: any) => void} */ listener) => this.on(delegate, (data) => listener(data));
    return messages(listen, (error) => this.#report(error), signal);
  }

  /**
   * Sends to a delegate of the server. qos 1 and 2 wait for the link, at most 1,000 of them or 1 MiB, and resolve with
   * what the delegate returned; qos 0 resolves once it is written, and rejects with `closed` when there is no link.
   *
   * @param {string} delegate  1 to 200 printable characters
   * @param {unknown} [data]  a JSON value, or bytes (an ArrayBuffer or a view of one)
   * @param {import("./outbox.js").SendOptions} [options]
   * @returns {Promise<any>} rejects with a PageError, the signal's reason, or a TypeError for wrong arguments
   */
  async send(delegate, data = null, options = {}) {
    const { qos = 1 } = options;
    checkName("a delegate", delegate);
    if (![0, 1, 2].includes(qos)) throw new TypeError("qos must be 0, 1 or 2");
    if (this.#over !== null) throw this.#over;
    const encode = (/** @type {number} */ id) => send(id, qos, delegate, data);
    if (qos > 0) return this.#outbox.request(encode, options);
    options.signal?.throwIfAborted();
    this.#outbox.once(encode, this.#link.unsent);
  }

  /**
   * Sends files, and other fields, to a delegate of the server: by a request of its own, once, beside the link.
   *
   * @param {string} delegate  1 to 200 printable characters
   * @param {FormData} fields
   * @param {import("./upload.js").UploadOptions} [options]
   * @returns {Promise<any>} what the delegate returned; rejects with a PageError, or the signal's reason
   */
  async upload(delegate, fields, options) {
    checkName("a delegate", delegate);
    if (this.#over !== null) throw this.#over;
    this.#uploads++;
    // Of another page, which may be another user's, it is none, however long it waits for its turn.
    const attachment = this.#attachment;
    try {
      if (attachment.token === null) await unlessAborted(attachment.ready, options?.signal);
      const send = () => {
        const { id, token, document, epoch } = attachment;
        // A browser repeats a request whose connection broke before the answer. Of an attached page the server sees it.
        const once = id === null ? {} : { document, epoch, id: `${this.#outbox.takeId()}` };
        return upload(`${this.#base}/form`, { token: token ?? "", delegate, ...once }, fields, this.#clock, options);
      };
      return await (this.#link.overRequests ? inTurn(send, options?.signal) : send());
    } finally {
      this.#uploads--;
    }
  }

  /**
   * Asks to listen to a topic; the application decides.
   *
   * @param {string} topic  1 to 200 printable characters
   * @param {import("./outbox.js").SendOptions} [options]
   * @returns {Promise<any>}
   */
  join(topic, options) {
    return this.#member("join", topic, options);
  }

  /**
   * @param {string} topic
   * @param {import("./outbox.js").SendOptions} [options]
   * @returns {Promise<any>}
   */
  leave(topic, options) {
    return this.#member("leave", topic, options);
  }

  /** Starts the link, where it has not been started or was closed. */
  connect() {
    if (!this.#included) return;
    this.#over = null;
    this.#link.connect();
  }

  /** Drops the socket and makes a new one at once. */
  reconnect() {
    if (!this.#included) return;
    this.#over = null;
    this.#link.reconnect();
  }

  /**
   * Says goodbye and stays away until `connect()`; what waits for a result rejects with `closed`. An upload that is
   * under way goes on, as it does not need the link.
   */
  close() {
    // First: who hears of the state may connect again.
    this.#finish(new PageError("closed", "the page was closed"));
    this.#link.close();
  }

  /**
   * Ends this page and begins another in the same document. What waits for a result rejects with `closed`, messages
   * that wait for a delegate are dropped; delegates that are registered stay.
   *
   * @returns {Promise<undefined>} the new `ready`
   */
  restart() {
    return this.#begin(null);
  }

  /**
   * Takes on the identity that the browser has now, as a page of its own: what was of the old one ends as by `restart()`.
   * Its id stays where nobody was logged in before, or the same user. For a page that was closed because its session
   * has ended; waits while the server says that the new session's cookie may be on its way.
   *
   * @returns {Promise<undefined>} the new `ready`
   */
  adopt() {
    return this.#begin(this.#attachment.token ?? this.#attachment.before);
  }

  /**
   * Frames to the console, tokens hidden; remembered by the browser.
   *
   * @param {boolean} [on]
   */
  debug(on = true) {
    this.#debug.turn(on);
  }

  /** The document sleeps (back-forward cache, frozen tab): lets go of the socket until `resume()`. */
  suspend() {
    this.#link.suspend();
  }

  resume() {
    this.#link.resume();
  }

  /** Someone looks at the page again: waits no longer, and does not trust a socket that missed a ping. */
  wake() {
    this.#link.wake();
  }

  /** The network has come back. */
  online() {
    this.#link.online();
  }

  /** The network has gone: does not wait for the silence to show it. */
  offline() {
    this.#link.offline();
  }

  /** The document ends: says so, and leaves the rest to its end. */
  bye() {
    this.#link.close();
  }

  /**
   * @param {string | null} before  the token of the page in whose place the new one comes
   * @returns {Promise<undefined>}
   */
  #begin(before) {
    if (!this.#included) return this.ready;
    this.close();
    this.#attachment = new Attachment(null, before);
    this.#answers.clear();
    this.#delegates.drop();
    this.#over = null;
    if (before === null) this.#link.reconnect();
    else this.#link.comeBack();
    return this.ready;
  }

  /**
   * @param {"join" | "leave"} kind
   * @param {string} topic
   * @param {import("./outbox.js").SendOptions} [options]
   */
  async #member(kind, topic, options = {}) {
    checkName("a topic", topic);
    if (this.#over !== null) throw this.#over;
    return this.#outbox.request((id) => membership(kind, id, topic), { ...options, qos: 1 });
  }

  /**
   * @param {import("./wire.js").Welcome} frame
   * @param {boolean} fresh
   */
  #welcomed(frame, fresh) {
    const { lost, forked } = this.#attachment.welcome(frame);
    this.#outbox.limit = this.#answers.limit = frame.limits.message;
    // The record that knew which sends have run ends with the log, with the retention while the page is away, and is
    // not a fork's.
    if (lost === "epoch" || (lost === "expired" && fresh) || forked) this.#outbox.forgetOutcomes();
    if (lost === "epoch") this.#answers.clear();
    if (fresh) {
      this.#answers.resend();
      this.#outbox.resend();
    }
    return () => {
      if (lost !== null) this.#lost(lost);
      if (forked) this.#default("forked", { id: frame.page }, "became another one (forked)");
    };
  }

  /**
   * @param {import("./wire.js").Frame} frame
   * @param {number} size
   * @returns {boolean} whether a message was delivered
   */
  #received(frame, size) {
    if (frame.kind === "push") return this.#pushed(frame, size);
    if (frame.kind === "ping") this.#attachment.advance(frame.seq);
    else if (frame.kind === "result") this.#outbox.settle(frame);
    else if (frame.kind === "acked") this.#answers.forget(frame.receipt);
    else if (frame.kind === "token") this.#attachment.token = frame.token;
    return false;
  }

  /**
   * @param {import("./wire.js").Push} frame
   * @param {number} size
   */
  #pushed({ seq, to, delegate, data, receipt }, size) {
    const news = seq === 0 || this.#attachment.advance(seq);
    if (receipt !== null && this.#answers.repeat(receipt)) return false;
    if (!news) return false;
    const asker = receipt === null ? null : this.#answers.expect(receipt);
    this.#delegates.deliver({ delegate, to, seq, data }, size, asker);
    return true;
  }

  /**
   * @param {string} token
   * @param {import("./link.js").Cause | null} cause
   */
  #renewed(token, cause) {
    this.#attachment.token = token;
    if (cause?.code === IDENTITY) this.#emit("identity", { ...cause, renewed: true });
  }

  /**
   * @param {import("./link.js").Cause} cause
   * @returns {() => void} tells of it
   */
  #ended({ code, reason }) {
    this.#finish(new PageError("refused", `the server closed the page: ${code} ${reason}`));
    return () => {
      if (code === IDENTITY) this.#default("identity", { code, reason, renewed: false }, "is of another session");
      else if (code === BAD_TOKEN) this.#default("refused", { code, reason, final: true }, `was refused (${reason})`);
      else this.#emit("refused", { code, reason, final: true });
    };
  }

  /** @param {string} reason */
  #lost(reason) {
    this.#default("lost", { reason }, `lost messages (${reason})`);
  }

  /** @param {PageError} error */
  #finish(error) {
    this.#over = error;
    this.#outbox.failAll(error.code, error.message);
    this.#attachment.end(error);
  }

  #dropLargest() {
    const sent = this.#outbox.largest();
    const answer = this.#answers.largest();
    const why = "the server closed the socket over the size of a message, and this was the largest";
    if (sent.size >= answer.size) this.#outbox.fail(sent.id, "toolarge", why);
    else this.#answers.replace(answer.receipt, new PageError("toolarge", why));
  }

  /** @param {unknown} error */
  #report(error) {
    if (this.#emit("error", { error })) console.error(error);
  }

  /**
   * An event whose default is to reload.
   *
   * @param {string} type
   * @param {object} detail
   * @param {string} why  goes on from "the page ..."
   */
  #default(type, detail, why) {
    if (this.#emit(type, detail)) this.#reload(this, why);
  }

  /**
   * @param {string} type
   * @param {object} detail
   * @returns {boolean} whether the default is to follow
   */
  #emit(type, detail) {
    return this.dispatchEvent(new CustomEvent(type, { detail, cancelable: true }));
  }
}

/**
 * A page without a script tag: for Node, for tests. Starts with `connect()`.
 *
 * @param {PageOptions} options
 */
export function createPage(options) {
  return new Page(options);
}
