import { overRequests } from "./post.js";
import { fromText } from "./wire.js";

const DATA = "data: ";

/**
 * Frames come down as the lines of one answer that does not end.
 *
 * @param {import("./request.js").Http} http
 */
export function overStream(http) {
  return overRequests(http, "stream", async ({ ask, opened, message }) => {
    const { body } = await ask("stream");
    if (body === null) return;
    opened();
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line.startsWith(DATA)) message(fromText(line.slice(DATA.length)));
    }
  });
}
