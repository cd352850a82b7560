"""A measured server's process, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from benchmarks import accounting
from benchmarks.errors import MeasurementFailed

_ROOT = Path(__file__).resolve().parent.parent
_ANSWER_SECONDS = 30
_END_SECONDS = 15
_POLL_SECONDS = 0.02


class Holdings(NamedTuple):
    """What a server holds for its pages."""

    tasks: int
    files: int
    pages: int


class ServerProcess:
    """``async with ServerProcess("benchmarks.servers.plain", core) as server``: listening within, ended afterwards.

    It stays on `core`: what moves between cores finds its caches cold, and what shares one with the load client waits.
    """

    def __init__(self, module: str, core: int | None, arguments: Sequence[str] = ()) -> None:
        self._module = module
        self._arguments = arguments
        self._core = core
        self.port = 0

    async def __aenter__(self) -> ServerProcess:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module, *self._arguments),
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        if self._core is not None:
            os.sched_setaffinity(self._process.pid, {self._core})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout
        try:
            self.port = int(await self._answer())
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def command(self, name: str, *arguments: int) -> None:
        """Tell the server to do something that is seen on its sockets."""
        self._commands.write(" ".join((name, *map(str, arguments))).encode() + b"\n")

    def cpu_seconds(self) -> float:
        return accounting.cpu_seconds(self._process.pid)

    async def resident_bytes(self) -> int:
        """Resident memory after garbage has been collected."""
        await self.collect()
        return accounting.resident_bytes(self._process.pid)

    async def collect(self) -> None:
        """Collect the server's garbage, so that what it finds next is its own."""
        await self._ask("collect")

    async def look(self) -> None:
        """Let the server look up which pages are attached, where it has to."""
        await self._ask("look")

    async def settle(self) -> None:
        """Wait until the server has done all that it was told."""
        await self._ask("settle")

    async def attached(self, count: int) -> None:
        """Wait until the server has exactly so many pages attached."""
        await self._until("attached", count)

    async def waiting(self, count: int) -> None:
        """Wait until exactly so many polls wait for something to tell."""
        await self._until("waiting", count)

    async def holdings(self, at_most: Holdings | None = None, seconds: float = 5) -> Holdings:
        """What the server holds, once that is steady and, within these seconds, no more than `at_most`."""
        end = time.monotonic() + seconds
        before = None
        while True:
            found = Holdings(*map(int, (await self._ask("holdings")).split()))
            enough = at_most is None or all(map(int.__le__, found, at_most))
            if (found == before and enough) or time.monotonic() > end:
                return found
            before = found
            await asyncio.sleep(_POLL_SECONDS)

    async def _until(self, question: str, count: int) -> None:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while True:
                if int(await self._ask(question)) == count:
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def _ask(self, question: str) -> str:
        self.command(question)
        return await self._answer()

    async def _answer(self) -> str:
        async with asyncio.timeout(_ANSWER_SECONDS):
            line = await self._answers.readline()
        if not line:
            raise MeasurementFailed(f"{self._module} ended by itself; its errors stand above")
        return line.decode().strip()

    async def _end(self) -> None:
        self._commands.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
