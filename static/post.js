import { CUT } from "./codes.js";
import { request } from "./request.js";
import { BYE, fromText, toText } from "./wire.js";

/** Frames in one request, at most. */
const MOST = 100;
/** Bytes that browsers let a document send while it ends. */
const BEACON = 60_000;
/**
 * Milliseconds until a request without an answer is given up: the server holds one back for 20 s at most. And one more
 * for each byte, as the server takes bodies of lines as slow as that.
 */
const PATIENCE = 30_000;
/** An answer that comes sooner may have nothing to wait for, in milliseconds ... */
const SOON = 1000;
/** ... and the next request would get the same, unless it waits. */
const PAUSE = 2000;

/**
 * A carrier that has no socket: frames come down by `receive`, and go up in requests of their own.
 *
 * @typedef {(frame: unknown) => void} Take  a frame as it is in the JSON of an answer: an array, or base64
 *
 * @typedef {object} Down
 * @property {(path: string, more?: {wait: boolean}) => Promise<Response>} ask  says hello; rejects when it is refused
 * @property {() => void} opened
 * @property {(message: unknown) => void} message
 * @property {Take} take
 *
 * @param {import("./request.js").Http} http
 * @param {"stream" | "poll"} transport
 * @param {(down: Down) => Promise<void>} receive  ends with the connection
 * @returns {import("./carrier.js").OpenCarrier}
 */
export function overRequests(http, transport, receive) {
  return (events, hello) => {
    const down = new AbortController();
    const up = new AbortController();
    let saidBye = false;

    const end = () => {
      if (down.signal.aborted) return;
      close();
      events.closed(CUT, "");
    };
    const close = () => {
      down.abort();
      // What was sent before the goodbye is still on its way.
      if (!saidBye) up.abort();
    };
    /** @type {(path: string, body: string, signal: AbortSignal) => Promise<Response>} */
    const ask = async (path, body, signal) => {
      const response = await request(http, path, body, signal);
      if (response.ok) return response;
      throw new Error(`status ${response.status}`);
    };
    /** @type {Take} */
    const take = (frame) => events.message(fromText(typeof frame === "string" ? frame : JSON.stringify(frame)));
    const body = (/** @type {string[]} */ frames) => `[${[hello({ transport }), ...frames].join()}]`;
    const blob = (/** @type {string[]} */ frames) => new Blob([body(frames)], { type: "application/json" });
    const post = async (/** @type {string[]} */ frames) => {
      const said = body(frames);
      const cancel = http.clock.after(PATIENCE + said.length, () => up.abort());
      try {
        const answer = await ask("post", said, up.signal);
        for (const frame of await answer.json()) take(frame);
      } catch {
        end();
      } finally {
        cancel();
      }
    };
    const asking = new Lane(post, http, () => events.answered());
    // Of its own: a delegate of the server may wait for it, while what asked the delegate waits for the delegate.
    const telling = new Lane(post, http, () => {});

    receive({
      ask: (path, more) => ask(path, hello({ transport, ...more }), down.signal),
      opened: events.opened,
      message: events.message,
      take,
    }).then(end, end);

    return {
      transport,
      get unsent() {
        return asking.size + telling.size;
      },
      send(frame) {
        if (frame === BYE) {
          saidBye = true;
          const rest = [...telling.rest(), ...asking.rest()];
          const [all, alone] = [blob([...rest, BYE]), blob([BYE])];
          const fits = rest.length < MOST && all.size < BEACON;
          if ((fits && beacon(http, all)) || beacon(http, alone)) return;
          void request(http, "post", fits ? all : alone, up.signal).catch(() => {});
        } else {
          // The first letter of its kind: ack, pong.
          const letter = typeof frame === "string" ? frame[2] : String.fromCharCode(frame[6] ?? 0);
          (letter === "a" || letter === "p" ? telling : asking).send(toText(frame));
        }
      },
      close,
    };
  };
}

/** Frames on their way up: in order, one request at a time. */
class Lane {
  /** Characters that wait. */
  size = 0;
  #post;
  #http;
  #answered;
  #running = false;
  /** @type {string[]} */
  #waiting = [];

  /**
   * @param {(frames: string[]) => Promise<void>} post
   * @param {import("./request.js").Http} http
   * @param {() => void} answered  nothing waits any more
   */
  constructor(post, http, answered) {
    this.#post = post;
    this.#http = http;
    this.#answered = answered;
  }

  /** @param {string} frame  as it is in the body */
  send(frame) {
    this.#waiting.push(frame);
    this.size += frame.length;
    if (!this.#running) void this.#run();
  }

  /** Takes out all that has not gone yet. */
  rest() {
    this.size = 0;
    return this.#waiting.splice(0);
  }

  async #run() {
    const { clock, limit } = this.#http;
    this.#running = true;
    // What is sent in the same turn goes together.
    await null;
    let began = 0;
    while (this.#waiting.length > 0) {
      let count = 0;
      let size = 0;
      for (const { length } of this.#waiting) {
        if (count > 0 && (count === MOST || size + length > limit())) break;
        count++;
        size += length;
      }
      this.size -= size;
      began = clock.now();
      await this.#post(this.#waiting.splice(0, count));
    }
    this.#running = false;
    clock.after(clock.now() - began < SOON ? PAUSE : 0, () => {
      if (!this.#running) this.#answered();
    });
  }
}

/**
 * Waits before a request that would be answered like the one before, unless that has taken its time.
 *
 * @param {import("./clock.js").Clock} clock
 * @param {number} began  when the one before did
 */
export async function pause({ now, after, random }, began) {
  if (now() - began < SOON) await new Promise((resolve) => after(PAUSE * (0.5 + random()), () => resolve(null)));
}

/**
 * Sends what arrives also when the document ends.
 *
 * @param {import("./request.js").Http} http
 * @param {Blob} body
 * @returns {boolean} false: there is no way to, or no room for it
 */
function beacon({ base }, body) {
  return globalThis.navigator?.sendBeacon?.(`${base}/post`, body) ?? false;
}
