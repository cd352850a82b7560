"""A process that is asked to stop under load, and the one that comes after it."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pagews
from pagews import DelegateTableDef
from pagews.tokens import new_key
from tests.ports import free_port
from tests.processes import serving_process
from tests.served import LIMITS
from tests.sites import TestSite, serving
from tests.wire_client import TRANSPORTS, SocketClosed, Visitor, Wire, new_document

ROOT: Final = Path(__file__).resolve().parent.parent

PAGES: Final = 600
#: Pages that connect at once.
AT_ONCE: Final = 50
#: Seconds between two pushes to all pages.
INTERVAL: Final = 0.25


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
        self.transport = visitor.transport
        #: How many may connect at once: this process stands for hundreds of browsers, and may be slow.
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
                assert said, end
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


async def test_fault_10_a_restart_under_load_moves_hundreds_of_pages_in_groups() -> None:
    key, port, window = new_key(), free_port(), LIMITS.drain_window
    async with serving_process("tests.served", port, key, INTERVAL) as old, AsyncExitStack() as visitors:
        door = asyncio.Semaphore(AT_ONCE)
        pages: list[OpenPage] = []
        browsers = [
            await visitors.enter_async_context(Visitor(f"http://127.0.0.1:{port}", transport))
            for transport in TRANSPORTS
        ]
        for visitor in itertools.islice(itertools.cycle(browsers), PAGES):
            # Polls wait, for nothing: what a push makes of one that its server sends away is below.
            path = "/" if visitor.transport == "poll" else "/?topic=news"
            pages.append(OpenPage(visitor, await visitor.token(path), door))
        await asyncio.gather(*(page.attach() for page in pages))
        reading = [asyncio.create_task(page.read()) for page in pages]
        await asyncio.gather(*(page.reads.wait() for page in pages if page.transport != "poll"))
        old.send_signal(signal.SIGTERM)
        left = await asyncio.gather(*reading)
        assert await asyncio.wait_for(old.wait(), 30) == 0

        assert {page.code for page in left} == {1012}
        for transport in TRANSPORTS:
            # They are asked to come back evenly over the window.
            delays = [how.retry for page, how in zip(pages, left, strict=True) if page.transport == transport]
            assert share(delays, 0, window) == 1
            assert all(share(delays, window * quarter / 4, window * (quarter + 1) / 4) > 0.12 for quarter in range(4))
        # What was accepted was written out before: nobody misses one.
        pushed = [how.numbers for how in left if how.numbers]
        assert len(pushed) == PAGES * 2 // 3
        for numbers in pushed:
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        # In groups over the window. The clock is the server's own: what it pushed last before it sent a page away.
        groups = Counter(numbers[-1] for numbers in pushed)
        assert len(groups) >= window / INTERVAL / 3
        assert max(groups.values()) < len(pushed) / 2

        async with serving_process("tests.served", port, key, INTERVAL):
            welcomes = await asyncio.gather(*(page.come_back(how) for page, how in zip(pages, left, strict=True)))
    assert {(welcome["resumed"], welcome["lost"]) for welcome in welcomes} == {(False, "epoch")}
    assert len({welcome["page"] for welcome in welcomes}) == PAGES
    assert not any(welcome["forked"] for welcome in welcomes)


async def test_fault_10_a_poll_that_is_answered_while_its_server_stops_is_told_to_come_back() -> None:
    table = DelegateTableDef()
    running, go_on = asyncio.Event(), asyncio.Event()

    @table.on("order")
    async def order(page: pagews.Page, data: object) -> None:
        running.set()
        await go_on.wait()

    async with serving(TestSite(delegates=table)) as site, Visitor(site.url, "poll") as visitor:
        wire = await visitor.attach()
        hearing = asyncio.create_task(wire.receive())
        await site.waiting()
        # For as long as it runs, the page is not sent away.
        await wire.send("send", 1, 2, "order", "tea")
        await running.wait()
        draining = asyncio.create_task(pagews.drain(site.app))
        await asyncio.sleep(0)
        await site.publisher.page(wire.page).push("growl", "the last")

        assert (await hearing)[4] == "the last"
        closed = await wire.closed()
        assert closed.code == 1012
        assert "; retry=" in closed.reason
        go_on.set()
        await draining
