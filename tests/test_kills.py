"""Connections that break at the worst moments, through a TCP proxy: nothing is missing, nothing comes twice.

Each test runs once over each transport. Over a WebSocket a kill is made where its frames are; where messages are text,
over whichever connection they come.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import pagews
from pagews import DelegateTableDef, Limits
from tests.faults import HOST, FaultProxy, Link, after_header, frames
from tests.sites import House, Served, serving
from tests.traps import Direction, Trap, after_welcome, behind, inside
from tests.wire_client import Document, Push, Transport, Visitor

#: How many messages there are, and how many between two kills.
MESSAGES: Final = 2000
STEP: Final = 100

#: What is in every message, and in nothing else.
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


def inside_header(before: bytearray, chunk: bytes) -> int | None:
    """Cut in the middle of an HTTP header, which comes as a whole."""
    return chunk.index(b"\r\n\r\n") // 2


# --- the ways to break it, each with the message during which it happens ----------------------------------------------


class Line:
    """A page behind a proxy, and messages that go over it in one direction."""

    def __init__(
        self, site: Served, proxy: FaultProxy, document: Document, direction: Direction, transport: Transport
    ) -> None:
        self.site = site
        self.proxy = proxy
        self.trap = Trap(proxy)
        self.document = document
        self.direction: Direction = direction
        self.transport: Transport = transport
        self.is_text = transport != "websocket"
        #: in the middle of the receiver's callback
        self.gate = Gate()

    async def speak(self, number: int) -> None:
        """Send a message."""
        if self.direction == "down":
            await self.site.publisher.topic("news").push("count", number)
        else:
            await self.document.send("count", number, qos=2)

    def arrived(self) -> int:
        """How many messages have come to their end."""
        return len(self.document.received if self.direction == "down" else self.document.results)

    async def settled(self, count: int) -> None:
        """Wait until so many messages have come to their end."""
        await self.document.until(lambda _: self.arrived() >= count)

    async def idle(self) -> None:
        """Wait until there is a connection that waits for what may come."""
        if self.is_text:
            await self.site.waiting()

    async def cut_and_come_back(self, prepare: Callable[[Link], None]) -> Link:
        """Cut all; returns the connection by which the page asks to come back, which is prepared first."""
        came: asyncio.Future[Link] = asyncio.get_running_loop().create_future()

        def comes(link: Link) -> None:
            self.proxy.on_upgrade = None
            prepare(link)
            came.set_result(link)

        await self.idle()
        self.proxy.on_upgrade = comes
        self.proxy.cut()
        async with asyncio.timeout(10):
            return await came

    async def broken(self, link: Link) -> None:
        """Wait until a connection is cut."""
        async with asyncio.timeout(10):
            await link.ended()
        assert link.how == "cut"


async def on_an_idle_link(line: Line, number: int) -> None:
    await line.settled(number)
    assert line.document.unanswered == 0
    await line.idle()
    line.proxy.cut()
    await line.speak(number)


async def in_the_header_of_the_answer(line: Line, number: int) -> None:
    link = await line.cut_and_come_back(lambda link: link.down.cut_when(inside_header))
    await line.speak(number)
    await line.broken(link)
    assert link.down.data.startswith(b"HTTP/1.1 ")
    assert b"\r\n\r\n" not in link.down.data


async def before_hello(line: Line, number: int) -> None:
    """It is behind the header of the answer, or behind that of the request."""
    link = await line.cut_and_come_back(lambda link: (link.up if line.is_text else link.down).cut_when(after_header))
    await line.speak(number)
    await line.broken(link)
    if line.is_text:
        assert link.up.data.startswith(b"POST /pagews/")
        assert link.up.data.endswith(b"\r\n\r\n")
        assert not link.down.data
    else:
        assert link.down.data.startswith(b"HTTP/1.1 101")
        assert link.down.data.endswith(b"\r\n\r\n")
        assert not list(frames(link.up.data))


async def between_welcome_and_replay(line: Line, number: int) -> None:
    def hold_the_hello(link: Link) -> None:
        link.up.stall()
        link.down.cut_when(after_welcome(line.transport))

    link = await line.cut_and_come_back(hold_the_hello)
    # There will be something to come after it.
    await line.speak(number)
    link.up.resume()
    await line.broken(link)
    assert link.down.data.count(b'["welcome"') == 1
    assert link.down.data.endswith(b"}]")
    assert line.arrived() <= number


async def in_the_middle_of_a_message(line: Line, number: int) -> None:
    line.trap.arm(line.direction, inside(line.transport, MESSAGE))
    await line.speak(number)
    data = getattr(await line.trap.sprung(), line.direction).data
    # What passed last is the beginning of a message.
    if line.is_text:
        assert data.endswith(MESSAGE[: len(MESSAGE) // 2])
    else:
        assert list(frames(data))[-1].end < len(data)


async def behind_a_message(line: Line, number: int) -> None:
    """Fault 27: of a post, its body is complete."""
    line.trap.arm(line.direction, behind(line.transport, MESSAGE))
    await line.speak(number)
    data = getattr(await line.trap.sprung(), line.direction).data
    assert MESSAGE in data if line.is_text else list(frames(data))[-1].end == len(data)


async def during_a_callback(line: Line, number: int) -> None:
    await line.settled(number)
    line.gate.close()
    await line.speak(number)
    await line.gate.held()
    if line.direction == "up":
        line.trap.arm("up", behind(line.transport, MESSAGE), cuts=False)
    line.proxy.cut()
    assert line.arrived() <= number + 1
    if line.direction == "up":
        # The page is there again, and has sent it again, while the first one still runs.
        await line.trap.sprung()
    line.gate.open()


#: How to break it, and how many WebSockets are cut by that: one to make the page come back, and the one that it is
#: about.
KILLS: Final[dict[Callable[[Line, int], Awaitable[None]], int]] = {
    on_an_idle_link: 1,
    in_the_header_of_the_answer: 2,
    before_hello: 2,
    between_welcome_and_replay: 2,
    in_the_middle_of_a_message: 1,
    behind_a_message: 1,
    during_a_callback: 1,
}


async def speak_and_kill(line: Line) -> None:
    """Send all messages; in the middle of every hundred of them the connection breaks, by turns in every way."""
    kills, made, cuts = itertools.cycle(KILLS), Counter[str](), 0
    for number in range(MESSAGES):
        if number % STEP == STEP // 2:
            kill = next(kills)
            await kill(line, number)
            # By then the page is back.
            await line.settled(number + 1)
            made[kill.__name__] += 1
            cuts += KILLS[kill]
        else:
            await line.speak(number)
            # The loop turns, so that messages go out one by one.
            await asyncio.sleep(0)
    await line.settled(MESSAGES)
    assert made.total() == 20
    assert set(made) == {kill.__name__ for kill in KILLS}
    if line.is_text:
        # A page has more than one connection, and while it shows what came by a poll it may have none.
        assert line.proxy.counts["cut"] >= made.total()
    else:
        assert line.proxy.counts["cut"] >= cuts
        # After each of them the page has come back, once.
        assert line.proxy.counts["upgraded"] == 1 + cuts


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
        line = Line(site, proxy, document, direction, transport)
        async with document:
            await document.until(lambda document: bool(document.welcomes))
            yield line


async def test_twenty_kills_under_two_thousand_pushes(house: House, transport: Transport) -> None:
    async with attached(house, "down", DelegateTableDef(), transport) as line:

        async def show(push: Push) -> None:
            await line.gate()

        line.document.delegate = show
        await speak_and_kill(line)

        assert [push.data for push in line.document.received] == list(range(MESSAGES))
        seqs = [push.seq for push in line.document.received]
        assert seqs == sorted(set(seqs))


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
        assert line.document.unanswered == 0
