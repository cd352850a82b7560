/** The reconnect panel: counts the numbers of a stream while its socket is cut. */

import { pagews } from "pagews";
import { Arrivals } from "./arrivals.js";
import { attempt, element, show, tell } from "./dom.js";
import { Tally } from "./tally.js";

function showLink() {
  show("stream-state", pagews.state);
  show("stream-transport", pagews.transport ?? "none");
}

export function startReconnect() {
  const startButton = element("stream-start", HTMLButtonElement);
  const stopButton = element("stream-stop", HTMLButtonElement);
  const arrivals = new Arrivals(element("arrivals", HTMLCanvasElement), () => pagews.state === "open");
  let tally = new Tally(0);
  let cuts = 0;
  let wasOpen = pagews.state === "open";
  let lostAt = 0;

  const update = () => {
    show("count-sent", tally.sent);
    show("count-received", tally.received);
    show("count-missing", tally.missing);
    show("count-repeated", tally.repeated);
    element("missing", HTMLElement).dataset.alarm = tally.missing ? "1" : "0";
    element("repeated", HTMLElement).dataset.alarm = tally.repeated ? "1" : "0";
  };

  /** @param {string} text */
  const finish = (text) => {
    arrivals.stop();
    stopButton.disabled = true;
    startButton.textContent = "Start again";
    tell("stream-status", text);
    update();
  };

  pagews.on("number", (data) => {
    if (data.run !== tally.run) return;
    tally.receive(data.number);
    arrivals.receive();
    update();
  });
  pagews.on("sent", (data) => {
    if (data.run !== tally.run) return;
    tally.report(data.sent);
    update();
  });
  pagews.on("stream_end", (data) => {
    if (data.run !== tally.run) return;
    tally.end(data.sent);
    const complete = tally.missing === 0 && tally.repeated === 0;
    finish(complete ? `All ${data.sent} numbers came, each once.` : "The stream has ended, and not all is well.");
  });

  pagews.addEventListener("statechange", () => {
    showLink();
    const isOpen = pagews.state === "open";
    if (wasOpen && !isOpen) {
      lostAt = performance.now();
      cuts += 1;
      show("count-cuts", cuts);
      show("last-gap", "going on");
      arrivals.lose();
    } else if (!wasOpen && isOpen && lostAt) {
      show("last-gap", `${((performance.now() - lostAt) / 1000).toFixed(2)} s`);
    }
    wasOpen = isOpen;
  });

  showLink();

  startButton.addEventListener("click", () => {
    tally = new Tally(tally.run + 1);
    arrivals.start();
    update();
    attempt("stream-status", async () => {
      const { rate, total } = await pagews.send("stream_start", { run: tally.run });
      stopButton.disabled = false;
      startButton.textContent = "Start again";
      tell("stream-status", `${total} numbers, ${rate} a second. Now cut the socket.`);
    });
  });
  stopButton.addEventListener("click", () =>
    attempt("stream-status", async () => {
      await pagews.send("stream_stop");
      finish("Stopped.");
    }),
  );

  element("cut-browser", HTMLButtonElement).addEventListener("click", () => pagews.reconnect());
  element("cut-server", HTMLElement).addEventListener("click", ({ target }) => {
    if (!(target instanceof HTMLButtonElement)) return;
    const seconds = Number(target.value);
    // At most once: the socket is gone before an answer could come, and a repeat would cut it again.
    attempt("stream-status", () => pagews.send("cut", { seconds }, { qos: 0 }));
  });
}
