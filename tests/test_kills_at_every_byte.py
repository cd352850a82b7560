"""A connection that breaks at any byte, in either direction: nothing is missing, nothing comes twice.

Each test runs once over each transport. Bytes are counted over all the connections that carry a page.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

import pytest
from aiohttp import web

import pagews
from pagews import DelegateTableDef, Limits
from pagews.text_frames import PADDING
from tests.faults import HOST, FaultProxy, Link
from tests.sites import TestSite, serving
from tests.traps import Direction
from tests.wire_client import Document, Push, Transport, Visitor, Wire

#: How many cuts are made in each direction all along a conversation of everything.
CUTS: Final = 50

#: An HTTP header that breaks is one case, a request that fails, and so is a token, in which no byte differs from the
#: next: not all of theirs are gone through.
ONE_CASE: Final = re.compile(rb'\A(?:GET /|POST /|HTTP/1\.1 ).*?\r\n\r\n|(?<="token": ")[^"]+', re.DOTALL)
STEP: Final = 16

pytestmark = pytest.mark.parametrize("direction", ["down", "up"])


class Meter:
    """Counts what passes over all connections from now on, and cuts the one over which a certain byte passes.

    Attributes:
        passed: bytes so far; `alike`: those that are not all gone through.
        place: how many had passed when it cut, as many as it was to, or more where that is in `ONE_CASE`; None: it has
            not cut.
    """

    def __init__(self, proxy: FaultProxy, direction: Direction, stop: int | None) -> None:
        self.passed = self.alike = 0
        self.place: int | None = None
        self._direction = direction
        self._stop = stop
        proxy.on_connect = self._watch

    def _watch(self, link: Link) -> None:
        getattr(link, self._direction).cut_when(self._rule)

    def _rule(self, before: bytearray, chunk: bytes) -> int | None:
        start = self.passed
        self.passed += len(chunk)
        self.alike += sum(len(match[0]) for match in ONE_CASE.finditer(chunk))
        if self._stop is None or self.place is not None or self.passed < self._stop:
            return None
        stop = max(0, self._stop - start)
        for match in ONE_CASE.finditer(chunk):
            if match.start() < stop < match.end():
                steps = -(-(stop - match.start()) // STEP)
                stop = min(match.start() + steps * STEP, match.end())
        self.place = start + stop
        return stop


# --- again and again, to as much --------------------------------------------------------------------------------------


class Held(Visitor):
    """A browser that opens a socket when it is let."""

    def __init__(self, url: str, transport: Transport) -> None:
        super().__init__(url, transport)
        self._there = asyncio.Event()
        self._may_go = asyncio.Event()

    async def open(self, transport: Transport | None = None, *, cookie: str | None = None) -> Wire:
        self._there.set()
        await self._may_go.wait()
        self._may_go.clear()
        return await super().open(transport, cookie=cookie)

    async def held(self) -> None:
        """Wait until it wants to open one."""
        async with asyncio.timeout(10):
            await self._there.wait()

    def let(self) -> None:
        """Let it open one."""
        self._there.clear()
        self._may_go.set()


class Attempts:
    """A page that comes back again and again, each time to as much: two pushes that it has not seen, one send of qos 2
    without a result, and over a WebSocket a question; as a request, its answer would be another one like that send.

    Attributes:
        pushed: how many pushes there were; `asked`: how many questions; `sent`: how many sends.
    """

    def __init__(self, page: pagews.Page, proxy: FaultProxy, visitor: Held, document: Document) -> None:
        self.pushed = self.asked = self.sent = 0
        self._page = page
        self._asking: asyncio.Task[Any] | None = None
        self._received = 0
        self._proxy = proxy
        self._visitor = visitor
        self._document = document

    def _is_complete(self) -> bool:
        return len(self._document.received) == self.pushed + self.asked and not self._document.unanswered

    async def make(self, direction: Direction, stop: int | None) -> Meter:
        """Make one; returns when everything has come, or its cut is noticed."""
        if self._asking is not None and (
            len(self._document.received) > self._received or self._document.unanswered != 1
        ):
            # A part of what there was has come before a cut, and a question cannot be asked behind it.
            await self._attempt(direction, None)
            assert self._is_complete()
        return await self._attempt(direction, stop)

    async def _attempt(self, direction: Direction, stop: int | None) -> Meter:
        document, before = self._document, len(self._document.closes)
        await self._visitor.held()
        await self._add_what_has_come()
        self._received = len(document.received)
        # What is over need not be looked at again.
        self._proxy.links.clear()
        meter = Meter(self._proxy, direction, stop)
        self._visitor.let()
        await document.until(lambda document: len(document.closes) > before or self._is_complete())
        self._proxy.cut()
        await self._visitor.held()
        return meter

    async def _add_what_has_come(self) -> None:
        asks = self._visitor.transport == "websocket" and self._is_complete()
        while self.pushed + self.asked < len(self._document.received) + 2:
            await self._page.push("count", self.pushed)
            self.pushed += 1
        if not self._document.unanswered:
            await self._document.send("count", self.sent, qos=2)
            self.sent += 1
        if asks:
            assert self._asking is None or await self._asking == f"yes, {self.asked - 1}"
            self._asking = asyncio.create_task(self._page.ask("confirm", self.asked))
            self.asked += 1


async def test_fault_1_a_cut_at_every_byte(
    direction: Direction, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two thousand spaces would be as many times the same cut.
    monkeypatch.setattr("pagews.fallback.PADDING", PADDING.replace(b" ", b""))
    table = DelegateTableDef()
    runs: list[int] = []

    @table.on("count")
    async def count(page: pagews.Page, data: int) -> int:
        runs.append(data)
        return data

    pages: list[pagews.Page] = []

    async def note(request: web.Request) -> None:
        pages.append(await pagews.open_page(request))

    async def answer(push: Push) -> str | None:
        return f"yes, {push.data}" if push.delegate == "confirm" else None

    async with (
        serving(TestSite(delegates=table, view=note, limits=Limits(heartbeat=600, rate=10_000))) as site,
        FaultProxy(HOST, site.port) as proxy,
        Held(proxy.url, transport) as visitor,
        Document(visitor, await visitor.token()) as document,
    ):
        document.delegate = answer
        attempts = Attempts(pages[0], proxy, visitor, document)
        # Not the first one: its hello has no cursor.
        whole = [await attempts.make(direction, None) for _ in range(2)][-1]
        last, cuts = -1, 0
        while (place := (await attempts.make(direction, last + 1)).place) is not None:
            last, cuts = place, cuts + 1

        # From before the first byte to behind the last one; the numbers in it get longer.
        assert last >= whole.passed
        assert cuts > whole.passed - whole.alike > 200
        assert [push.data for push in document.received if push.delegate == "count"] == list(range(attempts.pushed))
        assert [push.data for push in document.received if push.delegate == "confirm"] == list(range(attempts.asked))
        assert runs == list(range(attempts.sent))
        assert document.results == {number + 1: [True, number] for number in runs}


# --- all along a conversation -----------------------------------------------------------------------------------------


class Conversation:
    """A short talk of everything: pushes before the page is there, a send, a question and its answer, a last push."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self._pages: list[pagews.Page] = []
        table = DelegateTableDef()

        @table.on("count")
        async def count(page: pagews.Page, data: Any) -> Any:
            self.runs.append(data)
            return data

        self.site = TestSite(delegates=table, view=self._note)

    async def _note(self, request: web.Request) -> None:
        self._pages.append(await pagews.open_page(request))

    async def hold(self, visitor: Visitor, begins: Callable[[], object]) -> None:
        """Have it once, and check its outcome. `begins`: called when the page has been fetched."""
        token = await visitor.token()
        begins()
        page = self._pages.pop()
        await page.push("say", 1)
        await page.session.push("say", 2)
        asking = asyncio.create_task(page.ask("say", "Sure?"))
        async with Document(visitor, token) as document:
            document.delegate = _answer
            await document.send("count", "once", qos=2)
            assert await asking == "yes"
            await page.push("say", "end")
            await document.until(lambda document: document.received[-1].data == "end" and not document.unanswered)

            assert [push.data for push in document.received] == [1, 2, "Sure?", "end"]
            assert document.results == {1: [True, "once"]}
            assert self.runs == ["once"]
        self.runs.clear()


async def _answer(push: Push) -> str | None:
    return "yes" if push.data == "Sure?" else None


async def test_fault_1_a_cut_all_along_a_conversation(direction: Direction, transport: Transport) -> None:
    conversation = Conversation()
    async with serving(conversation.site) as site, FaultProxy(HOST, site.port) as proxy:

        async def hold(stop: int | None) -> Meter:
            meter: list[Meter] = []
            async with Visitor(proxy.url, transport) as visitor:
                await conversation.hold(visitor, lambda: meter.append(Meter(proxy, direction, stop)))
            proxy.on_connect = None
            return meter[0]

        total = (await hold(None)).passed
        cuts = 0
        for stop in range(0, total, max(1, total // CUTS)):
            cuts += (await hold(stop)).place is not None

        # Answers that come together once and apart another time make a conversation a little longer or shorter.
        assert cuts > 0.9 * min(total, CUTS)


async def test_fault_5_one_byte_at_a_time(direction: Direction, transport: Transport) -> None:
    conversation = Conversation()
    async with (
        serving(conversation.site) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url, transport) as visitor,
    ):
        lanes = []

        def slice_it(link: Link) -> None:
            lane = getattr(link, direction)
            lane.piece = 1
            lanes.append(lane)

        def begin() -> None:
            proxy.on_connect = slice_it

        await conversation.hold(visitor, begin)

        # Every byte of it alone.
        assert proxy.counts["pieces"] == sum(len(lane.data) for lane in lanes) > 500
        assert proxy.counts["cut"] == 0
