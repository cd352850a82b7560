"""Connections that break at the worst moments, through a TCP proxy: nothing is missing, nothing comes twice."""

from __future__ import annotations

import abc
import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from aiohttp import web

import pagews
from pagews import DelegateTableDef, Limits
from tests.faults import HOST, FaultProxy, Lane, Link, after_frame, after_header, frames, inside_frame
from tests.sites import House, Served, TestSite, serving
from tests.wire_client import Document, Push, Visitor

#: How many messages there are, and how many between two kills.
MESSAGES: Final = 2000
STEP: Final = 100

#: What is in the frame of every message, and in no other.
MESSAGE: Final = b'"count"'

LIMITS: Final = Limits(channel_entries=2 * MESSAGES, results_kept=2 * MESSAGES, sends_waiting=2 * MESSAGES)


class Gate:
    """A callback that can be held in the middle."""

    def __init__(self) -> None:
        self._inside = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    async def __call__(self) -> None:
        self._inside.set()
        await self._open.wait()

    def close(self) -> None:
        """Hold the next one that comes."""
        self._inside.clear()
        self._open.clear()

    async def held(self) -> None:
        """Wait until one is held."""
        async with asyncio.timeout(10):
            await self._inside.wait()

    def open(self) -> None:
        """Let it go."""
        self._open.set()


class Line(abc.ABC):
    """A page behind a proxy, and messages that go over it in one direction.

    Attributes:
        link: the connection that the page has now, or had last.
        kills: how often it was broken, by the kind.
    """

    def __init__(self, site: Served, proxy: FaultProxy, document: Document, link: Link) -> None:
        self.site = site
        self.proxy = proxy
        self.document = document
        self.link = link
        self.kills: Counter[str] = Counter()
        #: in the middle of the receiver's callback
        self.gate = Gate()

    @abc.abstractmethod
    async def speak(self, number: int) -> None:
        """Send a message."""

    @abc.abstractmethod
    def arrived(self) -> int:
        """How many messages have come to their end."""

    @abc.abstractmethod
    def lane(self, link: Link) -> Lane:
        """The direction of a connection in which the messages go."""

    async def settled(self, count: int) -> None:
        """Wait until so many messages have come to their end."""
        await self.document.until(lambda _: self.arrived() >= count)

    async def welcomed(self, count: int) -> None:
        """Wait until so many hellos of the page have been answered."""
        await self.document.until(lambda document: len(document.welcomes) == count)

    async def ended(self, link: Link) -> None:
        """Wait until a connection is cut."""
        async with asyncio.timeout(10):
            await link.ended()
        assert link.how == "cut"

    async def back(self) -> Link:
        """Wait until the page has connected anew."""
        async with asyncio.timeout(10):
            self.link = await self.proxy.upgraded()
        return self.link


class Down(Line):
    async def speak(self, number: int) -> None:
        await self.site.publisher.topic("news").push("count", number)

    def arrived(self) -> int:
        return len(self.document.received)

    def lane(self, link: Link) -> Lane:
        return link.down


class Up(Line):
    async def speak(self, number: int) -> None:
        await self.document.send("count", number, qos=2)

    def arrived(self) -> int:
        return len(self.document.results)

    def lane(self, link: Link) -> Lane:
        return link.up


# --- the ways to break it, each with the message during which it happens ----------------------------------------------


async def on_an_idle_link(line: Line, number: int) -> None:
    await line.settled(number)
    assert line.document.unanswered == 0
    line.link.cut()
    await line.ended(line.link)
    await line.speak(number)
    await line.back()


async def before_hello(line: Line, number: int) -> None:
    line.proxy.on_upgrade = lambda link: link.down.cut_when(after_header)
    line.link.cut()
    await line.speak(number)
    broken = await line.back()
    line.proxy.on_upgrade = None
    await line.ended(broken)
    # Upgraded, and not a frame has passed.
    assert broken.down.data.startswith(b"HTTP/1.1 101")
    assert broken.down.data.endswith(b"\r\n\r\n")
    assert not list(frames(broken.up.data))
    await line.back()


async def between_welcome_and_replay(line: Line, number: int) -> None:
    def hold_the_hello(link: Link) -> None:
        link.up.stall()
        link.down.cut_when(after_frame(b'["welcome"'))

    line.proxy.on_upgrade = hold_the_hello
    line.link.cut()
    broken = await line.back()
    line.proxy.on_upgrade = None
    await line.speak(number)
    broken.up.resume()
    await line.ended(broken)
    [welcome] = frames(broken.down.data)
    assert welcome.payload.startswith(b'["welcome"')
    # There was something to come after it: it comes after the next one.
    assert line.arrived() <= number
    await line.lane(await line.back()).passed(MESSAGE)


async def in_the_middle_of_a_frame(line: Line, number: int) -> None:
    lane = line.lane(line.link)
    lane.cut_when(inside_frame(MESSAGE))
    await line.speak(number)
    await line.ended(line.link)
    # What passed last is the beginning of a frame.
    assert list(frames(lane.data))[-1].end < len(lane.data)
    await line.back()


async def during_a_callback(line: Line, number: int) -> None:
    await line.settled(number)
    line.gate.close()
    await line.speak(number)
    await line.gate.held()
    line.link.cut()
    await line.ended(line.link)
    assert line.arrived() <= number + 1
    if isinstance(line, Up):
        # The page is there again, and has sent it again, while the first one still runs.
        again = await line.back()
        await again.up.passed(MESSAGE)
        line.gate.open()
    else:
        line.gate.open()
        await line.back()


KILLS: Final[tuple[Callable[[Line, int], Awaitable[None]], ...]] = (
    on_an_idle_link,
    before_hello,
    between_welcome_and_replay,
    in_the_middle_of_a_frame,
    during_a_callback,
)


async def speak_and_kill(line: Line) -> None:
    """Send all messages; in the middle of every hundred of them the connection breaks, by turns in every way."""
    kills, welcomes = itertools.cycle(KILLS), 1
    for number in range(MESSAGES):
        if number % STEP == STEP // 2:
            kill = next(kills)
            await line.welcomed(welcomes)
            await kill(line, number)
            welcomes += 2 if kill is between_welcome_and_replay else 1
            line.kills[kill.__name__] += 1
        else:
            await line.speak(number)
            # The loop turns, so that messages go out one by one.
            await asyncio.sleep(0)
    await line.settled(MESSAGES)
    assert line.kills == {kill.__name__: 4 for kill in KILLS}
    # Two of the kinds take two cuts: one to make the page come back, and the one they are about.
    assert line.proxy.counts["cut"] == 4 * 7
    assert line.proxy.counts["upgraded"] == 1 + 4 * 7
    assert len(line.document.welcomes) == welcomes == 1 + 4 * 6


@asynccontextmanager
async def attached(house: House, kind: type[Line], table: DelegateTableDef) -> AsyncIterator[Line]:
    async with (
        serving(house(delegates=table, limits=LIMITS)) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url) as visitor,
        Document(visitor, await visitor.token("/?topic=news")) as document,
    ):
        await document.until(lambda document: bool(document.welcomes))
        yield kind(site, proxy, document, await proxy.upgraded())


async def test_twenty_kills_under_two_thousand_pushes(house: House) -> None:
    async with attached(house, Down, DelegateTableDef()) as line:

        async def show(push: Push) -> None:
            await line.gate()

        line.document.delegate = show
        await speak_and_kill(line)

        assert [push.data for push in line.document.received] == list(range(MESSAGES))
        seqs = [push.seq for push in line.document.received]
        assert seqs == sorted(set(seqs))


async def test_twenty_kills_under_two_thousand_sends(house: House) -> None:
    table = DelegateTableDef()
    runs: list[int] = []
    gates: list[Gate] = []

    @table.on("count")
    async def count(page: pagews.Page, data: int) -> int:
        runs.append(data)
        await gates[0]()
        return data

    async with attached(house, Up, table) as line:
        gates.append(line.gate)
        await speak_and_kill(line)

        assert runs == list(range(MESSAGES))
        assert line.document.results == {number + 1: [True, number] for number in range(MESSAGES)}
        assert line.document.unanswered == 0


# --- at every byte ----------------------------------------------------------------------------------------------------


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

    async def hold(self, visitor: Visitor, begins: Callable[[], object] = lambda: None) -> None:
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


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_fault_1_a_cut_at_every_byte_of_a_conversation(direction: str) -> None:
    conversation = Conversation()
    async with (
        serving(conversation.site) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url) as visitor,
    ):
        await conversation.hold(visitor)
        uncut = getattr(await proxy.upgraded(), direction).data
        header = uncut.find(b"\r\n\r\n")
        # The header of the upgrade is one case, a connection that fails: its bytes are not all gone through.
        for count in (*range(0, header, 16), *range(header, len(uncut) + 1)):
            links: list[Link] = []

            def cut_the_first(link: Link, links: list[Link] = links, count: int = count) -> None:
                if not links:
                    getattr(link, direction).cut_after(count)
                links.append(link)

            proxy.on_upgrade = cut_the_first
            await conversation.hold(visitor)

            assert links[0].how == "cut", f"not at byte {count} of {len(uncut)}"
            assert len(getattr(links[0], direction).data) == count


async def test_fault_5_one_byte_at_a_time() -> None:
    conversation = Conversation()
    async with (
        serving(conversation.site) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url) as visitor,
    ):

        def slice_it(link: Link) -> None:
            link.up.piece = link.down.piece = 1

        proxy.on_upgrade = slice_it
        await conversation.hold(visitor)

        link = await proxy.upgraded()
        # Every byte of it alone, up to its last frame.
        assert proxy.counts["pieces"] == len(link.up.data) + len(link.down.data)
        assert any(b'"end"' in frame.payload for frame in frames(link.down.data))
        assert proxy.counts["upgraded"] == 1
