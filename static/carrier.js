/**
 * What carries the frames of one connection, and nothing else. It says hello as soon as it can. Events never come
 * before the function that opened the carrier has returned; `closed` comes last, once, unless the page closed it.
 *
 * @typedef {"websocket" | "stream" | "poll"} Transport
 *
 * @typedef {object} Carrier
 * @property {Transport} transport
 * @property {number} unsent  bytes that were sent and have not left yet
 * @property {(frame: import("./wire.js").Encoded) => void} send
 * @property {(code: number, reason: string) => void} close
 *
 * @typedef {object} CarrierEvents
 * @property {() => void} opened  the server has accepted it
 * @property {(message: unknown) => void} message  a string or an ArrayBuffer
 * @property {() => void} answered  all that was sent up has been taken: what has no result yet may be asked for again
 * @property {(code: number, reason: string) => void} closed
 *
 * @typedef {(fields: {transport: Transport, wait?: boolean}) => string} Hello  the first frame of the next attempt
 * @typedef {(events: CarrierEvents, hello: Hello) => Carrier} OpenCarrier
 */
export {};
