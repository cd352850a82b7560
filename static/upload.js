import { PageError } from "./errors.js";
import { OWN } from "./fields.js";

/**
 * @typedef {object} UploadOptions
 * @property {(loaded: number, total: number) => void} [progress]  bytes that have left, and bytes in all
 * @property {AbortSignal} [signal]  ends it
 */

/**
 * Posts files to a delegate. Not by `fetch`, which does not tell how far it is.
 *
 * @param {string} address
 * @param {{token: string, delegate: string, document?: string, id?: string}} own  what the server has to know
 * @param {FormData} fields
 * @param {UploadOptions} [options]
 * @returns {Promise<unknown>} what the delegate returned
 */
export function upload(address, own, fields, { progress, signal } = {}) {
  const body = new FormData();
  // First, as the server takes no file before it knows whose it is.
  for (const [name, value] of Object.entries(own)) body.append(OWN + name, value);
  for (const [name, value] of fields) if (!name.startsWith(OWN)) body.append(name, value);
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    let left = false;
    request.upload.onprogress = ({ loaded, total }) => progress?.(loaded, total);
    request.upload.onload = () => (left = true);
    request.onload = () => {
      const { status, response } = request;
      if (response?.ok) resolve(response.value);
      else if (response) reject(new PageError(response.code, response.message));
      else reject(new PageError(status === 413 ? "toolarge" : "refused", `the server answered ${status}`));
    };
    // What has left as a whole may have reached the delegate.
    request.onerror = () => reject(new PageError(left ? "outcome-unknown" : "closed", "the upload broke off"));
    request.onabort = () => reject(signal?.reason);
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    request.open("POST", address);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.send(body);
  });
}
