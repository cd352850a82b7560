import { SUBPROTOCOL } from "./wire.js";

const OPEN = 1;

/**
 * @param {typeof WebSocket} Socket
 * @param {string} base  where the server's pagews is
 * @returns {import("./carrier.js").OpenCarrier}
 */
export function overWebSocket(Socket, base) {
  const url = new URL(`${base}/socket`);
  url.protocol = url.protocol.replace("http", "ws");
  return (events, hello) => {
    const socket = new Socket(url.href, SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      socket.send(hello({ transport: "websocket" }));
      events.opened();
    };
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
