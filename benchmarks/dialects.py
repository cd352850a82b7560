"""What a browser of each server says."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

from benchmarks.errors import MeasurementFailed
from benchmarks.frames import text_frame, upgrade_request
from benchmarks.readers import Reader, SocketReader
from benchmarks.visits import Document


class Dialect(ABC):
    """How a page opens its socket, when it is attached, and what it answers."""

    attached_by_upgrade = False
    answers_apart = False
    """What the page answers is a request, and goes over another connection."""
    asks_again = False
    """Each answer of the server is one response, behind which the page sends the next request."""

    @abstractmethod
    def opening(self, document: Document) -> bytes:
        """The request that opens the page's connection."""

    def reader(self) -> Reader:
        """Reads one connection of a page."""
        return SocketReader()

    def greeting(self, document: Document) -> bytes:
        """What the page says when the upgrade has been answered."""
        return b""

    def next_request(self, document: Document, last_delivery: bytes) -> bytes:
        """What the page asks when it has been answered, and this message was the last."""
        raise MeasurementFailed("a page of this server asks once")

    def completes_attach(self, frame: bytes, document: Document) -> bool:
        """Whether the page is attached once it has received this frame."""
        return False

    def acknowledgement(self, frame: bytes) -> bytes:
        """What the page says to a message once its delegate has run; empty when nobody asked."""
        return b""

    def is_confirmation(self, frame: bytes) -> bool:
        """Whether this frame says that an acknowledgement has been filed."""
        return False

    def left(self, document: Document, last_delivery: bytes) -> None:  # noqa: B027 - most remember nothing
        """The socket of this document was cut after this message: what it has to remember to come back."""

    def answer(self, frame: bytes, document: Document) -> bytes:
        """What the page says to a frame that delivers nothing."""
        raise MeasurementFailed(f"unexpected frame {frame[:200]!r}")

    @abstractmethod
    def echo(self, payload: str, number: int, qos: int) -> bytes:
        """A message that the server answers with the same payload; the page's `number`-th, from 1."""


class Plain(Dialect):
    """A WebSocket without a protocol on top."""

    attached_by_upgrade = True

    def opening(self, document: Document) -> bytes:
        visit = document.visit
        return upgrade_request(visit.port, "/socket", {"Cookie": visit.cookie, "Origin": visit.origin})

    def echo(self, payload: str, number: int, qos: int) -> bytes:
        return text_frame(payload.encode())


class Pagews(Dialect):
    """Subprotocol ``pagews.v1``."""

    transport = "websocket"

    def opening(self, document: Document) -> bytes:
        visit = document.visit
        headers = {"Cookie": visit.cookie, "Origin": visit.origin, "Sec-WebSocket-Protocol": "pagews.v1"}
        return upgrade_request(visit.port, "/pagews/socket", headers)

    def greeting(self, document: Document) -> bytes:
        return text_frame(self.hello(document))

    def hello(self, document: Document, **fields: object) -> bytes:
        """Who the page is, and what it has read."""
        hello: dict[str, object] = {
            "token": document.visit.token,
            "document": document.id,
            "attempt": document.attempt,
            "transport": self.transport,
            **fields,
        }
        if document.epoch is not None:
            hello |= {"epoch": document.epoch, "seq": document.seq}
        return json.dumps(["hello", hello], separators=(",", ":")).encode()

    def completes_attach(self, frame: bytes, document: Document) -> bool:
        if not frame.startswith(b'["welcome",'):
            return False
        welcome = json.loads(frame)[1]
        if not welcome["resumed"] or welcome["forked"]:
            raise MeasurementFailed(f"the page was not taken back: {frame!r}")
        document.epoch = welcome["epoch"]
        return True

    def acknowledgement(self, frame: bytes) -> bytes:
        # A push without a receipt ends with its data, which is text.
        if frame.endswith(b'"]'):
            return b""
        return text_frame(b'["ack",%b,true,null]' % frame[frame.rindex(b",") + 1 : -1])

    def is_confirmation(self, frame: bytes) -> bool:
        return frame.startswith(b'["acked",')

    def left(self, document: Document, last_delivery: bytes) -> None:
        document.attempt += 1
        document.seq = json.loads(last_delivery)[1] if last_delivery else 0

    def answer(self, frame: bytes, document: Document) -> bytes:
        if frame.startswith(b'["ping",'):
            return text_frame(b'["pong"]')
        return super().answer(frame, document)

    def echo(self, payload: str, number: int, qos: int) -> bytes:
        return text_frame(f'["send",{number},{qos},"echo","{payload}"]'.encode())


class SocketIO(Dialect):
    """Engine.IO 4, opened as a WebSocket at once, with Socket.IO 5 inside."""

    def opening(self, document: Document) -> bytes:
        visit = document.visit
        headers = {"Cookie": visit.cookie, "Origin": visit.origin}
        return upgrade_request(visit.port, "/socket.io/?EIO=4&transport=websocket", headers)

    def completes_attach(self, frame: bytes, document: Document) -> bool:
        return frame.startswith(b"40")

    def answer(self, frame: bytes, document: Document) -> bytes:
        if frame.startswith(b"0{"):
            return text_frame(b"40")
        if frame == b"2":
            return text_frame(b"3")
        return super().answer(frame, document)

    def echo(self, payload: str, number: int, qos: int) -> bytes:
        return text_frame(f'420["echo","{payload}"]'.encode())
