/** Starts the panels that this page holds. */

import { startAsk } from "./ask.js";
import { startChat } from "./chat.js";
import { startClock } from "./clock.js";
import { startEcho } from "./echo.js";
import { startJob } from "./job.js";
import { startNostream } from "./nostream.js";
import { startOutdated } from "./outdated.js";
import { startReconnect } from "./reconnect.js";
import { startState } from "./state.js";
import { startTargets } from "./targets.js";
import { startUpload } from "./upload.js";
import { startWorkers } from "./workers.js";

/** @type {Record<string, () => void>} by the id of an element that only this panel has */
const panels = {
  state: startState,
  "stream-start": startReconnect,
  "job-start": startJob,
  "chat-enter": startChat,
  "clock-time": startClock,
  "trash-empty": startAsk,
  "note-form": startTargets,
  "echo-form": startEcho,
  "upload-form": startUpload,
  "worker-kill": startWorkers,
  connect: startNostream,
  outdated: startOutdated,
};

for (const [id, start] of Object.entries(panels)) {
  if (document.getElementById(id)) start();
}
