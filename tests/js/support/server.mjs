import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";

export const WELCOME = {
  page: "p1",
  epoch: "e1",
  seq: 0,
  resumed: true,
  lost: null,
  forked: false,
  heartbeat: 20,
  token: null,
  limits: { message: 65536 },
};

/** @param {object} fields that differ from a plain welcome */
export function welcome(fields = {}) {
  return ["welcome", { ...WELCOME, ...fields }];
}

/** @param {unknown[]} header @param {number[]} payload @returns {string} a binary frame, in base64 */
export function binary(header, payload) {
  const text = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(4);
  size.writeUInt32BE(text.length);
  return Buffer.concat([size, text, Buffer.from(payload)]).toString("base64");
}

/** One request, answered by hand. */
export class Exchange {
  /**
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:http").ServerResponse} response
   * @param {any} body
   */
  constructor(request, response, body) {
    this.request = request;
    this.response = response;
    this.body = body;
    this.ended = once(response, "close");
  }

  /** @param {unknown} body @param {number} status @param {Record<string, string>} headers */
  reply(body, status = 200, headers = {}) {
    this.response.writeHead(status, { "content-type": "application/json", ...headers });
    this.response.end(JSON.stringify(body));
  }

  /** Begins a stream. */
  open() {
    this.response.writeHead(200, { "content-type": "text/event-stream" });
    this.response.write(`:${" ".repeat(2048)}\n\n`);
  }

  /** @param {unknown[][]} frames */
  say(...frames) {
    this.response.write(frames.map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join(""));
  }

  /** The connection ends without a word. */
  cut() {
    this.response.destroy();
  }

  /** The stream of a page that has been welcomed. @param {object} fields */
  welcome(fields = {}) {
    this.open();
    this.say(welcome(fields));
  }
}

/**
 * A server whose answers are given by hand, over real connections.
 *
 * @param {import("node:test").TestContext} context
 */
export async function serve(context) {
  /** @type {Map<string, {waiting: Exchange[], takers: ((exchange: Exchange) => void)[]}>} */
  const paths = new Map();
  const at = (/** @type {string} */ path) => {
    const found = paths.get(path) ?? { waiting: [], takers: [] };
    paths.set(path, found);
    return found;
  };
  const server = createServer(async (request, response) => {
    assert.equal(request.method, "POST");
    assert.match(String(request.headers["content-type"]), /^application\/json\b/);
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    const exchange = new Exchange(request, response, JSON.parse(Buffer.concat(chunks).toString()));
    const { waiting, takers } = at(String(request.url).replace("/pagews/", ""));
    const taker = takers.shift();
    if (taker) taker(exchange);
    else waiting.push(exchange);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    base: `http://127.0.0.1:${port}/pagews`,
    /** The next request to a path. @param {string} path @returns {Promise<Exchange>} */
    next(path) {
      const { waiting, takers } = at(path);
      const first = waiting.shift();
      return first ? Promise.resolve(first) : new Promise((resolve) => takers.push(resolve));
    },
    /** How many requests to a path nobody has taken. @param {string} path */
    left: (path) => at(path).waiting.length,
  };
}

/** The next event of a type. @param {EventTarget} target @param {string} type @returns {Promise<any>} its detail */
export function told(target, type) {
  return new Promise((resolve) => {
    target.addEventListener(type, (event) => resolve(/** @type {CustomEvent} */ (event).detail), { once: true });
  });
}

/** Waits for a state of a page. @param {import("../../../static/page.js").Page} page @param {string} state */
export async function isIn(page, state) {
  while (page.state !== state) await told(page, "statechange");
}
