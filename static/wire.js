/**
 * The wire protocol as pure functions: what the server says is decoded strictly, what the page says is encoded.
 *
 * @typedef {object} Welcome
 * @property {"welcome"} kind
 * @property {string} page
 * @property {string} epoch
 * @property {number} seq
 * @property {boolean} resumed
 * @property {null | "epoch" | "expired" | "trimmed"} lost
 * @property {boolean} forked
 * @property {number} heartbeat  seconds
 * @property {string | null} token
 * @property {{message: number}} limits  bytes
 *
 * @typedef {object} Push
 * @property {"push"} kind
 * @property {number} seq  0: unnumbered
 * @property {string} to
 * @property {string} delegate
 * @property {unknown} data  a JSON value, or a Uint8Array
 * @property {number | null} receipt
 *
 * @typedef {{kind: "result", id: number, ok: true, value: unknown}} Succeeded
 * @typedef {{kind: "result", id: number, ok: false, code: string, message: string}} Failed
 * @typedef {{kind: "close", code: number, reason: string}} Close
 * @typedef {{kind: "ping", seq: number}} Ping
 * @typedef {{kind: "acked", receipt: number}} Acked
 * @typedef {{kind: "token", token: string}} Token
 * @typedef {Welcome | Push | Ping | Acked | Succeeded | Failed | Token | Close} Frame
 *
 * @typedef {object} HelloFields
 * @property {string} token
 * @property {string} document
 * @property {number} attempt
 * @property {string} [epoch]
 * @property {number} [seq]
 * @property {import("./carrier.js").Transport} transport
 * @property {boolean} [wait]  of a poll: whether its answer may wait until there is something
 */

export const SUBPROTOCOL = "pagews.v1";

/** The server sent what the protocol does not allow. */
export class MalformedFrame extends Error {
  /** @param {string} what */
  constructor(what) {
    super(`malformed frame: ${what}`);
    this.name = "MalformedFrame";
  }
}

// --- server to page

/**
 * @param {unknown} message  a text message, or the ArrayBuffer of a binary one
 * @returns {Frame}
 * @throws {MalformedFrame}
 */
export function decode(message) {
  let items;
  let payload = null;
  try {
    if (typeof message === "string") items = JSON.parse(message);
    else [items, payload] = split(/** @type {ArrayBuffer} */ (message));
  } catch {
    throw new MalformedFrame("neither JSON nor bytes behind a header of JSON");
  }
  if (!Array.isArray(items)) throw new MalformedFrame("no array");
  return read(items, payload);
}

/**
 * @param {ArrayBuffer} message
 * @returns {[unknown, Uint8Array]} the header, and the bytes behind it
 * @throws {Error} of any kind: it is too short, or its header is no UTF-8 or no JSON
 */
function split(message) {
  const size = new DataView(message).getUint32(0);
  const header = new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(message, 4, size));
  return [JSON.parse(header), new Uint8Array(message, 4 + size)];
}

/** @typedef {(value: any) => boolean} Check */

/** @type {Check} */
const number = (value) => Number.isSafeInteger(value) && value >= 0;
/** @type {Check} */
const id = (value) => number(value) && value > 0;
/** @type {Check} */
const string = (value) => typeof value === "string";
/** @type {Check} */
const text = (value) => string(value) && value !== "";
/** @type {Check} */
const boolean = (value) => typeof value === "boolean";
/** @type {Check} */
const anything = () => true;

/**
 * The items of each frame after its kind, in order. What is more is ignored.
 *
 * @type {Readonly<Record<string, Readonly<Record<string, Check>>>>}
 */
const SHAPES = {
  welcome: { said: isObject },
  push: { seq: number, to: isAddressee, delegate: text, data: anything },
  ping: { seq: number },
  acked: { receipt: id },
  result: { id, ok: boolean, value: anything },
  token: { token: text },
  close: { code: (code) => number(code) && code >= 1000, reason: string },
};

/** @type {Readonly<Record<string, Check>>} */
const WELCOME = {
  page: text,
  epoch: text,
  seq: number,
  resumed: boolean,
  lost: (reason) => [null, "epoch", "expired", "trimmed"].includes(reason),
  forked: boolean,
  heartbeat: (seconds) => Number.isFinite(seconds) && seconds > 0,
  token: (token) => token === null || text(token),
  limits: (limits) => isObject(limits) && id(limits.message),
};

/**
 * @param {any[]} items
 * @param {Uint8Array | null} payload
 * @returns {Frame}
 */
function read(items, payload) {
  const kind = string(items[0]) ? items[0] : "";
  const shape = Object.hasOwn(SHAPES, kind) ? SHAPES[kind] : undefined;
  if (shape === undefined) throw new MalformedFrame("unknown kind");
  const names = Object.keys(shape);
  if (items.length <= names.length) throw new MalformedFrame(`${kind} with too few items`);
  /** @type {any} */
  const frame = checked(shape, Object.fromEntries(names.map((name, index) => [name, items[index + 1]])));
  if (payload !== null) {
    const place = kind === "push" ? "data" : frame.ok === true ? "value" : "";
    if (frame[place] !== null) throw new MalformedFrame(`${kind} with a payload out of place`);
    frame[place] = payload;
  }
  if (kind === "welcome") return { kind, ...checked(WELCOME, frame.said) };
  if (kind === "push") {
    frame.receipt = items[5] === undefined ? null : checked({ receipt: id }, { receipt: items[5] }).receipt;
  } else if (frame.ok === false) {
    if (!isObject(frame.value)) throw new MalformedFrame("error");
    Object.assign(frame, checked({ code: text, message: string }, frame.value));
  }
  return { kind, ...frame };
}

/**
 * The fields that `shape` names, each found good.
 *
 * @param {Readonly<Record<string, Check>>} shape
 * @param {any} fields
 * @returns {any}
 */
function checked(shape, fields) {
  return Object.fromEntries(
    Object.entries(shape).map(([name, isGood]) => {
      if (!isGood(fields[name])) throw new MalformedFrame(name);
      return [name, fields[name]];
    }),
  );
}

/** @param {any} to */
function isAddressee(to) {
  return string(to) && /^(?:page|session|user|topic:.+)$/s.test(to);
}

/**
 * @param {any} value
 * @returns {boolean}
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// --- page to server

/** @typedef {string | Uint8Array<ArrayBuffer>} Encoded  a text message, or a binary one */

export const PONG = '["pong"]';
export const BYE = '["bye"]';

/** @param {HelloFields} fields */
export function hello(fields) {
  return JSON.stringify(["hello", fields]);
}

/**
 * @param {number} id
 * @param {0 | 1 | 2} qos
 * @param {string} delegate
 * @param {unknown} data
 * @throws {TypeError} the data has no JSON form
 */
export function send(id, qos, delegate, data) {
  return withData(`["send",${id},${qos},${JSON.stringify(delegate)},`, data);
}

/**
 * @param {number} receipt
 * @param {unknown} value
 * @throws {TypeError} the value has no JSON form
 */
export function answered(receipt, value) {
  return withData(`["ack",${receipt},true,`, value);
}

const LONGEST_MESSAGE = 1000;

/**
 * @param {number} receipt
 * @param {string} code
 * @param {string} message  cut at 1,000 characters
 */
export function failed(receipt, code, message) {
  const whole = message.slice(0, LONGEST_MESSAGE).replace(/\p{Surrogate}/gu, "\ufffd");
  return JSON.stringify(["ack", receipt, false, { code, message: whole }]);
}

/**
 * @param {"join" | "leave"} kind
 * @param {number} id
 * @param {string} topic
 */
export function membership(kind, id, topic) {
  return JSON.stringify([kind, id, topic]);
}

/**
 * @param {string} head
 * @param {unknown} data
 * @returns {Encoded}
 */
function withData(head, data) {
  if (!(data instanceof ArrayBuffer || ArrayBuffer.isView(data))) return `${head}${json(data)}]`;
  const { buffer, byteOffset, byteLength } = ArrayBuffer.isView(data) ? data : new Uint8Array(data);
  const payload = new Uint8Array(buffer, byteOffset, byteLength);
  const header = new TextEncoder().encode(`${head}null]`);
  const message = new Uint8Array(4 + header.length + payload.length);
  new DataView(message.buffer).setUint32(0, header.length);
  message.set(header, 4);
  message.set(payload, 4 + header.length);
  return message;
}

/**
 * @param {unknown} data
 * @returns {string}
 */
function json(data) {
  let encoded;
  try {
    encoded = JSON.stringify(data ?? null);
  } catch (error) {
    throw new TypeError(`this cannot be sent as JSON: ${error instanceof Error ? error.message : error}`);
  }
  if (encoded === undefined) throw new TypeError(`a ${typeof data} cannot be sent as JSON`);
  if (encoded.includes("{}")) JSON.stringify(data, refuseHollow);
  // A lone surrogate is no Unicode text: a server refuses the whole frame. JSON.stringify writes it as an escape.
  if (encoded.includes("\\ud") && /(?:^|[^\\])(?:\\\\)*\\ud[89a-f]/.test(encoded)) {
    throw new TypeError("text with half a surrogate pair cannot be sent");
  }
  return encoded;
}

/** What to send instead of an object that keeps what it has where JSON does not look. */
const INSTEAD = new Map(
  Object.entries({
    FormData: "Object.fromEntries(it)",
    URLSearchParams: "Object.fromEntries(it)",
    Headers: "Object.fromEntries(it)",
    Map: "Object.fromEntries(it)",
    Set: "[...it]",
    Blob: "await it.arrayBuffer(), on its own,",
    File: "await it.arrayBuffer(), on its own,",
    Promise: "what it resolves with",
    Error: "its message",
  }),
);

/**
 * A replacer that changes nothing, and lets nothing pass that JSON would turn into `{}` though it is no plain object.
 *
 * @param {string} _key
 * @param {unknown} value
 * @throws {TypeError}
 */
function refuseHollow(_key, value) {
  if (typeof value !== "object" || value === null || Array.isArray(value) || Object.keys(value).length > 0) return value;
  const prototype = Object.getPrototypeOf(value);
  // Not compared with Object.prototype: each frame of a window has its own.
  if (prototype === null || Object.getPrototypeOf(prototype) === null) return value;
  if (JSON.stringify(value) !== "{}") return value;
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  const kind = tag === "Object" ? prototype.constructor.name : tag;
  throw new TypeError(`a ${kind} would be sent as {}: send ${INSTEAD.get(kind) ?? "a plain object"} instead`);
}

// --- on carriers that are text only

/**
 * @param {Encoded} message
 * @returns {string} as it is in a JSON array
 */
export function toText(message) {
  if (typeof message === "string") return message;
  let bytes = "";
  for (const byte of message) bytes += String.fromCharCode(byte);
  return `"${btoa(bytes)}"`;
}

/**
 * @param {string} text
 * @returns {unknown} a message; one that `decode` refuses when it is none
 */
export function fromText(text) {
  try {
    return text.startsWith("[") ? text : Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0)).buffer;
  } catch {
    return text;
  }
}

// --- of both

/**
 * Checks the name of a delegate or topic.
 *
 * @param {string} what
 * @param {unknown} name
 * @throws {TypeError} unless it is 1 to 200 printable characters
 */
export function checkName(what, name) {
  if (typeof name !== "string" || !/^(?:[^\p{C}\p{Z}]| ){1,200}$/u.test(name)) {
    throw new TypeError(`${what} must be 1 to 200 printable characters`);
  }
}

/**
 * Bytes that a message takes.
 *
 * @param {unknown} message
 */
export function sizeOf(message) {
  if (typeof message === "string") return new TextEncoder().encode(message).length;
  return message instanceof ArrayBuffer || ArrayBuffer.isView(message) ? message.byteLength : 0;
}
