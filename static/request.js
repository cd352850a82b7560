/**
 * How requests reach the server's pagews.
 *
 * @typedef {object} Http
 * @property {string} base
 * @property {typeof fetch} fetch
 * @property {import("./clock.js").Clock} clock
 * @property {() => number} limit  bytes that one message may take, by the server's word
 */

/**
 * @param {Http} http
 * @param {string} path
 * @param {string | Blob} body  JSON
 * @param {AbortSignal} signal
 * @returns {Promise<Response>}
 */
export async function request({ base, fetch }, path, body, signal) {
  return fetch(`${base}/${path}`, {
    method: "POST",
    credentials: "same-origin",
    cache: "no-store",
    headers: { "content-type": "application/json" },
    body,
    signal,
  });
}
