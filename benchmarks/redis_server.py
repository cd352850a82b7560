"""A Redis for as long as something is measured on it, and what it says of itself."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from asyncio.subprocess import DEVNULL
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from benchmarks import accounting
from benchmarks.errors import MeasurementFailed

_HOST = "127.0.0.1"
_START_SECONDS = 10
_POLL_SECONDS = 0.02


class RedisServer:
    """``async with RedisServer(program) as server``: on a free port, with its data in memory alone.

    It has the core of the load client, which has little to do beside it: the servers are measured.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        self._port = _free_port()

    @property
    def url(self) -> str:
        return f"redis://{_HOST}:{self._port}/0"

    async def __aenter__(self) -> RedisServer:
        # Where there is setpriv, it ends with the benchmark also when that is killed.
        setpriv = shutil.which("setpriv")
        command = [*([setpriv, "--pdeathsig", "KILL"] if setpriv else []), str(self._program)]
        self._directory = tempfile.TemporaryDirectory(prefix="pagews-bench-")
        settings = {
            "bind": _HOST,
            "port": str(self._port),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "dir": self._directory.name,
            "logfile": "log",
        }
        for name, value in settings.items():
            command += [f"--{name}", value]
        self._process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL)
        self._client = redis.Redis(host=_HOST, port=self._port, decode_responses=True)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._accepts()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def cpu_seconds(self) -> float:
        return accounting.cpu_seconds(self._process.pid)

    def memory(self) -> int:
        """Bytes that it has allocated, but for the buffers of its clients, which come and go."""
        memory: dict[str, Any] = self._client.info("memory")
        return int(memory["used_memory"]) - int(memory["mem_clients_normal"])

    async def until_listening(self, channel: str, nodes: int) -> None:
        """Wait until so many nodes listen to a pub/sub channel."""
        async with asyncio.timeout(_START_SECONDS):
            while True:
                if self._client.pubsub_numsub(channel)[0][1] == nodes:
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def _accepts(self) -> None:
        while self._process.returncode is None:
            try:
                self._client.ping()
            except redis.ConnectionError:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return
        raise MeasurementFailed(f"{self._program} has ended at once")

    async def _end(self) -> None:
        self._client.close()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._directory.cleanup()


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as free:
        port: int = free.getsockname()[1]
        return port
