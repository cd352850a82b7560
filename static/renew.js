import { delayOf } from "./codes.js";

/**
 * @typedef {{token: string}} Renewed  a fresh token
 * @typedef {{refused: {code: number | null, reason: string}}} Refused  an answer, and it is no
 * @typedef {{after: number}} NoAnswer  no answer: ask again after so many seconds, by the server's own word
 * @typedef {Renewed | Refused | NoAnswer} Renewal
 */

const PATIENCE = 10_000;

/**
 * Asks the server for a fresh token, or why it refuses the page.
 *
 * @param {typeof fetch} fetch
 * @param {string} url
 * @param {string | null} token  null: the page has none yet
 * @param {import("./clock.js").Clock} clock
 * @returns {Promise<Renewal>}
 */
export async function renew(fetch, url, token, clock) {
  const abort = new AbortController();
  const cancel = clock.after(PATIENCE, () => abort.abort());
  try {
    const response = await fetch(url, {
      method: "POST",
      credentials: "same-origin",
      cache: "no-store",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token }),
      signal: abort.signal,
    });
    if (response.status >= 500 || response.status === 429) {
      return { after: delayOf(response.headers.get("retry-after")) };
    }
    if (response.ok) {
      const { token: fresh } = await response.json();
      return typeof fresh === "string" && fresh !== "" ? { token: fresh } : { after: 0 };
    }
    const { code, reason } = await response.json().catch(() => ({}));
    return {
      refused: {
        code: Number.isSafeInteger(code) ? code : null,
        reason: typeof reason === "string" ? reason : `status ${response.status}`,
      },
    };
  } catch {
    return { after: 0 };
  } finally {
    cancel();
  }
}
