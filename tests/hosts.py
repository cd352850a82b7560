"""Two hosts on one machine, each a network namespace of its own, and the cable between them.

    async with two_hosts(redis_program, directory, lease=3.0) as (one, two, cable):
        await two.push(1)
        await cable.cut()

Redis and a worker run on host one, a second worker on host two; all that these two hosts say to each other goes over
the cable. A worker's own listening socket is of the machine's network, as if each host had a second one, which leads to
the browsers: a test connects to it at 127.0.0.1.

A namespace has no name, and lasts for as long as a process is in it: nothing is left of it, however the tests end.

`python -m tests.hosts SOCKET KEY URL LEASE` is the worker: SOCKET is the number of the listening socket that it has
inherited.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from aiohttp import web

from pagews import BrokerUnavailable, Limits, get_publisher
from pagews.tokens import new_key
from tests.faults import HOST
from tests.sites import TestSite
from tests.two_workers import TIMES

ROOT: Final = Path(__file__).resolve().parent.parent

#: The two ends of the cable, in a network where nobody else is.
ADDRESSES: Final = ("10.0.0.1", "10.0.0.2")

#: How each host reaches Redis: host one by itself, whatever becomes of the cable.
REDIS: Final = (f"redis://{HOST}:6379/0", f"redis://{ADDRESSES[0]}:6379/0")

#: What begins the reason to skip a test that even on CI may be skipped.
KERNEL_FORBIDS: Final = "the kernel forbids network namespaces"

#: Seconds that a process may take until it is ready.
PATIENCE: Final = 30.0

_CABLE: Final = "cable"

#: What begins a command that ends with this process, however that ends.
_MORTAL: Final = ("setpriv", "--pdeathsig", "KILL")

#: Whoever is not root is so among users of its own, where the kernel lets it.
_AS_ROOT: Final = () if os.geteuid() == 0 else ("--user", "--map-root-user")
_AS_THAT_ROOT: Final = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")


class HostsForbidden(Exception):
    """The kernel does not let this user make network namespaces, or join them."""


def check_hosts() -> None:
    """Raises HostsForbidden when there can be no hosts, FileNotFoundError when a program for it is missing."""
    if shutil.which("ip") is None:
        raise FileNotFoundError("there is no `ip`, of the package iproute2")
    command = ["unshare", *_AS_ROOT, "--net", "ip", "link", "add", _CABLE, "type", "veth"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if tried.returncode:
        raise HostsForbidden(f"{KERNEL_FORBIDS}: {tried.stderr.strip()}")


class Pushed(NamedTuple):
    """What became of a push on a host: whether it failed with `BrokerUnavailable`, whether it may have happened
    nevertheless, and how many seconds that took.
    """

    failed: bool
    unknown: bool
    seconds: float


class Host:
    """One of the two, with its worker.

    Attributes:
        url: of its worker, for browsers.
    """

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def push(self, data: object) -> Pushed:
        """Let its worker push to the topic `news`, once. The same data again is the same push again."""
        async with self._http.post(f"{self.url}/push", json=data) as response:
            assert response.status == 200, await response.text()
            return Pushed(*await response.json())

    async def attached_here(self) -> int:
        """How many pages have a socket at its worker."""
        async with self._http.get(f"{self.url}/attached") as response:
            return int(await response.text())

    async def pages(self) -> list[str]:
        """The ids of the topic's pages on all hosts, as this one knows them."""
        async with self._http.get(f"{self.url}/pages") as response:
            return [str(page) for page in await response.json()]


class Cable:
    """What connects the hosts. Cut, it carries nothing, and nobody is told: whoever waits for an answer gets none."""

    def __init__(self, end: tuple[str, ...]) -> None:
        self._end = end

    async def cut(self) -> None:
        await _run(*self._end, "ip", "link", "set", _CABLE, "down")

    async def mend(self) -> None:
        await _run(*self._end, "ip", "link", "set", _CABLE, "up")


@asynccontextmanager
async def two_hosts(redis_program: Path, directory: Path, *, lease: float) -> AsyncIterator[tuple[Host, Host, Cable]]:
    """Host one, which has Redis, host two, and what connects them.

    Arguments:
        directory: an empty one, for Redis. lease: seconds after which a silent worker is taken for dead.
    """
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(_namespace())
        second = await stack.enter_async_context(_namespace(*_inside(first)))
        ends = (_inside(first), _inside(second))
        # Host one's own end is what a cut takes down: at the other end nothing is to be seen but silence.
        await _run(*ends[0], *f"ip link add {_CABLE} type veth peer name {_CABLE} netns {second}".split())
        for end, address in zip(ends, ADDRESSES, strict=True):
            await _run(*end, "ip", "link", "set", "lo", "up")
            await _run(*end, *f"ip address add {address}/30 dev {_CABLE}".split())
            await _run(*end, *f"ip link set {_CABLE} up".split())
        settings = ["--bind", HOST, ADDRESSES[0], "--protected-mode", "no", "--save", "", "--dir", str(directory)]
        server = await stack.enter_async_context(_process(*ends[0], *_MORTAL, str(redis_program), *settings))
        await _said(server, b"Ready to accept connections")
        http = await stack.enter_async_context(aiohttp.ClientSession())
        key, hosts, workers = new_key(), [], []
        for end, url in zip(ends, REDIS, strict=True):
            with socket.create_server((HOST, 0)) as listener:
                arguments = [str(listener.fileno()), key, url, str(lease)]
                command = [*end, *_MORTAL, sys.executable, "-m", "tests.hosts", *arguments]
                workers.append(await stack.enter_async_context(_process(*command, inherits=[listener.fileno()])))
                hosts.append(Host(f"http://{HOST}:{listener.getsockname()[1]}", http))
        for worker in workers:
            await _said(worker, b"listens")
        yield hosts[0], hosts[1], Cable(ends[0])


# --- processes --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _namespace(*where: str) -> AsyncIterator[int]:
    """The id of a process that holds a network namespace. `where`: what begins a command for the users it is among."""
    user = () if where else _AS_ROOT
    async with _process(*where, "unshare", *user, "--net", "sh", "-c", "echo made; exec cat") as holder:
        await _said(holder, b"made")
        yield holder.pid


def _inside(namespace: int) -> tuple[str, ...]:
    """What begins a command that runs there."""
    return ("nsenter", "--target", str(namespace), "--net", *_AS_THAT_ROOT)


@asynccontextmanager
async def _process(*command: str, inherits: Sequence[int] = ()) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, which has ended afterwards. Its input ends with this one, and so does `cat`, however that ends."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, pass_fds=inherits
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _said(process: asyncio.subprocess.Process, what: bytes) -> None:
    """Wait until a process has written a line with this in it."""
    assert process.stdout is not None
    lines: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        while not lines or what not in lines[-1]:
            lines.append(await process.stdout.readline())
            assert lines[-1], b"".join(lines)


async def _run(*command: str) -> None:
    async with _process(*command) as process:
        assert await process.wait() == 0, command


# --- the worker -------------------------------------------------------------------------------------------------------


async def _push(request: web.Request) -> web.Response:
    data = await request.json()
    started = time.monotonic()
    failed, unknown = False, False
    try:
        await get_publisher(request.app).topic("news").push("show", data, key=f"push {data}")
    except BrokerUnavailable as error:
        failed, unknown = True, error.unknown
    return web.json_response(Pushed(failed, unknown, time.monotonic() - started))


async def _attached(request: web.Request) -> web.Response:
    return web.json_response(get_publisher(request.app).statistics().attached)


async def _pages(request: web.Request) -> web.Response:
    return web.json_response([page.id for page in await get_publisher(request.app).topic("news").pages()])


def main() -> None:
    listener, key, url, lease = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
    limits = Limits(**{**TIMES, "heartbeat": 8.0, "lease": lease})
    app = TestSite(key=key, broker=url, limits=limits).app
    app.router.add_post("/push", _push)
    app.router.add_get("/attached", _attached)
    app.router.add_get("/pages", _pages)
    web.run_app(app, sock=socket.socket(fileno=listener), access_log=None, print=lambda _: print("listens", flush=True))


if __name__ == "__main__":
    main()
