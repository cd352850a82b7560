"""A measured server's process, from its start to its end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import TracebackType

from benchmarks import accounting
from benchmarks.errors import MeasurementFailed

_ROOT = Path(__file__).resolve().parent.parent
_ANSWER_SECONDS = 30
_END_SECONDS = 15


class ServerProcess:
    """``async with ServerProcess("benchmarks.servers.plain") as server``: listening within, ended afterwards."""

    def __init__(self, module: str) -> None:
        self._module = module
        self.port = 0

    async def __aenter__(self) -> ServerProcess:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, cwd=_ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
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
        self.command("collect")
        await self._answer()
        return accounting.resident_bytes(self._process.pid)

    async def attached(self, count: int) -> None:
        """Wait until the server has exactly so many pages attached."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            while True:
                self.command("attached")
                if int(await self._answer()) == count:
                    return
                await asyncio.sleep(0.02)

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
