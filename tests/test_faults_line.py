"""Lines that lose answers, go dead, are reset by the thousand, or are two at once: what must hold all the same."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

import pagews
from pagews import DelegateTableDef, Limits, MemoryBroker
from pagews.site import get_site
from tests.faults import HOST, FaultProxy, Link, Rule, after_frame, after_header, inside_frame
from tests.sites import Detached, TestSite, serving
from tests.traps import Direction, Trap, before
from tests.wire_client import Document, Push, SocketClosed, Transport, Visitor, new_document


class Runs:
    """A server-side delegate, and what it has been called with."""

    def __init__(self) -> None:
        self.table = DelegateTableDef()
        self.data: list[Any] = []

        @self.table.on("count")
        async def count(page: pagews.Page, data: Any) -> Any:
            self.data.append(data)
            return ["counted", data]


# --- an answer is lost ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def behind_a_proxy(
    table: DelegateTableDef, transport: Transport
) -> AsyncIterator[tuple[TestSite, FaultProxy, Document, Trap]]:
    async with (
        serving(TestSite(delegates=table)) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url, transport) as visitor,
    ):
        document, trap = Document(visitor, await visitor.token()), Trap(proxy)
        async with document:
            await document.until(lambda document: bool(document.welcomes))
            yield site, proxy, document, trap


async def test_fault_2_a_result_is_lost_on_its_way_down(transport: Transport) -> None:
    runs = Runs()
    async with behind_a_proxy(runs.table, transport) as (_, proxy, document, trap):
        trap.arm("down", before(transport, b'["result"'))
        await document.send("count", "once", qos=2)
        await document.until(lambda document: bool(document.results))

        assert (await trap.sprung()).how == "cut"
        assert runs.data == ["once"]
        assert document.results == {1: [True, ["counted", "once"]]}
        assert len(document.welcomes) == 2
        assert proxy.counts["upgraded"] == 2


@pytest.mark.parametrize(("lane", "lost"), [("up", b'["ack"'), ("down", b'["acked"')])
async def test_fault_2_an_answer_is_lost_on_its_way_up_or_its_confirmation_down(
    lane: Direction, lost: bytes, transport: Transport
) -> None:
    async with behind_a_proxy(DelegateTableDef(), transport) as (site, proxy, document, trap):
        shown: list[Any] = []

        async def show(push: Push) -> str:
            shown.append(push.data)
            return "yes"

        document.delegate = show
        trap.arm(lane, before(transport, lost))
        receipt = await site.publisher.page(document.welcomes[0]["page"]).push("confirm", "Sure?", qos=2)
        answers = await receipt.wait(count=2, timeout=0.1) or await receipt.wait(count=1)
        await document.until(lambda document: not document.unanswered)

        assert (await trap.sprung()).how == "cut"
        assert [(answer.ok, answer.value) for answer in answers] == [(True, "yes")]
        assert shown == ["Sure?"]
        assert proxy.counts["upgraded"] == 2


# --- a line that goes dead --------------------------------------------------------------------------------------------


async def test_fault_3_the_server_notices_a_dead_line_and_the_page_resumes_when_it_lives_again(
    transport: Transport,
) -> None:
    # That it takes one and a half heartbeats, and no less, is shown in virtual time by the tests of the heartbeat.
    heartbeat = 1.0
    site = TestSite(limits=Limits(heartbeat=heartbeat))
    detached = Detached(site)
    loop = asyncio.get_running_loop()
    async with serving(site), FaultProxy(HOST, site.port) as proxy, Visitor(proxy.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        page = site.publisher.page(wire.page)
        assert (await wire.receive())[0] == "ping"
        sent = site.publisher.statistics().sent
        await wire.send("pong")
        await until(lambda: site.publisher.statistics().sent > sent)
        hearing = asyncio.create_task(wire.receive())
        if transport == "poll":
            await site.waiting()

        lines = swallow_all(proxy)
        dead_since = loop.time()
        await page.push("count", 1)
        assert await detached.next() == wire.page
        # Two seconds for a machine that has other things to do; two heartbeats and more would be too late all the same.
        assert loop.time() - dead_since < 1.5 * heartbeat + 2
        assert site.publisher.statistics().dropped["silent"] == 1
        await page.push("count", 2)

        # The page tries again, and hears nothing, until the network is back.
        cursor = {"epoch": wire.welcome["epoch"], "seq": wire.welcome["seq"]}
        coming = asyncio.create_task(visitor.attach(token, document=document, attempt=2, **cursor))
        await lines.get()
        back_since = loop.time()
        proxy.resume()
        again = await coming
        assert [(await again.receive())[4] for _ in range(2)] == [1, 2]

        assert again.welcome["resumed"] is True
        assert loop.time() - back_since < 1
        # Of the old one, only what was under way comes.
        assert (await hearing)[4] == 1


async def until(true: Callable[[], bool]) -> None:
    """Wait for what nothing tells."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.001)


# --- a thousand resets ------------------------------------------------------------------------------------------------

#: Of requests fewer: a page makes more than one, and what each leaves behind would show all the same.
RESETS: Final[dict[Transport, int]] = {"websocket": 1000, "stream": 300, "poll": 300}
AT_ONCE: Final = 20

#: Where the lines are reset: before the first byte, and at four later points of a conversation.
STAGES: Final[tuple[Callable[[Link], None], ...]] = (
    lambda link: link.up.cut_after(0, reset=True),
    lambda link: link.down.cut_when(after_header, reset=True),
    lambda link: link.down.cut_when(after_frame(b'["welcome"'), reset=True),
    lambda link: link.down.cut_when(inside_frame(b'"story"'), reset=True),
    lambda link: link.up.cut_when(after_frame(b'["send"'), reset=True),
)

#: The same where messages are text, each over the connection on which it comes.
TEXT_STAGES: Final[tuple[Callable[[Link], None], ...]] = (
    STAGES[0],
    STAGES[1],
    lambda link: link.down.cut_when(behind(b'["welcome",{'), reset=True),
    lambda link: link.down.cut_when(behind(b'"page","sto'), reset=True),
    lambda link: link.up.cut_when(behind(b'["send", 1, 2, "story", "once upon a time"]]'), reset=True),
)


def behind(text: bytes) -> Rule:
    """Cut behind some bytes."""

    def rule(before: bytearray, chunk: bytes) -> int | None:
        place = (before + chunk).find(text)
        return None if place < 0 else max(0, place + len(text) - len(before))

    return rule


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def talk_until_reset(visitor: Visitor, token: str) -> None:
    try:
        wire = await visitor.open()
        await wire.hello(token)
        await wire.receive()
        await wire.send("send", 1, 2, "story", "once upon a time")
        await wire.closed()
    except (OSError, EOFError, InvalidHandshake, ConnectionClosed, SocketClosed):
        return  # at whatever stage it was


async def test_fault_4_a_storm_of_resets_leaves_nothing_behind(transport: Transport) -> None:
    time = Time()
    # A page whose poll was answered, wherever the answer went, is given up when it is silent.
    resets = RESETS[transport]
    limits = Limits(heartbeat=1, held=resets, session_sockets=resets, session_pages=resets)
    broker = MemoryBroker(limits, clock=time)
    table = DelegateTableDef()

    @table.on("story")
    async def story(page: pagews.Page, data: str) -> str:
        await page.push("story", data)
        return data + ", there was a line"

    site = TestSite(delegates=table, broker=broker, limits=limits)
    attached, gone = list[str](), list[str]()

    async def note_attached(page: pagews.Page) -> None:
        attached.append(page.id)

    async def note_gone(page: pagews.Page) -> None:
        gone.append(page.id)

    get_site(site.app).publisher.on_attach.append(note_attached)
    get_site(site.app).publisher.on_gone.append(note_gone)
    async with serving(site):
        tasks, files = asyncio.all_tasks(), descriptors()
        async with FaultProxy(HOST, site.port) as proxy:
            stages = itertools.cycle(STAGES if transport == "websocket" else TEXT_STAGES)
            async with Visitor(proxy.url, transport) as visitor:
                for _ in range(0, resets, AT_ONCE):
                    proxy.on_connect = None
                    tokens = [await visitor.token() for _ in range(AT_ONCE)]
                    proxy.on_connect = next(stages)
                    await asyncio.gather(*(talk_until_reset(visitor, token) for token in tokens))
            assert proxy.counts["reset"] == resets
        await until(lambda: not get_site(site.app).sockets)
        left = asyncio.all_tasks() - tasks
        if left:
            await asyncio.wait(left, timeout=10)

        assert asyncio.all_tasks() - tasks == set()
        assert descriptors() <= files
        node = get_site(site.app).node
        statistics = site.publisher.statistics()
        assert (statistics.attached, statistics.sockets) == (0, 0)
        assert node.pages == {}
        assert node.hub.listeners("topic:story") == ()
        assert not get_site(site.app).held
        # Those that were attached are known until nobody can come back to them, and then are gone, each once.
        for _ in range(round(limits.retention) + 10):
            time.now += 1
            broker.tick()
        assert len(broker._records) == 0
        assert len(attached) == len(set(attached)) >= resets * 3 // 5
        await until(lambda: len(gone) >= len(attached))
        assert sorted(gone) == sorted(attached)


# --- two sockets of one document --------------------------------------------------------------------------------------


async def test_fault_23_old_and_new_socket_overlap(transport: Transport) -> None:
    runs = Runs()
    site = TestSite(delegates=runs.table)
    async with serving(site), FaultProxy(HOST, site.port) as proxy, Visitor(proxy.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        old = await visitor.attach(token, document=document)
        page = site.publisher.page(old.page)
        await page.push("growl", 1)
        assert (await old.receive())[4] == 1
        hearing = asyncio.create_task(old.receive())
        if transport == "poll":
            await site.waiting()
        # What is under way in both directions stays under way: a send, a push, and soon the close of this socket.
        lines = swallow_all(proxy)
        await old.send("send", 1, 2, "count", "once")
        if transport != "websocket":
            await lines.get()
        proxy.on_connect = None
        await page.push("growl", 2)
        cursor = {"epoch": old.welcome["epoch"], "seq": old.welcome["seq"] + 1}
        new = await visitor.attach(token, document=document, attempt=2, **cursor)
        assert new.welcome["resumed"] is True
        assert (await new.receive())[4] == 2
        assert await new.ask("send", 1, 2, "count", "once") == ["result", 1, True, ["counted", "once"]]
        await page.push("growl", 3)
        assert (await new.receive())[4] == 3
        assert site.publisher.statistics().attached == 1

        proxy.resume()
        heard = [await hearing]
        while heard[-1][0] != "push":
            # Of a request, what it brought has been done on the new one.
            assert heard[-1] == ["result", 1, True, ["counted", "once"]]
            heard.append(await old.receive())
        assert heard[-1][4] == 2
        closed = await old.closed()
        assert closed.code == 4509
        assert closed.reason.startswith("a newer socket of this ")
        await page.push("growl", 4)

        assert (await new.receive())[4] == 4
        assert runs.data == ["once"]
        assert site.publisher.statistics().attached == 1


def swallow_all(proxy: FaultProxy) -> asyncio.Queue[Link]:
    """Let nothing pass any more, in either direction; returns where connections to come are told."""
    lines: asyncio.Queue[Link] = asyncio.Queue()

    def swallow(link: Link) -> None:
        link.stall()
        lines.put_nowait(link)

    proxy.on_connect = swallow
    proxy.stall()
    return lines


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
