"""What carries a socket over plain HTTP: the body of a response that goes on, or one response as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from aiohttp.abc import AbstractStreamWriter

from .shared_wait import SharedWait
from .text_frames import as_chunk, as_events, as_items, close_message, is_quiet
from .wire import Text

#: Seconds that a browser has to take what is left when its stream is closed.
CLOSE_TIME: Final = 5.0


class Watch(asyncio.Protocol):
    """Stands in front of a connection's own protocol, and tells when the connection is lost.

    aiohttp tells a handler only when it reads or writes, and one that waits does neither.
    """

    __slots__ = ("_lost", "_protocol", "_transport")

    def __init__(self, transport: asyncio.Transport, lost: Callable[[], object]) -> None:
        self._transport = transport
        self._lost = lost
        self._protocol = cast(asyncio.Protocol, transport.get_protocol())
        transport.set_protocol(self)

    def stop(self) -> None:
        """The connection goes back to its own protocol."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)
        self._lost()


class StreamCarrier:
    """Carries a socket's frames as events of a response's body, past aiohttp's own writer: a chunk for each flush.

    Arguments:
        chunked: False for HTTP/1.0, where the end of the connection is the end of the body.
    """

    __slots__ = ("_drained", "_encode", "_transport", "_writer", "over")

    def __init__(self, transport: asyncio.Transport, writer: AbstractStreamWriter, *, chunked: bool) -> None:
        self._transport = transport
        self._writer = writer
        self._encode = as_chunk if chunked else as_events
        self._drained = SharedWait(writer.drain)
        #: Done when nothing will be written any more.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        self._transport.write(self._encode(data))

    def backlog(self) -> int:
        return self._transport.get_write_buffer_size()

    async def drain(self) -> None:
        await self._drained()

    def close(self, code: int, reason: bytes) -> None:
        self.write(Text.encoded(close_message(code, reason)).frame)
        self.end()

    def end(self) -> None:
        """Nothing comes after this: it was closed, or the connection is lost."""
        if not self.over.done():
            self.over.set_result(None)

    async def finish(self) -> None:
        """End the body, behind everything that was written."""
        self._transport.set_write_buffer_limits(0)  # drained is when all of it has left
        try:
            async with asyncio.timeout(CLOSE_TIME):
                await self._writer.write_eof()
        except (TimeoutError, ConnectionError):
            self._transport.abort()


class AnswerCarrier:
    """Collects a socket's frames for one response. What is written behind that is dropped: the log has it."""

    __slots__ = ("_answered", "_items", "_size", "enough", "on_close", "over", "ready")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._items: list[bytes] = []
        self._size = 0
        self._answered = False
        #: Called with the close code and the reason, before the answer or behind it.
        self.on_close: Callable[[int, str], object] | None = None
        #: Done when there is something besides a quiet welcome, or nothing to wait for.
        self.ready: asyncio.Future[None] = loop.create_future()
        #: Done when what there is should be answered, whatever else there may be to wait for.
        self.enough: asyncio.Future[None] = loop.create_future()
        #: Done when the socket is closed, or the connection lost before its answer.
        self.over: asyncio.Future[None] = loop.create_future()

    def write(self, data: bytes) -> None:
        if not self._answered:
            self._add(as_items(data))

    def _add(self, items: list[bytes]) -> None:
        self._items += items
        self._size += sum(map(len, items))
        if not self.ready.done() and not all(map(is_quiet, items)):
            self.ready.set_result(None)

    def backlog(self) -> int:
        return self._size

    async def drain(self) -> None:
        """Wait for the end of the socket once there is an answer: its page reads on in the next one."""
        if self._answered or self.ready.done():
            await asyncio.shield(self.over)

    def close(self, code: int, reason: bytes) -> None:
        if not self._answered:
            self._add([close_message(code, reason)])
        self.end()
        if self.on_close is not None:
            self.on_close(code, reason.decode())

    def end(self) -> None:
        """It was closed, or the connection is lost."""
        for future in (self.ready, self.over):
            if not future.done():
                future.set_result(None)

    def suffice(self) -> None:
        """Wait for no more: the rest comes in another way."""
        if not self.enough.done():
            self.enough.set_result(None)

    def answer(self) -> bytes:
        """What was written so far as a JSON array, for the response."""
        self._answered = True
        body = b"[%b]" % b",".join(self._items)
        self._items, self._size = [], 0
        return body
