"""What a browser of each server says on its WebSocket."""

from __future__ import annotations

import json
import secrets
from abc import ABC, abstractmethod

from benchmarks.errors import MeasurementFailed
from benchmarks.frames import text_frame, upgrade_request
from benchmarks.visits import Visit


class Dialect(ABC):
    """How a page opens its socket, when it is attached, and what it answers."""

    attached_by_upgrade = False

    @abstractmethod
    def opening(self, visit: Visit) -> bytes:
        """The upgrade request."""

    def greeting(self, visit: Visit) -> bytes:
        """What the page says when the upgrade has been answered."""
        return b""

    def completes_attach(self, frame: bytes) -> bool:
        """Whether the page is attached once it has received this frame."""
        return False

    def answer(self, frame: bytes) -> bytes:
        """What the page says to a frame that delivers nothing."""
        raise MeasurementFailed(f"unexpected frame {frame[:200]!r}")

    @abstractmethod
    def echo(self, payload: str) -> bytes:
        """A message that the server answers with the same payload."""


class Plain(Dialect):
    """A WebSocket without a protocol on top."""

    attached_by_upgrade = True

    def opening(self, visit: Visit) -> bytes:
        return upgrade_request(visit.port, "/socket", {"Cookie": visit.cookie, "Origin": visit.origin})

    def echo(self, payload: str) -> bytes:
        return text_frame(payload.encode())


class Pagews(Dialect):
    """Subprotocol ``pagews.v1``."""

    def opening(self, visit: Visit) -> bytes:
        headers = {"Cookie": visit.cookie, "Origin": visit.origin, "Sec-WebSocket-Protocol": "pagews.v1"}
        return upgrade_request(visit.port, "/pagews/socket", headers)

    def greeting(self, visit: Visit) -> bytes:
        hello = {"token": visit.token, "document": secrets.token_hex(16), "attempt": 1, "transport": "websocket"}
        return text_frame(json.dumps(["hello", hello], separators=(",", ":")).encode())

    def completes_attach(self, frame: bytes) -> bool:
        return frame.startswith(b'["welcome",')

    def answer(self, frame: bytes) -> bytes:
        if frame.startswith(b'["ping",'):
            return text_frame(b'["pong"]')
        return super().answer(frame)

    def echo(self, payload: str) -> bytes:
        # An id counts up from 1 within a document, and each page asks for one echo only.
        return text_frame(f'["send",1,1,"echo","{payload}"]'.encode())


class SocketIO(Dialect):
    """Engine.IO 4, opened as a WebSocket at once, with Socket.IO 5 inside."""

    def opening(self, visit: Visit) -> bytes:
        headers = {"Cookie": visit.cookie, "Origin": visit.origin}
        return upgrade_request(visit.port, "/socket.io/?EIO=4&transport=websocket", headers)

    def completes_attach(self, frame: bytes) -> bool:
        return frame.startswith(b"40")

    def answer(self, frame: bytes) -> bytes:
        if frame.startswith(b"0{"):
            return text_frame(b"40")
        if frame == b"2":
            return text_frame(b"3")
        return super().answer(frame)

    def echo(self, payload: str) -> bytes:
        return text_frame(f'420["echo","{payload}"]'.encode())
