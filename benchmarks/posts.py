"""What pages say by requests of their own, beside the connection over which they hear."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from benchmarks.errors import MeasurementFailed
from benchmarks.readers import AnswerReader, Heard

_PACKET = 65536


class Posts:
    """Sends requests one after the other, over a connection that is kept while there are some."""

    def __init__(self, port: int, fail: Callable[[MeasurementFailed], object]) -> None:
        self._port = port
        self._fail = fail
        self._requests: deque[bytes] = deque()
        self._sending: asyncio.Task[None] | None = None

    def add(self, request: bytes) -> None:
        """Send this request, behind those that wait."""
        self._requests.append(request)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    def drop(self) -> None:
        """Forget all that have not been answered."""
        self._requests.clear()
        if self._sending is not None:
            self._sending.cancel()

    async def _send(self) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while self._requests:
                    writer.write(self._requests.popleft())
                    await _answered(reader)
            finally:
                writer.close()
        except OSError as error:
            self._fail(MeasurementFailed(f"a post broke: {error!r}"))
        except MeasurementFailed as failure:
            self._fail(failure)


async def _answered(reader: asyncio.StreamReader) -> None:
    """Read an answer, which says nothing."""
    answer = AnswerReader()
    while True:
        data = await reader.read(_PACKET)
        if not data:
            raise MeasurementFailed("a post was not answered")
        for heard, frame in answer.feed(data):
            if heard is Heard.ANSWERED:
                return
            raise MeasurementFailed(f"unexpected answer {frame[:200]!r} to a post")
