"""Cuts what a server sends over one connection into what a page hears."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import Enum, auto

import msgspec
from msgspec import Raw

from benchmarks.errors import MeasurementFailed
from benchmarks.frames import CLOSE, TEXT, FrameReader

_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_items = msgspec.json.Decoder(list[Raw])


class Heard(Enum):
    """What came."""

    OPEN = auto()
    """The server has accepted the connection: the page may speak on it."""
    MESSAGE = auto()
    """A message, with its text."""
    CLOSE = auto()
    """The server ends it."""
    ANSWERED = auto()
    """All messages of one answer were heard, and there are no more before the page asks again."""


class Reader(ABC):
    """Reads one connection, wherever the packets end."""

    @abstractmethod
    def feed(self, data: bytes) -> Iterator[tuple[Heard, bytes]]:
        """All that is complete now."""


class HeadReader(Reader):
    """Reads the head of a response, of which the rest of the connection is the body."""

    __slots__ = ("_head", "_status")

    def __init__(self, status: bytes) -> None:
        self._status = status
        self._head: bytes | None = b""

    def feed(self, data: bytes) -> Iterator[tuple[Heard, bytes]]:
        if self._head is not None:
            head, separator, data = (self._head + data).partition(b"\r\n\r\n")
            if not separator:
                self._head = head
                return
            check_status(head, self._status)
            self._head = None
            yield Heard.OPEN, b""
        yield from self._feed_body(data)

    @abstractmethod
    def _feed_body(self, data: bytes) -> Iterator[tuple[Heard, bytes]]:
        """What comes behind the head."""


class SocketReader(HeadReader):
    """Reads a WebSocket."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        super().__init__(b"101")
        self._frames = FrameReader()

    def _feed_body(self, data: bytes) -> Iterator[tuple[Heard, bytes]]:
        for opcode, frame in self._frames.feed(data):
            if opcode == TEXT:
                yield Heard.MESSAGE, frame
            elif opcode == CLOSE:
                yield Heard.CLOSE, frame


class StreamReader(HeadReader):
    """Reads a response whose body is chunked (RFC 9112 section 7.1), and goes on with an event for each message."""

    __slots__ = ("_chunks", "_events")

    def __init__(self) -> None:
        super().__init__(b"200")
        self._chunks = b""
        self._events = b""

    def _feed_body(self, data: bytes) -> Iterator[tuple[Heard, bytes]]:
        chunks = self._chunks + data
        position = 0
        while (line_end := chunks.find(b"\r\n", position)) >= 0:
            size = int(chunks[position:line_end], 16)
            start = line_end + 2
            if start + size + 2 > len(chunks):
                break
            if not size:
                yield Heard.CLOSE, b"the body has ended"
            *events, self._events = (self._events + chunks[start : start + size]).split(b"\n\n")
            for event in events:
                if event.startswith(b"data: "):
                    yield Heard.MESSAGE, event[len(b"data: ") :]
            position = start + size + 2
        self._chunks = chunks[position:]


class AnswerReader(Reader):
    """Reads responses over a kept connection, each a JSON array of messages."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[Heard, bytes]]:
        self._rest += data
        head, separator, body = self._rest.partition(b"\r\n\r\n")
        if not separator:
            return
        check_status(head, b"200")
        length = _LENGTH.search(head)
        if length is None:
            raise MeasurementFailed(f"an answer of unknown length: {head!r}")
        if len(body) < int(length[1]):
            return
        self._rest = b""
        for item in _items.decode(body):
            yield Heard.MESSAGE, bytes(item)
        yield Heard.ANSWERED, b""


def check_status(head: bytes, status: bytes) -> None:
    """Raises MeasurementFailed when a response has another status."""
    if not head.startswith(b"HTTP/1.1 %b " % status):
        raise MeasurementFailed(f"refused: {head!r}")
