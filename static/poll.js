import { overRequests, pause } from "./post.js";

/**
 * Frames come down in answers, and the next request says that they have come.
 *
 * @param {import("./request.js").Http} http
 */
export function overPoll(http) {
  return overRequests(http, "poll", async ({ ask, opened, take }) => {
    for (let wait = false; ; wait = true) {
      const began = http.clock.now();
      const answer = await ask("poll", { wait });
      const frames = await answer.json();
      opened();
      for (const frame of frames) take(frame);
      // Nothing but the welcome: the server has no room for a request that waits.
      if (wait && frames.length < 2) await pause(http.clock, began);
    }
  });
}
