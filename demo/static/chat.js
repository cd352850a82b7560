/** The chat panel: a topic that the page joins once it has a name. */

import { pagews } from "pagews";
import { addLine, attempt, element, show, tell } from "./dom.js";

export function startChat() {
  const enterForm = element("chat-enter", HTMLFormElement);
  const sayForm = element("chat-say", HTMLFormElement);
  const nameInput = element("chat-name", HTMLInputElement);
  const textInput = element("chat-text", HTMLInputElement);

  /** @param {boolean} inside */
  const setInside = (inside) => {
    enterForm.hidden = inside;
    sayForm.hidden = !inside;
    element("chat-here", HTMLElement).hidden = !inside;
    (inside ? textInput : nameInput).focus();
  };

  pagews.on("chat_line", ({ name, text }) => addLine("chat-lines", text, { by: name }));
  pagews.on("chat_people", (names) => show("chat-people", names.join(", ")));

  enterForm.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt("chat-status", async () => {
      await pagews.send("chat_name", { name: nameInput.value });
      await pagews.join("chat");
      const lines = await pagews.send("chat_arrive");
      element("chat-lines", HTMLOListElement).replaceChildren();
      for (const { name, text } of lines) addLine("chat-lines", text, { by: name });
      setInside(true);
      enterForm.reset();
      tell("chat-status", "");
    });
  });
  sayForm.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt("chat-status", async () => {
      await pagews.send("chat_say", { text: textInput.value });
      sayForm.reset();
      tell("chat-status", "");
    });
  });
  element("chat-leave", HTMLButtonElement).addEventListener("click", () =>
    attempt("chat-status", async () => {
      await pagews.leave("chat");
      await pagews.send("chat_leave");
      setInside(false);
      element("chat-lines", HTMLOListElement).replaceChildren();
      tell("chat-status", "You left.");
    }),
  );
}
