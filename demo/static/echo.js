/** The echo panel: a plain WebSocket, without the client. */

import { addLine, element, tell } from "./dom.js";

export function startEcho() {
  const closeButton = element("echo-close", HTMLButtonElement);
  const input = element("echo-text", HTMLInputElement);
  /** @type {WebSocket | null} */
  let socket = null;

  const open = () => {
    const address = new URL("/socket/custom", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const opened = new WebSocket(address);
    opened.addEventListener("open", () => {
      closeButton.disabled = false;
      tell("echo-status", "Connected.");
    });
    opened.addEventListener("message", ({ data }) => addLine("echo-log", data, { by: "server" }));
    opened.addEventListener("close", ({ code }) => {
      closeButton.disabled = true;
      tell("echo-status", `Closed with code ${code}.`);
    });
    return opened;
  };

  element("echo-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value;
    if (!socket || socket.readyState > WebSocket.OPEN) socket = open();
    const target = socket;
    const send = () => {
      addLine("echo-log", text, { by: "you" });
      target.send(text);
    };
    if (target.readyState === WebSocket.OPEN) send();
    else target.addEventListener("open", send, { once: true });
  });
  closeButton.addEventListener("click", () => socket?.close(1000));
}
