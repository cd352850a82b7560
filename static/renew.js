import { delayOf } from "./codes.js";
import { request } from "./request.js";

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
 * @param {import("./request.js").Http} http
 * @param {{token: string | null, before: string | null}} page  without a token it has none yet, and takes that of the
 *   identity that the browser has now, in place of the one before
 * @returns {Promise<Renewal>}
 */
export async function renew(http, { token, before }) {
  const asked = token === null && before !== null ? { token: before, adopt: true } : { token };
  const abort = new AbortController();
  const cancel = http.clock.after(PATIENCE, () => abort.abort());
  try {
    const response = await request(http, "renew", JSON.stringify(asked), abort.signal);
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
