"""A process that is asked to stop under load, and the one that comes after it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from pagews.tokens import new_key
from tests.processes import serving_process
from tests.served import LIMITS
from tests.wire_client import SocketClosed, Visitor, Wire, new_document

ROOT: Final = Path(__file__).resolve().parent.parent

PAGES: Final = 1000
#: Pages that connect at once.
AT_ONCE: Final = 50
#: Seconds between two pushes to all pages.
INTERVAL: Final = 0.25


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Left(NamedTuple):
    """How a page was sent away. `at`, `retry`: when, and after how many seconds it is to come back."""

    numbers: list[int]
    code: int
    at: float
    retry: float


class OpenPage:
    """A page, as its server sends it away, and as it comes back."""

    def __init__(self, visitor: Visitor, token: str, door: asyncio.Semaphore) -> None:
        self._visitor = visitor
        #: How many may connect at once: this process stands for a thousand browsers, and may be slow.
        self._door = door
        self._token = token
        self._document = new_document()
        self._wire: Wire
        #: The first push has come.
        self.reads = asyncio.Event()

    async def attach(self) -> None:
        async with self._door:
            self._wire = await self._visitor.attach(self._token, document=self._document)

    async def read(self) -> Left:
        """Read until the server closes."""
        numbers: list[int] = []
        while True:
            try:
                async with asyncio.timeout(60):
                    message = await self._wire.next()
            except SocketClosed as end:
                said, _, retry = end.reason.rpartition("; retry=")
                assert said
                return Left(numbers, end.code, time.monotonic(), float(retry))
            numbers.append(json.loads(message)[4])
            self.reads.set()

    async def come_back(self, left: Left) -> dict[str, object]:
        """Return when it is time to; what it is told then."""
        await asyncio.sleep(max(0, left.at + left.retry - time.monotonic()))
        cursor = {"epoch": self._wire.welcome["epoch"], "seq": self._wire.welcome["seq"]}
        async with self._door:
            again = await self._visitor.attach(self._token, document=self._document, attempt=2, **cursor)
        return again.welcome


def share(values: list[float], first: float, last: float) -> float:
    """Which part of the values lies in a range."""
    return sum(first <= value <= last for value in values) / len(values)


async def test_fault_10_a_restart_under_load_moves_a_thousand_pages_in_groups() -> None:
    key, port, window = new_key(), free_port(), LIMITS.drain_window
    async with (
        serving_process("tests.served", port, key, INTERVAL) as old,
        Visitor(f"http://127.0.0.1:{port}") as visitor,
    ):
        door = asyncio.Semaphore(AT_ONCE)
        pages = [OpenPage(visitor, await visitor.token("/?topic=news"), door) for _ in range(PAGES)]
        await asyncio.gather(*(page.attach() for page in pages))
        reading = [asyncio.create_task(page.read()) for page in pages]
        await asyncio.gather(*(page.reads.wait() for page in pages))
        old.send_signal(signal.SIGTERM)
        left = await asyncio.gather(*reading)
        assert await asyncio.wait_for(old.wait(), 30) == 0

        assert {page.code for page in left} == {1012}
        # They are asked to come back evenly over the window.
        delays = [page.retry for page in left]
        assert share(delays, 0, window) == 1
        assert all(share(delays, window * quarter / 4, window * (quarter + 1) / 4) > 0.15 for quarter in range(4))
        # What was accepted was written out before: nobody misses one.
        for page in left:
            assert page.numbers == list(range(page.numbers[0], page.numbers[0] + len(page.numbers)))
        # In groups over the window. The clock is the server's own: what it pushed last before it sent a page away.
        groups = Counter(page.numbers[-1] for page in left)
        assert len(groups) >= window / INTERVAL / 3
        assert max(groups.values()) < PAGES / 2

        async with serving_process("tests.served", port, key, INTERVAL):
            welcomes = await asyncio.gather(*(page.come_back(how) for page, how in zip(pages, left, strict=True)))
    assert {(welcome["resumed"], welcome["lost"]) for welcome in welcomes} == {(False, "epoch")}
    assert len({welcome["page"] for welcome in welcomes}) == PAGES
    assert not any(welcome["forked"] for welcome in welcomes)
