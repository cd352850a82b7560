"""Several workers on one port: started, started again when one dies, and ended together."""

import asyncio
import importlib.util
import os
import signal
import socket
import string
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

from cryptography.fernet import Fernet

from demo.redis_server import RedisServer

START_WITHIN = 30.0  # seconds
END_WITHIN = 15.0
PAUSE = 1.0  # from one start of a worker to its next, at least

MOST = len(string.ascii_uppercase)


class Failed(Exception):
    """The demo cannot go on; says why."""


def run(workers: int, host: str, port: int, redis: str | None) -> None:
    """Serves the demo until SIGINT or SIGTERM.

    Arguments:
        port: 0: any.
        redis: the address of a Redis; None: one is started, and ended in the end.

    Raises:
        Failed: the port is taken, there is no Redis, no redis-py, or a worker cannot be started.
    """
    if importlib.util.find_spec("redis") is None:
        raise Failed("several workers need redis-py: pip install 'pagews[redis]'")
    with reserve(host, port) as reserved:
        asyncio.run(serve(workers, host, reserved.getsockname()[1], redis))


async def serve(workers: int, host: str, port: int, redis: str | None) -> None:
    if redis is not None:
        await supervise(workers, host, port, redis, "the Redis that it was given")
        return
    try:
        async with RedisServer() as server:
            supervising = asyncio.create_task(supervise(workers, host, port, server.url, str(server)))
            ended = asyncio.create_task(server.ended())
            await asyncio.wait([supervising, ended], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not supervising.done():
                supervising.cancel()
                await asyncio.wait([supervising])
                raise Failed("redis-server has ended")
            supervising.result()
    except OSError as error:
        raise Failed(str(error)) from error


def reserve(host: str, port: int) -> socket.socket:
    """A socket that nobody connects to. As long as it is there, the port is kept for sockets of the same kind."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Beside those of another demo the workers would share its visitors: it must be nobody's.
        with socket.create_server((host, port), family=family) as free:
            port = free.getsockname()[1]
        reserved = socket.socket(family)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host, port))
    except OSError as error:
        raise Failed(f"port {port} of {host}: {error.strerror}") from error
    return reserved


async def supervise(workers: int, host: str, port: int, redis: str, whose: str) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    secret_key = os.environ.get("PAGEWS_SECRET_KEY") or Fernet.generate_key().decode()
    environment = {**os.environ, "REDIS_URL": redis, "PAGEWS_SECRET_KEY": secret_key}
    crew = [Worker(name, host, port, environment) for name in string.ascii_uppercase[:workers]]
    keeping: list[asyncio.Task[None]] = []
    try:
        await asyncio.gather(*(worker.start() for worker in crew))
        print(f"{workers} workers serve http://{host}:{port} on {whose}; Ctrl-C ends them", flush=True)
        keeping = [asyncio.create_task(worker.keep()) for worker in crew]
        await stopped.wait()
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in crew))


class Worker:
    """A place among the workers: one process after the other. Those after the first are called A2, A3 and so on."""

    def __init__(self, name: str, host: str, port: int, environment: dict[str, str]) -> None:
        self._place = name
        self._name = name
        self._host = host
        self._port = port
        self._environment = environment
        self._starts = 0
        self._process: Process | None = None

    async def start(self) -> None:
        """Returns when it listens. Raises Failed when it does not; then it has ended."""
        self._starts += 1
        self._name = f"{self._place}{self._starts if self._starts > 1 else ''}"
        try:
            # In a session of its own: Ctrl-C means the demo, which ends its workers in order.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "demo.worker", self._name, self._host, str(self._port)),
                stdin=PIPE,
                stdout=PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise Failed(f"worker {self._name} has not started: {error}") from error
        assert self._process.stdout is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(START_WITHIN):
                if await self._process.stdout.readline():
                    return
        # If it hangs, whoever waits for its end to start another one would wait for ever.
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        raise Failed(f"worker {self._name} has not started")

    async def keep(self) -> None:
        """Starts it again whenever it dies."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            assert self._process is not None
            status = await self._process.wait()
            print(
                f"worker {self._name}, process {self._process.pid}, has ended ({status}); another one starts",
                flush=True,
            )
            await asyncio.sleep(max(0, started + PAUSE - loop.time()))
            try:
                await self.start()
            except Failed as error:
                print(error, flush=True)

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(END_WITHIN):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
