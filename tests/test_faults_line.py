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
from tests.faults import HOST, FaultProxy, Link, Rule, after_frame, after_header, before_frame, inside_frame
from tests.sites import Detached, TestSite, serving
from tests.wire_client import Closed, Document, Push, SocketClosed, Transport, Visitor, new_document


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
async def behind_a_proxy(table: DelegateTableDef) -> AsyncIterator[tuple[TestSite, FaultProxy, Document, Link]]:
    async with (
        serving(TestSite(delegates=table)) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url) as visitor,
        Document(visitor, await visitor.token()) as document,
    ):
        await document.until(lambda document: bool(document.welcomes))
        yield site, proxy, document, await proxy.upgraded()


async def test_fault_2_a_result_is_lost_on_its_way_down() -> None:
    runs = Runs()
    async with behind_a_proxy(runs.table) as (_, proxy, document, link):
        link.down.cut_when(before_frame(b'["result"'))
        await document.send("count", "once", qos=2)
        await document.until(lambda document: bool(document.results))

        assert link.how == "cut"
        assert runs.data == ["once"]
        assert document.results == {1: [True, ["counted", "once"]]}
        assert len(document.welcomes) == 2
        assert proxy.counts["upgraded"] == 2


@pytest.mark.parametrize(("lane", "lost"), [("up", b'["ack"'), ("down", b'["acked"')])
async def test_fault_2_an_answer_is_lost_on_its_way_up_or_its_confirmation_down(lane: str, lost: bytes) -> None:
    async with behind_a_proxy(DelegateTableDef()) as (site, proxy, document, link):
        shown: list[Any] = []

        async def show(push: Push) -> str:
            shown.append(push.data)
            return "yes"

        document.delegate = show
        getattr(link, lane).cut_when(before_frame(lost))
        receipt = await site.publisher.page(document.welcomes[0]["page"]).push("confirm", "Sure?", qos=2)
        answers = await receipt.wait(count=2, timeout=0.1) or await receipt.wait(count=1)
        await document.until(lambda document: not document.unanswered)

        assert link.how == "cut"
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

        tried = asyncio.Event()

        def swallow(link: Link) -> None:
            link.stall()
            tried.set()

        proxy.on_connect = swallow
        proxy.stall()
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
        await tried.wait()
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

RESETS: Final = 1000
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
    limits = Limits(heartbeat=1, held=RESETS)
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
                for _ in range(0, RESETS, AT_ONCE):
                    proxy.on_connect = None
                    tokens = [await visitor.token() for _ in range(AT_ONCE)]
                    proxy.on_connect = next(stages)
                    await asyncio.gather(*(talk_until_reset(visitor, token) for token in tokens))
            assert proxy.counts["reset"] == RESETS
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
        assert len(attached) == len(set(attached)) >= RESETS * 3 // 5
        await until(lambda: len(gone) >= len(attached))
        assert sorted(gone) == sorted(attached)


# --- two sockets of one document --------------------------------------------------------------------------------------


async def test_fault_23_old_and_new_socket_overlap() -> None:
    runs = Runs()
    site = TestSite(delegates=runs.table)
    async with serving(site), FaultProxy(HOST, site.port) as proxy, Visitor(proxy.url) as visitor:
        token, document = await visitor.token(), new_document()
        old = await visitor.attach(token, document=document)
        page = site.publisher.page(old.page)
        await page.push("growl", 1)
        assert (await old.receive())[4] == 1
        line = await proxy.upgraded()
        # What is under way in both directions stays under way: a send, a push, and soon the close of this socket.
        line.stall()
        await old.send("send", 1, 2, "count", "once")
        await page.push("growl", 2)
        cursor = {"epoch": old.welcome["epoch"], "seq": old.welcome["seq"] + 1}
        new = await visitor.attach(token, document=document, attempt=2, **cursor)
        assert new.welcome["resumed"] is True
        assert (await new.receive())[4] == 2
        assert await new.ask("send", 1, 2, "count", "once") == ["result", 1, True, ["counted", "once"]]
        await page.push("growl", 3)
        assert (await new.receive())[4] == 3
        assert site.publisher.statistics().attached == 1

        line.resume()
        assert (await old.receive())[4] == 2
        assert await old.closed() == Closed(4509, "a newer socket of this page is here")
        await page.push("growl", 4)

        assert (await new.receive())[4] == 4
        assert runs.data == ["once"]
        assert site.publisher.statistics().attached == 1
