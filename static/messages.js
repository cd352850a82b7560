import { PageError } from "./errors.js";

/** How many messages wait for a reader. */
const MOST = 1000;

/**
 * A delegate's data as an async iterator. When the reader falls 1,000 messages behind, the oldest are dropped and
 * counted, and the first drop of a run is reported. Ends, without an error, with its signal or a `break`.
 *
 * @param {(listener: (data: any) => void) => () => void} listen
 * @param {(error: PageError) => void} report
 * @param {AbortSignal} [signal]
 * @returns {AsyncIterableIterator<any> & {readonly dropped: number}}
 */
export function messages(listen, report, signal) {
  /** @type {any[]} */
  let waiting = [];
  /** @type {((result: IteratorResult<any>) => void)[]} */
  let readers = [];
  let dropped = 0;
  let dropping = false;
  let ended = false;

  const off = listen((data) => {
    const reader = readers.shift();
    if (reader !== undefined) {
      reader({ done: false, value: data });
      return;
    }
    waiting.push(data);
    if (waiting.length <= MOST) return;
    waiting.shift();
    dropped++;
    if (!dropping) report(new PageError("queuefull", `a reader is ${MOST} messages behind: the oldest are dropped`));
    dropping = true;
  });

  const end = () => {
    ended = true;
    waiting = [];
    off();
    signal?.removeEventListener("abort", end);
    for (const reader of readers) reader({ done: true, value: undefined });
    readers = [];
  };
  if (signal?.aborted) end();
  else signal?.addEventListener("abort", end);

  return {
    get dropped() {
      return dropped;
    },
    async next() {
      if (waiting.length > 0) return { done: false, value: waiting.shift() };
      if (ended) return { done: true, value: undefined };
      dropping = false;
      return new Promise((resolve) => readers.push(resolve));
    },
    async return() {
      end();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
