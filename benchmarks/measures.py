"""One slice of work for one server with its load client, as one figure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial

from benchmarks.dialects import Dialect, Pagews, Plain, SocketIO
from benchmarks.http_dialects import PagewsPoll, PagewsStream
from benchmarks.load import Connection, Load
from benchmarks.payload import made_at, numbered
from benchmarks.process import ServerProcess
from benchmarks.visits import Visit, fetch_visits

BURST = 10
_WARM_UP_PAGES = 50


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and how its browsers speak."""

    name: str
    module: str
    dialect: type[Dialect]
    arguments: tuple[str, ...] = ()
    """What its process is told at its start."""


PAGEWS = Contender("pagews", "benchmarks.servers.pagews_app", Pagews)
PLAIN = Contender("plain", "benchmarks.servers.plain", Plain)
STREAM = Contender("pagews", "benchmarks.servers.pagews_app", PagewsStream)
POLL = Contender("pagews", "benchmarks.servers.pagews_app", PagewsPoll)
SOCKETIO = Contender("socketio", "benchmarks.servers.socketio_peer", SocketIO)
CHANNELS = Contender("channels", "benchmarks.servers.channels_peer", Plain)


@asynccontextmanager
async def measuring(contender: Contender, core: int | None) -> AsyncIterator[Measurement]:
    """A fresh process of this server, warmed up, and ended afterwards."""
    async with ServerProcess(contender.module, core, contender.arguments) as server:
        with closing(Load(contender.dialect(), server.port)) as load:
            measurement = Measurement(contender, server, load)
            await measurement.warm_up()
            yield measurement
            load.check()


class Measurement:
    """A server with its load client."""

    def __init__(self, contender: Contender, server: ServerProcess, load: Load) -> None:
        self.contender = contender
        self.server = server
        self.load = load

    async def warm_up(self) -> None:
        """Walk every path with pages that leave again, so that what is loaded once is not counted."""
        await self.attach(await self.fetch(_WARM_UP_PAGES))
        await self.server.look()
        for _ in range(3):
            await self._deliver("broadcast", 1)
            await self._deliver("burst", BURST)
        await self.leave()

    async def collect(self) -> None:
        """Collect the server's garbage."""
        await self.server.collect()

    async def fetch(self, pages: int) -> list[Visit]:
        """Load so many pages over HTTP."""
        return await fetch_visits(self.server.port, pages)

    async def attach(self, visits: Sequence[Visit]) -> float:
        """CPU seconds of attaching these pages, beside those that are attached."""
        cpu = self.server.cpu_seconds()
        await self.load.attach(visits)
        await self.server.attached(len(self.load.connections))
        await self._all_wait()
        return self.server.cpu_seconds() - cpu

    async def leave(self) -> None:
        """Cut all pages, and wait until the server knows."""
        self.load.cut()
        await self.server.attached(0)

    async def broadcast(self, messages: int) -> float:
        """CPU microseconds per message, one broadcast at a time to all pages."""
        return await self.deliveries("broadcast", messages)

    async def broadcast_burst(self) -> float:
        """The same with ten broadcasts in one turn of the server's loop."""
        return await self.deliveries("broadcast", count=BURST)

    async def burst(self) -> float:
        """CPU microseconds per message, ten messages addressed to each page at a time."""
        return await self.deliveries("burst", count=BURST)

    async def deliveries(self, command: str, messages: int = 0, count: int = 1) -> float:
        """CPU microseconds per message when all pages are sent `count` at a time, until so many messages are through,
        at least once.
        """
        pages = len(self.load.connections)
        times = max(1, messages // (pages * count))
        cpu = self.server.cpu_seconds()
        for _ in range(times):
            await self._deliver(command, count)
        return (self.server.cpu_seconds() - cpu) / (times * count * pages) * 1e6

    async def latencies(self, messages: int) -> list[float]:
        """Microseconds from the server's call to the load client's read, for messages to one page among idle ones."""
        page = self.load.connections[-1]
        latencies = []
        for _ in range(messages):
            await self.load.deliver([page], 1, partial(self.server.command, "single"))
            latencies.append((page.last_arrival_ns - made_at(page.last_delivery)) / 1000)
        return latencies

    async def echo(self, pages: int, qos: int) -> float:
        """CPU microseconds of a message from a page and its answer, one at a time, once for each of so many pages."""
        connections = self.load.connections[:pages]
        cpu = self.server.cpu_seconds()
        for page in connections:
            await self.load.deliver([page], 1, partial(_ask_echo, page, qos))
        return (self.server.cpu_seconds() - cpu) / len(connections) * 1e6

    async def idle(self, seconds: float) -> float:
        """Percent of a core that the server uses while nothing happens but heartbeats."""
        cpu = self.server.cpu_seconds()
        await asyncio.sleep(seconds)
        self.load.check()
        return (self.server.cpu_seconds() - cpu) / seconds * 100

    async def _deliver(self, command: str, count: int) -> None:
        await self.load.deliver(self.load.connections, count, partial(self.server.command, command))
        await self._all_wait()

    async def _all_wait(self) -> None:
        """Where pages ask again for every message, that is part of what the message before it costs."""
        if self.load.dialect.asks_again:
            await self.server.waiting(len(self.load.connections))


def _ask_echo(page: Connection, qos: int, number: int, count: int) -> None:
    page.send_echo(numbered(number), qos)
