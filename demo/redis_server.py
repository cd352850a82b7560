"""A Redis for as long as the demo runs: on a free port of 127.0.0.1, with its data in memory alone."""

import asyncio
import shutil
import socket
import tempfile
from asyncio.subprocess import DEVNULL
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
PROGRAMS = ("redis-server", "valkey-server")
START_WITHIN = 10.0  # seconds

MISSING = """\
Several workers need a Redis, and there is none on this machine. One of these helps:

    sudo apt-get install redis-server         Debian, Ubuntu (or valkey-server)
    brew install redis                        macOS
    --redis redis://HOST:PORT                 one that runs already; also as REDIS_URL in the environment"""


class RedisServer:
    """The process: ``async with RedisServer() as server``. Raises `OSError` when it cannot be started."""

    def __init__(self) -> None:
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise FileNotFoundError(MISSING)
        self._program = program
        self._port = free_port()

    def __str__(self) -> str:
        return f"a redis-server of its own, port {self._port}"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self._port}/0"

    async def __aenter__(self) -> Self:
        # Where there is setpriv, it ends with the demo also when that is killed.
        setpriv = shutil.which("setpriv")
        command = [*([setpriv, "--pdeathsig", "TERM"] if setpriv else []), self._program]
        self._directory = tempfile.TemporaryDirectory(prefix="pagews-demo-")
        settings = {
            "bind": HOST,
            "port": str(self._port),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "dir": self._directory.name,
            "logfile": "log",
        }
        for name, value in settings.items():
            command += [f"--{name}", value]
        # In a session of its own: Ctrl-C means the demo, which needs it until its workers have ended.
        self._process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, start_new_session=True)
        try:
            async with asyncio.timeout(START_WITHIN):
                await self._accepts()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        self._directory.cleanup()

    async def ended(self) -> None:
        """Returns when the process has ended."""
        await self._process.wait()

    async def _accepts(self) -> None:
        while self._process.returncode is None:
            try:
                _, writer = await asyncio.open_connection(HOST, self._port)
            except ConnectionError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        raise ChildProcessError(f"{self._program} has ended at once")


def free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
        return port
