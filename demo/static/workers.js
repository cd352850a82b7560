/** The workers panel: who serves this page, and who did before. */

import { pagews } from "pagews";
import { addLine, attempt, element, show } from "./dom.js";

export function startWorkers() {
  const button = element("worker-kill", HTMLButtonElement);
  let pid = 0;
  let asked = 0;
  let killed = 0;

  pagews.on("worker", (/** @type {{ name: string, pid: number }} */ worker) => {
    if (asked === pid && asked) {
      killed += 1;
      show("count-killed", killed);
    }
    asked = 0;
    pid = worker.pid;
    show("worker-name", worker.name);
    addLine("worker-log", `process ${pid}`, { by: worker.name });
    button.disabled = false;
  });

  button.addEventListener("click", () =>
    attempt("worker-status", async () => {
      asked = pid;
      button.disabled = true;
      try {
        // Until the next worker has said its name, there is nobody to kill.
        await pagews.send("worker_kill", { pid });
      } catch (error) {
        button.disabled = false;
        throw error;
      }
    }),
  );
}
