/** The job panel: a progress bar and a log that the server writes. */

import { pagews } from "pagews";
import { addLine, attempt, element, show, tell } from "./dom.js";

export function startJob() {
  const startButton = element("job-start", HTMLButtonElement);
  const cancelButton = element("job-cancel", HTMLButtonElement);
  const bar = element("job-progress", HTMLProgressElement);

  /** @param {boolean} running */
  const setRunning = (running) => {
    startButton.disabled = running;
    cancelButton.disabled = !running;
  };

  pagews.on("job_progress", ({ done, of, lines }) => {
    bar.max = of;
    bar.value = done;
    show("job-percent", `${Math.round((100 * done) / of)} %`);
    tell("job-status", `${lines.toLocaleString("en")} lines in ${done} of ${of} packages.`);
  });
  pagews.on("job_end", ({ packages, lines }) => {
    tell("job-status", `Done: ${lines.toLocaleString("en")} lines in ${packages} packages.`);
    setRunning(false);
  });
  readLog();

  startButton.addEventListener("click", () =>
    attempt("job-status", async () => {
      element("job-log", HTMLOListElement).replaceChildren();
      bar.value = 0;
      show("job-percent", "0 %");
      await pagews.send("job_start");
      setRunning(true);
    }),
  );
  cancelButton.addEventListener("click", () =>
    attempt("job-status", async () => {
      await pagews.send("job_cancel");
      setRunning(false);
      tell("job-status", "Cancelled.");
    }),
  );
}

async function readLog() {
  for await (const line of pagews.messages("job_log")) addLine("job-log", line);
}
