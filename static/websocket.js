import { SUBPROTOCOL } from "./wire.js";

/**
 * What carries the frames of one connection, and nothing else. Events never come before the function that opened the
 * carrier has returned; `closed` comes last, once.
 *
 * @typedef {object} Carrier
 * @property {"websocket"} transport
 * @property {number} unsent  bytes that were sent and have not left yet
 * @property {(frame: import("./wire.js").Encoded) => void} send
 * @property {(code: number, reason: string) => void} close
 *
 * @typedef {object} CarrierEvents
 * @property {() => void} opened
 * @property {(message: unknown) => void} message  a string or an ArrayBuffer
 * @property {(code: number, reason: string) => void} closed
 *
 * @typedef {(events: CarrierEvents) => Carrier} OpenCarrier
 */

const OPEN = 1;

/**
 * @param {typeof WebSocket} Socket
 * @param {string} url
 * @returns {OpenCarrier}
 */
export function overWebSocket(Socket, url) {
  return (events) => {
    const socket = new Socket(url, SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => events.opened();
    socket.onmessage = ({ data }) => events.message(data);
    socket.onclose = ({ code, reason }) => events.closed(code, reason);
    return {
      transport: "websocket",
      get unsent() {
        return socket.bufferedAmount;
      },
      send: (frame) => {
        // On a socket that is closing it would be lost anyway, and the browser would complain on the console.
        if (socket.readyState === OPEN) socket.send(frame);
      },
      close: (code, reason) => socket.close(code, reason),
    };
  };
}
