/** The pill in the bar: how the page is connected. */

import { pagews } from "pagews";
import { show } from "./dom.js";

const words = {
  idle: "not connected",
  connecting: "connecting",
  open: "connected",
  waiting: "coming back",
  closed: "closed",
};

export function startState() {
  const update = () => {
    const carrier = pagews.state === "open" && pagews.transport ? ` by ${pagews.transport}` : "";
    show("state", words[pagews.state] + carrier);
  };
  pagews.addEventListener("statechange", update);
  update();
}
