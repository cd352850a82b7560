/** The server's question, shown as a dialog; what the visitor chose is the answer. */

import { pagews } from "pagews";
import { attempt, element, tell } from "./dom.js";

const FILES = ["draft-1.txt", "holiday.jpg", "old-plan.pdf"];

export function startAsk() {
  let files = [...FILES];

  const update = () => {
    element("trash-files", HTMLUListElement).replaceChildren(...items(files));
    element("trash-empty", HTMLButtonElement).disabled = files.length === 0;
    element("trash-refill", HTMLButtonElement).disabled = files.length > 0;
  };
  update();

  pagews.on("confirm", askVisitor);

  element("trash-empty", HTMLButtonElement).addEventListener("click", () =>
    attempt("trash-status", async () => {
      tell("trash-status", "The server asks first.");
      const { deleted } = await pagews.send("trash_empty", files);
      files = files.filter((file) => !deleted.includes(file));
      tell("trash-status", deleted.length ? `The server deleted ${deleted.length} files.` : "Nothing was deleted.");
      update();
    }),
  );
  element("trash-refill", HTMLButtonElement).addEventListener("click", () => {
    files = [...FILES];
    update();
  });
}

/**
 * @param {{ text: string, items: string[], seconds: number }} question
 * @returns {Promise<boolean>} what `page.ask` on the server gets
 */
function askVisitor({ text, items: named, seconds }) {
  const dialog = element("confirm", HTMLDialogElement);
  element("confirm-text", HTMLElement).textContent = text;
  element("confirm-items", HTMLUListElement).replaceChildren(...items(named));
  const end = performance.now() + 1000 * seconds;
  const count = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    element("confirm-seconds", HTMLOutputElement).textContent = String(Math.max(0, left));
    if (left <= 0) dialog.close("no");
  };
  count();
  dialog.returnValue = "no";
  dialog.showModal();
  const timer = setInterval(count, 250);
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        clearInterval(timer);
        resolve(dialog.returnValue === "yes");
      },
      { once: true },
    );
  });
}

/**
 * @param {string[]} texts
 * @returns {HTMLLIElement[]}
 */
function items(texts) {
  return texts.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  });
}
