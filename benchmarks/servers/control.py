"""Runs an application and does what the measuring process asks for, line by line."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

Action = Callable[[range], Awaitable[None]]

# A crowd that comes back at once must not wait for lost packets: the queue of every server takes it whole.
_BACKLOG = 4096
# Long enough for some thousand sockets to see that their peer has gone.
_SHUTDOWN_SECONDS = 2


class Bench(ABC):
    """What every measured server can do. `numbers` are those of the messages; see `benchmarks.payload`."""

    @abstractmethod
    def attached(self) -> int:
        """How many pages are attached."""

    def waiting(self) -> int:
        """How many polls wait for something to tell."""
        return 0

    @abstractmethod
    async def broadcast(self, numbers: range) -> None:
        """Send each number to all pages, all in one turn of the loop."""

    async def bulk(self, numbers: range) -> None:
        """Send each number to all pages as cheaply as it can, but in this order."""
        await self.broadcast(numbers)

    async def look(self) -> None:  # noqa: B027 - most keep their pages themselves
        """Look up which pages are attached now, if that is not known anyway."""

    def actions(self) -> Mapping[str, Action]:
        """What it can be told to do with numbers."""
        return {"broadcast": self.broadcast, "bulk": self.bulk}


class PageBench(Bench):
    """One that sends to single pages, too."""

    @abstractmethod
    async def burst(self, numbers: range) -> None:
        """Send each page these numbers one after the other, addressed to that page, in one turn of the loop."""

    @abstractmethod
    async def single(self, numbers: range) -> None:
        """Send the page that attached last these numbers, saying when."""

    def actions(self) -> Mapping[str, Action]:
        return {**super().actions(), "burst": self.burst, "single": self.single}


async def run(app: web.Application, bench: Bench) -> None:
    """Serve on a free port, print it, and obey until standard input ends."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=_BACKLOG).start()
    print(runner.addresses[0][1], flush=True)
    loop = asyncio.get_running_loop()
    actions = bench.actions()
    ended = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    def read_commands() -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            ended.set()
            return
        for line in data.decode().splitlines():
            task = loop.create_task(_obey(bench, actions, line, tuple(tasks)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    loop.add_reader(sys.stdin.fileno(), read_commands)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    await runner.cleanup()


async def _obey(bench: Bench, actions: Mapping[str, Action], line: str, before: Sequence[asyncio.Task[None]]) -> None:
    """The measuring process writes one command at a time, in one small write, so that a line is never cut."""
    name, *arguments = line.split()
    if name == "collect":
        gc.collect()
        print("collected", flush=True)
    elif name == "attached":
        print(bench.attached(), flush=True)
    elif name == "waiting":
        print(bench.waiting(), flush=True)
    elif name == "look":
        await bench.look()
        print("looked", flush=True)
    elif name == "settle":
        await asyncio.gather(*before)
        print("settled", flush=True)
    elif name == "holdings":
        print(len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), bench.attached(), flush=True)
    else:
        first, count = map(int, arguments)
        await actions[name](range(first, first + count))
