"""Runs an application and does what the measuring process asks for, line by line."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from abc import ABC, abstractmethod

from aiohttp import web

# Long enough for some thousand sockets to see that their peer has gone.
_SHUTDOWN_SECONDS = 2


class Bench(ABC):
    """What every measured server can do. `numbers` are those of the messages; see `benchmarks.payload`."""

    @abstractmethod
    def attached(self) -> int:
        """How many pages are attached."""

    @abstractmethod
    async def broadcast(self, numbers: range) -> None:
        """Send each number to all pages, all in one turn of the loop."""

    @abstractmethod
    async def burst(self, numbers: range) -> None:
        """Send each page these numbers one after the other, addressed to that page, in one turn of the loop."""

    @abstractmethod
    async def single(self, numbers: range) -> None:
        """Send the page that attached last these numbers, saying when."""


async def run(app: web.Application, bench: Bench) -> None:
    """Serve on a free port, print it, and obey until standard input ends."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    def read_commands() -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            ended.set()
            return
        for line in data.decode().splitlines():
            task = loop.create_task(_obey(bench, line))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    loop.add_reader(sys.stdin.fileno(), read_commands)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    await runner.cleanup()


async def _obey(bench: Bench, line: str) -> None:
    """The measuring process writes one command at a time, in one small write, so that a line is never cut."""
    name, *arguments = line.split()
    if name == "collect":
        gc.collect()
        print("collected", flush=True)
    elif name == "attached":
        print(bench.attached(), flush=True)
    else:
        first, count = map(int, arguments)
        action = {"broadcast": bench.broadcast, "burst": bench.burst, "single": bench.single}[name]
        await action(range(first, first + count))
