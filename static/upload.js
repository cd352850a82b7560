import { PageError } from "./errors.js";
import { OWN } from "./fields.js";

/** Milliseconds in which some of it must leave: a line that is gone without a word would keep the other tabs waiting. */
const SILENCE = 120_000;

/**
 * @typedef {object} UploadOptions
 * @property {(loaded: number, total: number) => void} [progress]  bytes that have left, and bytes in all
 * @property {AbortSignal} [signal]  ends it
 */

/**
 * Posts files to a delegate. Not by `fetch`, which does not tell how far it is.
 *
 * @param {string} address
 * @param {{token: string, delegate: string, document?: string, epoch?: string, id?: string}} own  what the server has to know
 * @param {FormData} fields
 * @param {import("./clock.js").Clock} clock
 * @param {UploadOptions} [options]
 * @returns {Promise<unknown>} what the delegate returned
 */
export function upload(address, own, fields, clock, { progress, signal } = {}) {
  const body = new FormData();
  // First, as the server takes no file before it knows whose it is.
  for (const [name, value] of Object.entries(own)) body.append(OWN + name, value);
  for (const [name, value] of fields) if (!name.startsWith(OWN)) body.append(name, value);
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    let left = false;
    let isSilent = false;
    let stopWaiting = () => {};
    const wait = () => {
      stopWaiting();
      stopWaiting = clock.after(SILENCE, () => {
        isSilent = true;
        request.abort();
      });
    };
    request.upload.onprogress = ({ loaded, total }) => {
      wait();
      progress?.(loaded, total);
    };
    request.upload.onload = () => {
      left = true;
      stopWaiting();
    };
    request.onload = () => {
      const { status, response } = request;
      if (response?.ok) resolve(response.value);
      else if (typeof response?.code === "string") reject(new PageError(response.code, String(response.message)));
      // Not the server's pagews: a limit of the server itself, or what stands before it.
      else if (status === 413) reject(new PageError("toolarge", "this is more than the server takes"));
      else reject(new PageError("refused", `the server answered ${status}`));
    };
    // What has left as a whole may have reached the delegate.
    request.onerror = () => {
      if (left) reject(new PageError("outcome-unknown", "the upload broke off, and may have arrived"));
      else reject(new PageError("closed", "the upload broke off: send it again"));
    };
    request.onabort = () =>
      reject(isSilent ? new PageError("closed", "the upload stood still: send it again") : signal?.reason);
    request.onloadend = () => {
      stopWaiting();
      signal?.removeEventListener("abort", abort);
    };
    signal?.addEventListener("abort", abort);
    request.open("POST", address);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.send(body);
    wait();
  });
}

/**
 * @param {Promise<unknown>} promise
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<unknown>} the same, unless the signal ends it first
 */
export function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}

/**
 * Runs what takes a connection to the server for long, one at a time of all tabs, where the browser can tell (not from
 * plain HTTP): it has six, and four streams and two uploads would leave none for posts.
 *
 * @param {() => Promise<unknown>} run
 * @param {AbortSignal | undefined} signal  ends the wait
 * @returns {Promise<unknown>} what comes of it
 */
export function inTurn(run, signal) {
  const locks = globalThis.navigator?.locks;
  return locks ? locks.request("pagews:upload", { ...(signal && { signal }) }, run) : run();
}
