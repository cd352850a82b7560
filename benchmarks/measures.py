"""What is measured on one server with its load, each as one figure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial

from benchmarks.dialects import Dialect, Pagews, Plain, SocketIO
from benchmarks.load import Connection, Load
from benchmarks.payload import made_at, numbered
from benchmarks.process import ServerProcess
from benchmarks.visits import fetch_visits

BURST = 10
_WARM_UP_PAGES = 50


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and how its browsers speak."""

    name: str
    module: str
    dialect: type[Dialect]


PAGEWS = Contender("pagews", "benchmarks.servers.pagews_app", Pagews)
PLAIN = Contender("plain", "benchmarks.servers.plain", Plain)
SOCKETIO = Contender("socketio", "benchmarks.servers.socketio_peer", SocketIO)


@dataclass(frozen=True, slots=True)
class Attached:
    """What it cost to bring pages here."""

    rendered_kilobytes: float
    """Growth of memory for each page that was rendered and not attached."""
    attach_microseconds: float
    """CPU time of one upgrade until the page can be pushed to; its rendering is not counted."""
    attached_kilobytes: float
    """Growth of memory for each attached idle page."""


@asynccontextmanager
async def measuring(contender: Contender) -> AsyncIterator[Measurement]:
    """A fresh process of this server, warmed up, and ended afterwards."""
    async with ServerProcess(contender.module) as server:
        await _warm_up(server, contender.dialect())
        with closing(Load(contender.dialect(), server.port)) as load:
            yield Measurement(server, load)
            load.check()


async def _warm_up(server: ServerProcess, dialect: Dialect) -> None:
    """Walk every path with pages that leave again, so that what is loaded once is not counted."""
    with closing(Load(dialect, server.port)) as load:
        await load.attach(await fetch_visits(server.port, _WARM_UP_PAGES))
        await server.attached(_WARM_UP_PAGES)
        for _ in range(3):
            await load.deliver(load.connections, 1, partial(server.command, "broadcast"))
            await load.deliver(load.connections, BURST, partial(server.command, "burst"))
    await server.attached(0)


class Measurement:
    """A server with its load client."""

    def __init__(self, server: ServerProcess, load: Load) -> None:
        self._server = server
        self._load = load

    async def attach(self, pages: int) -> Attached:
        """Attach more pages until there are so many."""
        pages -= len(self._load.connections)
        empty = await self._server.resident_bytes()
        visits = await fetch_visits(self._server.port, pages)
        rendered = await self._server.resident_bytes()
        cpu = self._server.cpu_seconds()
        await self._load.attach(visits)
        cpu = self._server.cpu_seconds() - cpu
        await self._server.attached(len(self._load.connections))
        attached = await self._server.resident_bytes()
        return Attached(
            rendered_kilobytes=(rendered - empty) / pages / 1000,
            attach_microseconds=cpu / pages * 1e6,
            attached_kilobytes=(attached - rendered) / pages / 1000,
        )

    async def broadcast(self, messages: int) -> float:
        """CPU microseconds per message, one broadcast at a time to all pages."""
        return await self._deliver_all("broadcast", 1, messages)

    async def broadcast_burst(self, messages: int) -> float:
        """The same with ten broadcasts in one turn of the server's loop."""
        return await self._deliver_all("broadcast", BURST, messages)

    async def burst(self, messages: int) -> float:
        """CPU microseconds per message, ten messages addressed to each page at a time."""
        return await self._deliver_all("burst", BURST, messages)

    async def latency(self, messages: int) -> list[float]:
        """Microseconds from the server's call to the load client's read, for messages to one page among idle ones."""
        page = self._load.connections[-1]
        latencies = []
        for _ in range(messages):
            await self._load.deliver([page], 1, partial(self._server.command, "single"))
            latencies.append((page.last_arrival_ns - made_at(page.last_delivery)) / 1000)
        return latencies

    async def echo(self) -> float:
        """CPU microseconds of a message from a page and its answer, one at a time, once for each page."""
        connections, dialect = self._load.connections, self._load.dialect
        cpu = self._server.cpu_seconds()
        for page in connections:
            await self._load.deliver([page], 1, partial(_ask_echo, page, dialect))
        return (self._server.cpu_seconds() - cpu) / len(connections) * 1e6

    async def idle(self, seconds: float) -> float:
        """Percent of a core that the server uses while nothing happens but heartbeats."""
        cpu = self._server.cpu_seconds()
        await asyncio.sleep(seconds)
        self._load.check()
        return (self._server.cpu_seconds() - cpu) / seconds * 100

    async def _deliver_all(self, command: str, count: int, messages: int) -> float:
        connections = self._load.connections
        times = max(3, messages // (len(connections) * count))
        await self._load.deliver(connections, count, partial(self._server.command, command))
        cpu = self._server.cpu_seconds()
        for _ in range(times):
            await self._load.deliver(connections, count, partial(self._server.command, command))
        return (self._server.cpu_seconds() - cpu) / (times * count * len(connections)) * 1e6


def _ask_echo(page: Connection, dialect: Dialect, number: int, count: int) -> None:
    page.write(dialect.echo(numbered(number)))
