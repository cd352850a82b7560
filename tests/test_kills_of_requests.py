"""Streams, polls and posts that break at the worst moments, through a TCP proxy: nothing is missing, nothing twice.

What is sent as text can be cut where certain bytes pass, over whichever connection they come.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal

import pytest

import pagews
from pagews import DelegateTableDef, Limits
from pagews.text_frames import PADDING
from tests.faults import HOST, FaultProxy, Link
from tests.sites import House, Served, TestSite, serving
from tests.test_kills import Conversation, Gate
from tests.wire_client import Document, Push, Transport, Visitor, Wire, new_document

#: How many messages there are, and how many between two kills.
MESSAGES: Final = 2000
STEP: Final = 100

#: How many cuts are made in each direction all along a conversation of everything.
CUTS: Final = 50

LIMITS: Final = Limits(channel_entries=2 * MESSAGES, results_kept=2 * MESSAGES, sends_waiting=2 * MESSAGES)

Direction = Literal["down", "up"]
TEXT: Final[list[Transport]] = ["stream", "poll"]


class Trap:
    """Cuts whichever connection it is that certain bytes pass over next, in the middle of them or behind them."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._needle = b""
        self._direction: Direction = "down"
        self._behind = False
        self._sprung = asyncio.Event()
        proxy.on_connect = self._watch

    def arm(self, direction: Direction, needle: bytes, *, behind: bool = False) -> None:
        """Cut at the next `needle`; `behind`: when all that comes with it has passed."""
        self._needle, self._direction, self._behind = needle, direction, behind
        self._sprung.clear()

    async def sprung(self) -> None:
        """Wait until it has cut."""
        async with asyncio.timeout(10):
            await self._sprung.wait()

    def _watch(self, link: Link) -> None:
        link.down.cut_when(lambda _, chunk: self._rule("down", chunk))
        link.up.cut_when(lambda _, chunk: self._rule("up", chunk))

    def _rule(self, direction: Direction, chunk: bytes) -> int | None:
        place = chunk.find(self._needle) if self._needle and direction == self._direction else -1
        if place < 0:
            return None
        stop = len(chunk) if self._behind else place + len(self._needle) // 2
        self._needle = b""
        self._sprung.set()
        return stop


class Line:
    """A page behind a proxy, and messages that go over it in one direction."""

    def __init__(self, site: Served, proxy: FaultProxy, document: Document, direction: Direction) -> None:
        self.site = site
        self.proxy = proxy
        self.trap = Trap(proxy)
        self.document = document
        self.direction: Direction = direction
        #: in the middle of the receiver's callback
        self.gate = Gate()

    async def speak(self, number: int) -> None:
        """Send a message."""
        if self.direction == "down":
            await self.site.publisher.topic("news").push("count", number)
        else:
            await self.document.send("count", number, qos=2)

    async def settled(self, count: int) -> None:
        """Wait until so many messages have come to their end."""
        done = self.document.received if self.direction == "down" else self.document.results
        await self.document.until(lambda _: len(done) >= count)


async def on_idle_links(line: Line, number: int) -> None:
    await line.settled(number)
    line.proxy.cut()
    await line.speak(number)


async def in_the_head_of_an_answer(line: Line, number: int) -> None:
    line.trap.arm("down", b"HTTP/1.1 200 OK")
    line.proxy.cut()
    await line.speak(number)
    await line.trap.sprung()


async def in_the_welcome(line: Line, number: int) -> None:
    line.trap.arm("down", b'["welcome"')
    line.proxy.cut()
    await line.speak(number)
    await line.trap.sprung()


async def in_the_middle_of_a_message(line: Line, number: int) -> None:
    line.trap.arm(line.direction, b'"count"')
    await line.speak(number)
    await line.trap.sprung()


async def behind_a_message(line: Line, number: int) -> None:
    """Fault 27: of a post, its body is complete."""
    line.trap.arm(line.direction, b'"count"', behind=True)
    await line.speak(number)
    await line.trap.sprung()


async def during_a_callback(line: Line, number: int) -> None:
    await line.settled(number)
    line.gate.close()
    await line.speak(number)
    await line.gate.held()
    line.proxy.cut()
    line.gate.open()


KILLS: Final[tuple[Callable[[Line, int], Awaitable[None]], ...]] = (
    on_idle_links,
    in_the_head_of_an_answer,
    in_the_welcome,
    in_the_middle_of_a_message,
    behind_a_message,
    during_a_callback,
)


async def speak_and_kill(line: Line) -> None:
    """Send all messages; in the middle of every hundred of them connections break, by turns in every way."""
    kills, made = itertools.cycle(KILLS), Counter[str]()
    for number in range(MESSAGES):
        if number % STEP == STEP // 2:
            kill = next(kills)
            await kill(line, number)
            made[kill.__name__] += 1
        else:
            await line.speak(number)
            # The loop turns, so that messages go out one by one.
            await asyncio.sleep(0)
    await line.settled(MESSAGES)
    assert made.total() == MESSAGES // STEP
    assert set(made) == {kill.__name__ for kill in KILLS}
    assert line.proxy.counts["cut"] >= made.total()


@asynccontextmanager
async def attached(
    house: House, direction: Direction, table: DelegateTableDef, transport: Transport
) -> AsyncIterator[Line]:
    async with (
        serving(house(delegates=table, limits=LIMITS)) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url, transport) as visitor,
    ):
        document = Document(visitor, await visitor.token("/?topic=news"))
        line = Line(site, proxy, document, direction)
        async with document:
            await document.until(lambda document: bool(document.welcomes))
            yield line


@pytest.mark.parametrize("transport", TEXT)
async def test_twenty_kills_under_two_thousand_pushes(house: House, transport: Transport) -> None:
    async with attached(house, "down", DelegateTableDef(), transport) as line:

        async def show(push: Push) -> None:
            await line.gate()

        line.document.delegate = show
        await speak_and_kill(line)

        assert [push.data for push in line.document.received] == list(range(MESSAGES))


@pytest.mark.parametrize("transport", TEXT)
async def test_twenty_kills_under_two_thousand_sends(house: House, transport: Transport) -> None:
    table = DelegateTableDef()
    runs: list[int] = []
    gates: list[Gate] = []

    @table.on("count")
    async def count(page: pagews.Page, data: int) -> int:
        runs.append(data)
        await gates[0]()
        return data

    async with attached(house, "up", table, transport) as line:
        gates.append(line.gate)
        await speak_and_kill(line)

        assert runs == list(range(MESSAGES))
        assert line.document.results == {number + 1: [True, number] for number in range(MESSAGES)}


# --- at every byte ----------------------------------------------------------------------------------------------------


class Meter:
    """Counts what passes over all connections from now on, and cuts the one over which a certain byte passes."""

    def __init__(self, proxy: FaultProxy, direction: Direction, stop: int | None) -> None:
        self.passed = 0
        self.has_cut = False
        self._direction = direction
        self._stop = stop
        proxy.on_connect = self._watch

    def _watch(self, link: Link) -> None:
        getattr(link, self._direction).cut_when(self._rule)

    def _rule(self, before: bytearray, chunk: bytes) -> int | None:
        start = self.passed
        self.passed += len(chunk)
        if self._stop is None or self.has_cut or self.passed < self._stop:
            return None
        self.has_cut = True
        return max(0, self._stop - start)


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
    """A page that comes back again and again, each time to as much: two pushes that it has not seen, and one send of
    qos 2 without a result. What an attempt that is cut does not bring is there for the next one.

    Attributes:
        pushed: how many pushes there were; `sent`: how many sends.
    """

    def __init__(self, site: TestSite, proxy: FaultProxy, visitor: Held, document: Document) -> None:
        self.pushed = 0
        self.sent = 0
        self._topic = site.publisher.topic("news")
        self._proxy = proxy
        self._visitor = visitor
        self._document = document

    async def make(self, direction: Direction, stop: int | None) -> Meter:
        """Make one; returns when everything has come, or its cut is noticed."""
        document, before = self._document, len(self._document.closes)
        await self._visitor.held()
        while self.pushed < len(document.received) + 2:
            await self._topic.push("count", self.pushed)
            self.pushed += 1
        if not document.unanswered:
            await document.send("count", self.sent, qos=2)
            self.sent += 1
        meter = Meter(self._proxy, direction, stop)
        self._visitor.let()
        await document.until(
            lambda document: (
                len(document.closes) > before or (len(document.received) == self.pushed and not document.unanswered)
            )
        )
        self._proxy.cut()
        await self._visitor.held()
        return meter


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("transport", TEXT)
async def test_a_cut_at_every_byte(direction: Direction, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two thousand spaces would be as many times the same cut.
    monkeypatch.setattr("pagews.fallback.PADDING", PADDING.replace(b" ", b""))
    table = DelegateTableDef()
    runs: list[int] = []

    @table.on("count")
    async def count(page: pagews.Page, data: int) -> int:
        runs.append(data)
        return data

    async with (
        serving(TestSite(delegates=table, limits=Limits(heartbeat=600))) as site,
        FaultProxy(HOST, site.port) as proxy,
        Held(proxy.url, transport) as visitor,
        Document(visitor, await visitor.token("/?topic=news")) as document,
    ):
        attempts = Attempts(site, proxy, visitor, document)
        # Not the first one: its hello has no cursor.
        total = [(await attempts.make(direction, None)).passed for _ in range(2)][1]
        stop = 0
        while (await attempts.make(direction, stop)).has_cut:
            stop += 1

        # From before the first byte to behind the last one; the numbers in it get longer.
        assert stop > total > 500
        assert [push.data for push in document.received] == list(range(attempts.pushed))
        assert runs == list(range(attempts.sent))
        assert document.results == {number + 1: [True, number] for number in runs}


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("transport", TEXT)
async def test_a_cut_all_along_a_conversation(direction: Direction, transport: Transport) -> None:
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
            cuts += (await hold(stop)).has_cut

        # Answers that come together once and apart another time make a conversation a little longer or shorter.
        assert cuts > 0.9 * min(total, CUTS)


# --- a proxy that keeps responses back --------------------------------------------------------------------------------


async def test_fault_25_a_stream_that_is_kept_back_and_the_polls_that_take_over() -> None:
    async with serving(TestSite()) as site, FaultProxy(HOST, site.port) as proxy, Visitor(proxy.url) as visitor:

        def keep_back(link: Link, path: str) -> None:
            link.down.hold = 64 * 1024 if path.endswith("/stream") else 0

        proxy.on_request = keep_back
        token, document = await visitor.token("/?topic=news"), new_document()
        stream = await visitor.open("stream")
        hello = asyncio.create_task(stream.hello(token, document=document))
        await site.waiting()
        await site.publisher.topic("news").push("count", 1)
        assert not (await asyncio.wait([hello], timeout=0.2))[0], "nothing comes of it"
        visitor.transport = "poll"
        polls = await visitor.attach(token, document=document, attempt=2)
        stream.cut()
        await asyncio.wait([hello])
        await site.publisher.topic("news").push("count", 2)

        assert [(await polls.receive())[4] for _ in range(2)] == [1, 2]
        assert site.publisher.statistics().attached == 1
