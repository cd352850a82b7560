"""What stands between a browser and its site: proxies that let some transports pass, and others not."""

from __future__ import annotations

from typing import Final

from tests.faults import FaultProxy, Link
from tests.wire_client import Transport

#: What asks for each transport.
REQUESTS: Final[dict[Transport, str]] = {
    "websocket": "GET /pagews/socket",
    "stream": "POST /pagews/stream",
    "poll": "POST /pagews/poll",
}

_PATHS: Final[dict[str, Transport]] = {request.split()[1]: transport for transport, request in REQUESTS.items()}

#: What a proxy says that knows nothing of what was asked for.
REFUSAL: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Wall:
    """Answers what asks for a transport that it does not let pass.

    Attributes:
        closed: the transports that do not pass.
        asked: the transports that were asked for, oldest first.
        hold: bytes of a stream that are collected before any is handed on.
    """

    def __init__(self, proxy: FaultProxy, *closed: Transport, hold: int = 0) -> None:
        self.closed = set(closed)
        self.asked: list[Transport] = []
        self.hold = hold
        self._proxy = proxy
        proxy.on_request = self._request

    def leave_open(self, transport: Transport) -> None:
        """Let one transport pass, no other, and cut what is open."""
        self.closed = set(_PATHS.values()) - {transport}
        self._proxy.cut()

    def _request(self, link: Link, path: str) -> None:
        transport = _PATHS.get(path)
        if transport is None:
            return
        self.asked.append(transport)
        if transport in self.closed:
            link.answer(REFUSAL)
        elif transport == "stream":
            link.down.hold = self.hold
