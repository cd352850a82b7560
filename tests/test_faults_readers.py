"""Pages that do not read, or not as fast as they are written to: they cost neither memory nor anybody's time."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
from websockets.exceptions import ConnectionClosed

import pagews
from pagews import DelegateTableDef, Limits
from pagews.site import get_site
from pagews.socket import OVERFLOW
from tests.sites import Detached, TestSite, serving
from tests.text_wires import Line
from tests.wire_client import Transport, Visitor, Wire, new_document

KIB: Final = 1024
MIB: Final = 1024 * KIB

#: Bytes of one large message.
LARGE: Final = 10 * KIB

LIMITS: Final = Limits(high_water=64 * KIB, channel_entries=10_000, heartbeat=600, stuck=60)

#: What holds a connection for as long as a page is attached.
HELD: Final[list[Transport]] = ["websocket", "stream"]

#: Small messages whose way to another page is timed.
SAMPLES: Final = 300


class LazyStream(Wire):
    """A stream of which nothing is read before it is asked for, and posts."""

    transport = "stream"

    def __init__(self, down: Line, up: Line) -> None:
        super().__init__()
        self._down = down
        self._up = up
        self._hello = ""
        self._events = b""

    async def send_raw(self, data: str | bytes) -> None:
        assert isinstance(data, str)
        if self._hello:
            assert (await self._up.request("/pagews/post", f"[{self._hello},{data}]".encode())).status == 200
            return
        self._hello = data
        assert (await self._down.request("/pagews/stream", data.encode(), streams=True)).status == 200
        self._chunks = self._down.chunks()

    async def next(self) -> str:
        while True:
            event, end, rest = self._events.partition(b"\n\n")
            if not end:
                self._events += await anext(self._chunks)
                continue
            self._events = rest
            if event.startswith(b"data: "):
                return event[6:].decode()

    def cut(self) -> None:
        self._down.cut()

    async def gone(self) -> None:
        """Nothing runs but what it is asked for."""


async def attach_narrow(visitor: Visitor, token: str) -> Wire:
    """Attach by a socket with a tiny receive buffer, which nothing is read from behind the test's back."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", int(visitor.url.rpartition(":")[2])))
    wire: Wire
    if visitor.transport == "stream":
        line = visitor.line()
        await line.use(narrow)
        wire = LazyStream(line, visitor.line())
    else:
        wire = await visitor.connect(sock=narrow, max_queue=1)
    await wire.hello(token)
    kind, wire.welcome, *_ = await wire.receive()
    assert kind == "welcome"
    return wire


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Readers:
    """A page that does not read, another that does, and how the server fares.

    Attributes:
        pushed: large messages so far.
        unsent: the most bytes that have ever waited for a socket.
    """

    def __init__(self, site: TestSite, slow: Wire, other: Wire) -> None:
        self.site = site
        self.slow = slow
        self.other = other
        self.pushed = 0
        self.unsent = 0

    async def push(self, count: int) -> None:
        """Push large messages to the page that does not read."""
        big = self.site.publisher.topic("big")
        for number in range(self.pushed, self.pushed + count):
            await big.push("count", [number, "x" * LARGE])
            # The output is written at the end of a turn of the loop.
            await asyncio.sleep(0)
            waiting = sum(socket._carrier.backlog() for socket in get_site(self.site.app).sockets)
            self.unsent = max(self.unsent, waiting)
        self.pushed += count

    async def push_until_it_lags(self) -> None:
        """The buffers of the kernel come first."""
        while not self.site.publisher.statistics().dropped.get("lagged"):
            assert self.pushed < 5000, "nothing lags"
            await self.push(10)

    async def times(self, large: int) -> list[float]:
        """Seconds that small messages take to the other page, with so many large ones before each."""
        small, loop, times = self.site.publisher.topic("small"), asyncio.get_running_loop(), []
        for number in range(SAMPLES):
            await self.push(large)
            before = loop.time()
            await small.push("count", number)
            assert (await self.other.receive())[4] == number
            times.append(loop.time() - before)
        return times


@asynccontextmanager
async def readers(limits: Limits, transport: Transport) -> AsyncIterator[Readers]:
    async with serving(TestSite(limits=limits)) as site, Visitor(site.url, transport) as visitor:
        other = await visitor.attach(await visitor.token("/?topic=small"))
        yield Readers(site, await attach_narrow(visitor, await visitor.token("/?topic=big")), other)


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


@pytest.mark.parametrize("transport", HELD)
async def test_fault_6_a_slow_reader_catches_up_from_the_log(transport: Transport) -> None:
    async with readers(replace(LIMITS, channel_bytes=64 * MIB), transport) as all_of_them:
        await all_of_them.push_until_it_lags()
        await all_of_them.push(1000)
        await all_of_them.site.publisher.topic("big").push("count", ["end"])

        numbers: list[int | str] = []
        while not numbers or numbers[-1] != "end":
            kind, _, to, _, data = await all_of_them.slow.receive()
            assert (kind, to) == ("push", "topic:big")
            numbers.append(data[0])

        assert numbers == [*range(all_of_them.pushed), "end"]
        # One message above the mark, and the bound of what may still be written by then: never the whole of it.
        assert all_of_them.unsent < OVERFLOW * LIMITS.high_water + 2 * LARGE


@pytest.mark.parametrize("transport", HELD)
async def test_fault_6_a_slow_reader_costs_neither_memory_nor_the_time_of_others(transport: Transport) -> None:
    async with readers(replace(LIMITS, channel_bytes=1 * MIB), transport) as all_of_them:
        alone = p99(await all_of_them.times(large=0))
        await all_of_them.push_until_it_lags()
        memory = resident()
        beside = p99(await all_of_them.times(large=30))
        pushed = SAMPLES * 30 * LARGE

        assert resident() - memory < pushed // 4
        assert all_of_them.unsent < OVERFLOW * LIMITS.high_water + 2 * LARGE
        assert all_of_them.site.publisher.statistics().bytes < 2 * MIB
        # Whoever waited for the slow one would wait for a minute. A tenth of a second is what a busy machine may take.
        assert beside < 10 * alone + 0.1
        # It is told that it has missed something, on its live socket, and goes on from there.
        kinds = []
        while "welcome" not in kinds:
            frame = await all_of_them.slow.receive()
            kinds.append(frame[0])
        assert frame[1]["lost"] == "trimmed"
        assert all_of_them.site.publisher.statistics().closed == {}


@pytest.mark.parametrize("transport", HELD)
async def test_fault_6_who_gives_up_waiting_for_a_slow_reader_does_not_end_the_wait_of_others(
    transport: Transport,
) -> None:
    async with readers(replace(LIMITS, channel_bytes=64 * MIB), transport) as all_of_them:
        await all_of_them.push_until_it_lags()
        [carrier] = [socket._carrier for socket in get_site(all_of_them.site.app).sockets if socket._carrier.backlog()]
        tasks = None
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await carrier.drain()
            tasks = tasks or asyncio.all_tasks()
            # They leave nothing that waits in their stead.
            assert asyncio.all_tasks() <= tasks
        await all_of_them.site.publisher.topic("big").push("count", ["end"])

        while (await all_of_them.slow.receive())[4] != ["end"]:
            pass
        await carrier.drain()


async def test_fault_6_an_answer_to_a_poll_has_a_bound() -> None:
    site = TestSite(limits=replace(LIMITS, channel_bytes=64 * MIB))
    async with serving(site), Visitor(site.url, "poll") as visitor:
        token, document, line = await visitor.token("/?topic=big"), new_document(), visitor.line()

        async def poll(attempt: int, **fields: Any) -> tuple[list[Any], int]:
            hello = {"token": token, "document": document, "attempt": attempt, **fields}
            answer = await line.request("/pagews/poll", json.dumps(["hello", hello]).encode())
            assert answer.status == 200
            return json.loads(answer.body), len(answer.body)

        [[_, welcome]], _ = await poll(1)
        cursor = {"epoch": welcome["epoch"], "seq": welcome["seq"]}
        waiting = asyncio.create_task(poll(2, **cursor, wait=True))
        await site.waiting()
        big = site.publisher.topic("big")
        # Many come while it waits, before anything is written to it.
        for number in range(500):
            await big.push("count", [number, "x" * LARGE])
        numbers, sizes = list[int](), list[int]()
        for attempt in itertools.count(3):
            [_, *pushes], size = await waiting
            numbers += [push[4][0] for push in pushes]
            sizes.append(size)
            if len(numbers) >= 500:
                break
            waiting = asyncio.create_task(poll(attempt, **cursor | {"seq": pushes[-1][1]}, wait=True))

        assert numbers == list(range(500))
        assert max(sizes) < max(LIMITS.high_water, LIMITS.replay_chunk) + 2 * LARGE
        assert 4509 in site.publisher.statistics().closed, "the next one follows"
        assert 4008 not in site.publisher.statistics().closed


@pytest.mark.parametrize("transport", HELD)
@pytest.mark.parametrize("sends", [False, True])
async def test_fault_7_a_reader_that_never_reads_but_keeps_sending(
    sends: bool, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long it is waited for the answer to a close frame, or the end of a stream, that nobody will read.
    monkeypatch.setattr("pagews.controller.CLOSE_TIME", 0.2)
    monkeypatch.setattr("pagews.carriers.CLOSE_TIME", 0.2)
    table = DelegateTableDef()

    @table.on("echo")
    async def echo(page: pagews.Page, data: Any) -> Any:
        return data

    limits = replace(LIMITS, heartbeat=0.2, stuck=0.5, channel_bytes=1 * MIB)
    site = TestSite(delegates=table, limits=limits)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, transport) as visitor:
        other = await visitor.attach(await visitor.token("/?topic=small"))
        deaf = await attach_narrow(visitor, await visitor.token("/?topic=big"))
        all_of_them = Readers(site, deaf, other)

        async def talk(wire: Wire) -> None:
            """Answer the pings that it has not read; and send."""
            number = 0
            try:
                while True:
                    await wire.send("pong")
                    if sends:
                        number += 1
                        await wire.send("send", number, 1, "echo", "x" * KIB)
                    await asyncio.sleep(0.01)
            except ConnectionClosed:
                return

        talking = asyncio.create_task(talk(deaf))
        answering = asyncio.create_task(answer_pings(other))
        await all_of_them.push_until_it_lags()

        assert await detached.next() == deaf.page
        assert site.publisher.statistics().closed == {4008: 1}
        # It was judged by what it reads: it has never been silent.
        assert site.publisher.statistics().dropped.get("silent", 0) == 0
        assert all_of_them.unsent < OVERFLOW * LIMITS.high_water + 2 * LARGE
        if transport == "stream":
            # A page that is merely cut may go on with its posts.
            talking.cancel()
            async with asyncio.timeout(10):
                while len(get_site(site.app).sockets) > 1:  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.01)
            # What it has not read by then is not kept for it.
            with pytest.raises((OSError, EOFError)):
                await read_to_the_end(deaf)
        async with asyncio.timeout(10):
            await asyncio.wait([talking])
            await site.publisher.topic("small").push("count", "end")
            assert await answering == "end"
        assert site.publisher.statistics().attached == 1


async def read_to_the_end(wire: Wire) -> None:
    """Take what comes, until nothing can."""
    while True:
        await wire.receive()


async def answer_pings(wire: Wire) -> Any:
    """Live on until a push comes; returns its data."""
    while (frame := await wire.receive())[0] == "ping":
        await wire.send("pong")
    return frame[4]
