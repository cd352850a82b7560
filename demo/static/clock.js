/** The server's clock, in the reader's own time zone and manner. */

import { pagews } from "pagews";
import { element, show } from "./dom.js";

export function startClock() {
  const time = element("clock-time", HTMLTimeElement);
  pagews.on("clock", (stamp) => {
    const now = new Date(stamp);
    time.dateTime = stamp;
    time.textContent = now.toLocaleTimeString();
    show("clock-date", now.toLocaleDateString(undefined, { dateStyle: "full" }));
  });
}
