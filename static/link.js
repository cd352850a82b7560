import { Backoff } from "./backoff.js";
import { BAD_TOKEN, CUT, IDENTITY, LIMIT, MALFORMED, NORMAL, TOO_BIG, TOO_MANY, afterClose, retryAfter } from "./codes.js";
import { BYE, MalformedFrame, PONG, decode } from "./wire.js";

/**
 * @typedef {"idle" | "connecting" | "open" | "waiting" | "closed"} State
 * @typedef {{code: number, reason: string}} Cause
 *
 * What the link asks of the page, and tells it.
 *
 * @typedef {object} LinkHost
 * @property {() => boolean} hasToken
 * @property {import("./carrier.js").Hello} hello
 * @property {(frame: import("./wire.js").Welcome, fresh: boolean) => () => void} welcomed  `fresh`: the first of its
 *   socket; what it returns is run when the state is "open"
 * @property {(frame: import("./wire.js").Frame, size: number) => boolean} received  whether it was news;
 *   `size` in characters or bytes
 * @property {() => void} answered  what has no result yet may be asked for again
 * @property {(state: State, previous: State) => void} changed
 * @property {(error: unknown) => void} broken  the server broke the protocol, or no socket could be made
 * @property {(token: string, cause: Cause | null) => void} renewed
 * @property {(cause: {code: number | null, reason: string}) => void} refused  for now
 * @property {(cause: Cause) => () => void} ended  for good; what it returns is run when the state is "closed"
 * @property {() => void} tooBig  the server gave up the socket over the size of a message
 * @property {(direction: "in" | "out", message: unknown) => void} trace
 */

const SILENT = "no welcome in time";

const HELD = "has no room: as many requests of this browser as the server lets wait (limits.held) wait in other tabs";
const NOT_THROUGH = "does not get through: something between here and the server refuses it or holds it back";

/** After so many heartbeats of silence the socket is given up ... */
const SILENCE = 1.5;
/** ... and after so many when the page has just come back to someone's eyes: a ping was missed. */
const MISSED = 1.25;

/**
 * One live socket at a time: makes it, says hello, watches that it lives, comes back after a cut. Frames of any
 * socket but the newest are dropped.
 */
export class Link {
  /** @type {State} */
  state = "idle";
  #host;
  #choice;
  #renew;
  #clock;
  #backoff;
  /** @type {import("./carrier.js").Carrier | null} */
  #carrier = null;
  /** @type {import("./carrier.js").Carrier | null} a WebSocket that is tried while a fallback carries the page */
  #beside = null;
  #opened = false;
  #live = false;
  #heard = 0;
  #heartbeat = 0;
  /** Counts up whenever what was under way is given up, so that its late outcome is told apart. */
  #turn = 0;
  /** A fresh token has been taken and not been welcomed yet: another refusal is final. */
  #renewedOnce = false;
  /**
   * Whether what is refused, though the page is not, is tried once more before another way is: the process that refused
   * it may have been about to stop, and the one that has the page's token may be the next.
   */
  #mayRetry = true;
  #suspended = false;
  /** @type {() => void} */
  #cancel = () => {};
  /** @type {() => void} */
  #cancelBest = () => {};
  /** @type {(() => void) | null} what the wait is for; null when it is no use hurrying */
  #next = null;
  /** The server asked not to come before. */
  #earliest = 0;

  /**
   * @param {LinkHost} host
   * @param {import("./transports.js").Choice} choice
   * @param {() => Promise<import("./renew.js").Renewal>} renew
   * @param {import("./clock.js").Clock} clock
   */
  constructor(host, choice, renew, clock) {
    this.#host = host;
    this.#choice = choice;
    this.#renew = renew;
    this.#clock = clock;
    this.#backoff = new Backoff(clock.random);
  }

  /** Whether the newest socket has been welcomed. */
  get live() {
    return this.#live;
  }

  get transport() {
    return this.#live && this.#carrier !== null ? this.#carrier.transport : null;
  }

  /** Whether there is a connection that is no WebSocket, for which browsers have few. */
  get overRequests() {
    return this.#carrier !== null && this.#carrier.transport !== "websocket";
  }

  /** Bytes written and not gone yet. */
  get unsent() {
    return this.#carrier?.unsent ?? 0;
  }

  /**
   * Writes to the live socket; false when there is none.
   *
   * @param {import("./wire.js").Encoded} frame
   */
  write(frame) {
    if (!this.#live || this.#carrier === null) return false;
    this.#host.trace("out", frame);
    this.#carrier.send(frame);
    return true;
  }

  connect() {
    if (this.state !== "idle" && this.state !== "closed") return;
    this.#renewedOnce = false;
    this.#dial();
  }

  reconnect() {
    this.#dial();
  }

  /** Comes back after `close()`, not at once: who is sent away again and again comes ever less often. */
  comeBack() {
    this.#later(0);
  }

  /** Says goodbye and stays away until `connect()`. */
  close() {
    this.write(BYE);
    this.#drop();
    this.#set("closed");
  }

  /** Lets go of the socket until `resume()`: the document sleeps. */
  suspend() {
    if (this.state === "idle" || this.state === "closed") return;
    this.#drop();
    this.#suspended = true;
    this.#set("waiting");
  }

  resume() {
    if (this.#suspended) this.#dial();
  }

  /** Someone looks at the page again: do not wait any longer, and do not trust a socket that missed a ping. */
  wake() {
    if (this.#next !== null && this.#clock.now() >= this.#earliest) this.#next();
    else if (this.state === "open" && this.#silence() > MISSED * this.#heartbeat) this.#dial();
  }

  /** The network has come back: a socket from before is not worth waiting for. */
  online() {
    this.#choice.hurry();
    if (this.#suspended) return;
    if (this.state === "open" || this.state === "connecting") this.#dial();
    else this.wake();
  }

  /** The network has gone: the socket is broken, and time will show it late. Tries on, as the word may be wrong. */
  offline() {
    if (this.state !== "open" && this.state !== "connecting") return;
    this.#drop();
    this.#later(0);
  }

  // In every transition the state is set last: who listens to it may start another transition.

  #dial() {
    this.#drop();
    if (!this.#host.hasToken()) {
      void this.#ask({ code: 0, reason: "no page token" });
      return;
    }
    try {
      this.#carrier = this.#open(this.#choice.open);
    } catch (error) {
      if (!this.#fallBack(NOT_THROUGH)) this.#host.broken(error);
      return;
    }
    this.#await();
  }

  #await() {
    this.#cancel = this.#clock.after(this.#choice.patience, () => {
      // It hangs, and would again.
      this.#mayRetry = false;
      this.#closed(CUT, SILENT);
    });
    this.#set("connecting");
  }

  /**
   * @param {import("./carrier.js").OpenCarrier} open
   * @returns {import("./carrier.js").Carrier}
   */
  #open(open) {
    const carrier = open(
      {
        opened: () => {
          if (carrier === this.#beside) this.#changeOver(carrier);
          if (carrier === this.#carrier) this.#opened = true;
        },
        message: (message) => carrier === this.#carrier && this.#hear(message),
        answered: () => carrier === this.#carrier && this.#live && this.#host.answered(),
        closed: (code, reason) => carrier === this.#carrier && this.#closed(code, reason),
      },
      (fields) => {
        const hello = this.#host.hello(fields);
        this.#host.trace("out", hello);
        return hello;
      },
    );
    return carrier;
  }

  /** Plans to try a WebSocket beside a fallback. */
  #planBest() {
    this.#cancelBest();
    const { untilBest } = this.#choice;
    if (untilBest !== null) this.#cancelBest = this.#clock.after(untilBest, () => this.#tryBest());
  }

  #tryBest() {
    this.#choice.postpone();
    this.#planBest();
    this.#beside?.close(NORMAL, "");
    try {
      this.#beside = this.#open(this.#choice.openBest);
    } catch {
      // There are none here; the fallback goes on.
      this.#beside = null;
    }
  }

  /** @param {import("./carrier.js").Carrier} carrier  which has said hello */
  #changeOver(carrier) {
    this.#beside = null;
    this.#drop();
    this.#choice.takeBest();
    this.#carrier = carrier;
    this.#await();
  }

  /**
   * What was tried does not get through: tries what is left, or waits.
   *
   * @param {string | null} why  as the choice has it
   */
  #fallBack(why) {
    const another = this.#choice.fallBack(why);
    if (another) this.#dial();
    else this.#later(0);
    return another;
  }

  /** @param {unknown} message */
  #hear(message) {
    this.#host.trace("in", message);
    this.#heard = this.#clock.now();
    /** @type {import("./wire.js").Frame} */
    let frame;
    try {
      frame = decode(message);
      if (!this.#live && frame.kind !== "welcome" && frame.kind !== "close") {
        throw new MalformedFrame(`${frame.kind} before welcome`);
      }
    } catch (error) {
      this.#drop(MALFORMED, "malformed");
      this.#later(0);
      this.#host.broken(error);
      return;
    }
    if (frame.kind === "welcome") this.#welcomed(frame);
    else if (frame.kind === "close") this.#closed(frame.code, frame.reason);
    else {
      const carrier = this.#carrier;
      if (frame.kind === "ping") this.write(PONG);
      const size = message instanceof ArrayBuffer ? message.byteLength : String(message).length;
      const news = this.#host.received(frame, size);
      // Not after a mere welcome: who is thrown out by the same frame at every resume must not come back ever faster.
      if (carrier === this.#carrier && (news || frame.kind === "ping")) this.#backoff.reset();
    }
  }

  /** @param {import("./wire.js").Welcome} frame */
  #welcomed(frame) {
    const fresh = !this.#live;
    this.#live = true;
    this.#renewedOnce = false;
    this.#mayRetry = true;
    this.#heartbeat = frame.heartbeat * 1000;
    this.#watch();
    if (fresh) {
      this.#choice.keep();
      this.#planBest();
    }
    const announce = this.#host.welcomed(frame, fresh);
    this.#set("open");
    announce();
  }

  #silence() {
    const now = this.#clock.now();
    // The clock may have been set back.
    this.#heard = Math.min(this.#heard, now);
    return now - this.#heard;
  }

  #watch() {
    this.#cancel();
    const left = SILENCE * this.#heartbeat - this.#silence();
    if (left > 0) {
      this.#cancel = this.#clock.after(left, () => this.#watch());
    } else {
      // A proxy that holds a stream back lets a full buffer through now and then, and its welcome may have been in one.
      const mayBeHeld = this.transport === "stream";
      this.#drop();
      if (mayBeHeld) this.#fallBack(null);
      else this.#later(0);
    }
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #closed(code, reason) {
    const opened = this.#opened;
    const live = this.#live;
    this.#drop();
    // A browser is not shown why an upgrade was refused.
    if (!opened) void this.#ask(null);
    else if (afterClose(code) === "never") this.#end({ code, reason });
    else if (afterClose(code) === "back") {
      if (code === TOO_BIG && live) this.#host.tooBig();
      // A line that breaks once says nothing of the way.
      if (code === CUT && !live) this.#fallBack(reason === SILENT ? NOT_THROUGH : null);
      else if (code === LIMIT && reason === "streams") this.#fallBack(HELD);
      else {
        this.#later(retryAfter(reason));
        if (code === LIMIT || code === TOO_MANY) this.#host.refused({ code, reason });
      }
    } else if (this.#renewedOnce) this.#end({ code, reason });
    else void this.#ask({ code, reason });
  }

  /**
   * Asks for a fresh token. An answer is final when there is a cause; no answer never is.
   *
   * @param {Cause | null} cause  null: to learn why the socket was refused
   */
  async #ask(cause) {
    const turn = ++this.#turn;
    this.#next = null;
    this.#set("waiting");
    if (turn !== this.#turn) return;
    const renewal = await this.#renew();
    if (turn !== this.#turn) return;
    if ("after" in renewal) {
      this.#later(renewal.after, cause === null ? undefined : () => void this.#ask(cause));
    } else if ("token" in renewal) {
      this.#renewedOnce = cause !== null;
      this.#host.renewed(renewal.token, cause);
      if (turn !== this.#turn) return;
      if (cause !== null) {
        this.#dial();
      } else if (this.#mayRetry) {
        this.#mayRetry = false;
        this.#dial();
      } else {
        this.#fallBack(NOT_THROUGH);
      }
    } else {
      const { code, reason } = renewal.refused;
      // Who was away while the identity changed is told at the hello that the token is not good, and here why.
      if (code === IDENTITY || (cause === null && code === BAD_TOKEN)) this.#end({ code, reason });
      else if (cause !== null) this.#end({ code: cause.code, reason });
      else {
        this.#later(0);
        this.#host.refused({ code, reason });
      }
    }
  }

  /**
   * @param {number} seconds  that the server asked for
   * @param {() => void} action
   */
  #later(seconds, action = () => this.#dial()) {
    this.#earliest = this.#clock.now() + seconds * 1000;
    this.#next = () => {
      this.#cancel();
      action();
    };
    this.#cancel = this.#clock.after(seconds * 1000 + this.#backoff.next(), action);
    this.#set("waiting");
  }

  /** @param {Cause} cause */
  #end(cause) {
    this.#turn++;
    const announce = this.#host.ended(cause);
    this.#set("closed");
    announce();
  }

  #drop(code = NORMAL, reason = "") {
    const carrier = this.#carrier;
    this.#turn++;
    this.#cancel();
    this.#cancel = () => {};
    this.#cancelBest();
    this.#next = null;
    this.#beside?.close(NORMAL, "");
    this.#carrier = this.#beside = null;
    this.#opened = this.#live = this.#suspended = false;
    carrier?.close(code, reason);
  }

  /** @param {State} state */
  #set(state) {
    const previous = this.state;
    this.state = state;
    if (state !== previous) this.#host.changed(state, previous);
  }
}
