"""Floods of what is worth nothing: when they are over, nothing of them is left, and no memory is gone.

What resets leave behind is in `test_faults_line.py`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from pagews import Context, Upload
from pagews.page import PageSession
from pagews.site import get_site
from pagews.socket import Socket
from tests.fuzz_site import Bench, frame
from tests.test_fuzz import own_fields
from tests.test_routes import JSON, MULTIPART, URLENCODED

#: How many come before the flood: what only the first ones need is there then.
FIRST: Final = 100
#: How many come at once: fewer than one browser session may have of anything.
AT_ONCE: Final = 4

#: What each brings. If it were kept, it would show.
BALLAST: Final = "x" * 24 * 1024
#: Bytes by which the process may grow, which is a quarter of what a flood brings, or less.
GROWTH: Final = 3 * 1024 * 1024

#: One of a flood: its number, and the site that it comes to.
Drop = Callable[[Bench, int], Awaitable[object]]


async def a_socket_that_vanishes(bench: Bench, number: int) -> None:
    _, writer = await bench.upgrade()
    writer.write(frame(BALLAST.encode(), size=60_000))
    writer.transport.abort()
    assert await bench.ends.get() == 1006


async def a_bad_hello(bench: Bench, number: int) -> None:
    hello = json.dumps(["hello", {"token": f"{number}{BALLAST}", "document": "d" * 32, "attempt": 1}])
    code, _ = await bench.send_after_upgrade(frame(hello.encode()))
    assert code == 4500


async def a_bad_frame(bench: Bench, number: int) -> None:
    code, _ = await bench.send_after_upgrade(frame(bench.hello().encode()) + frame(f'["{number}{BALLAST}"]'.encode()))
    assert code == 4501


async def a_bad_body(bench: Bench, number: int) -> None:
    path = ("stream", "poll", "post", "renew")[number % 4]
    body = f'[["{number}{BALLAST}'.encode()
    answer = await bench.request("POST", f"/pagews/{path}", body, kind=JSON, to_its_end=path == "stream")
    assert answer.status == (400 if path == "renew" else 200)


async def a_bad_token(bench: Bench, number: int) -> None:
    body = json.dumps({"token": f"{number}{BALLAST}"}).encode()
    assert (await bench.request("POST", "/pagews/renew", body, kind=JSON)).status == 403


async def a_bad_form(bench: Bench, number: int) -> None:
    answer = await bench.request("POST", "/pagews/form", f"{number}={BALLAST}".encode(), kind=URLENCODED)
    assert answer.status == 400


async def a_stream_that_is_cut(bench: Bench, number: int) -> None:
    hello = bench.hello(transport="stream", later=BALLAST).encode()
    assert (await bench.request("POST", "/pagews/stream", hello, kind=JSON)).status == 200


async def an_upload_that_is_cut(bench: Bench, number: int) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    # More of the file than is kept in memory.
    begun = own_fields(MULTIPART, bench.token) + part + 4 * BALLAST.encode()
    broken = bench.refused().get("broken body", 0)
    writer = await bench.begin("POST", "/pagews/form", begun, length=2**20, kind=MULTIPART)
    async with asyncio.timeout(10):
        while get_site(bench.app).uploads.total() == 0:  # noqa: ASYNC110  # nobody is told of it
            await asyncio.sleep(0)
        writer.transport.abort()
        while bench.refused().get("broken body", 0) == broken:  # noqa: ASYNC110
            await asyncio.sleep(0)


#: Each with how many there are.
FLOODS: Final[dict[Drop, int]] = {
    a_socket_that_vanishes: 500,
    a_bad_hello: 500,
    a_bad_frame: 500,
    a_bad_body: 500,
    a_bad_token: 500,
    a_bad_form: 500,
    a_stream_that_is_cut: 500,
    an_upload_that_is_cut: 200,
}


def left(bench: Bench) -> dict[str, int]:
    """What is there of what a flood may leave behind."""
    site = get_site(bench.app)
    return {
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")),
        "sockets": len(site.sockets),
        "endings": len(site.endings),
        "held": site.held.total(),
        "uploads": site.uploads.total(),
        "posts": len(site.posts),
        "pages": len(site.node.pages),
        "listeners": len(site.node.hub.pages()),
        "jobs": len(site.node.jobs.at_work()),
    }


def memory() -> int:
    """Bytes that the process has, when all that nobody refers to is let go of."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def kept() -> int:
    """How many requests, sockets and files there are that somebody refers to."""
    gc.collect()
    return sum(type(one) in (web.Request, Context, Socket, PageSession, Upload) for one in gc.get_objects())


async def flood(bench: Bench, drop: Drop, count: int) -> None:
    """Let them come, and wait until all that must end has ended."""
    before = left(bench)
    numbers = iter(range(count))

    async def pour() -> None:
        for number in numbers:
            await drop(bench, number)

    await asyncio.gather(*(pour() for _ in range(AT_ONCE)))
    async with asyncio.timeout(10):
        while any(count > before[name] for name, count in left(bench).items()):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("drop", FLOODS, ids=lambda drop: drop.__name__)
def test_a_flood_leaves_nothing_behind(drop: Drop) -> None:
    with Bench() as bench:
        bench.run(flood(bench, drop, FIRST))
        before, things = memory(), kept()
        bench.run(flood(bench, drop, FLOODS[drop]))

        assert kept() < things + 20  # whatever is under way
        assert memory() - before < GROWTH


#: It is a process of its own, for pytest sets warnings up anew.
WARNINGS: Final = """
import aiohttp.multipart
from tests.fuzz_site import Bench
from tests.test_routes import MULTIPART

with Bench() as bench:
    for number in range(20):
        body = f"--b\\r\\nContent-Disposition: no {number} name\\r\\n\\r\\nx\\r\\n--b--\\r\\n".encode()
        assert bench.run(bench.request("POST", "/pagews/form", body, kind=MULTIPART)).status == 400
print(len(getattr(aiohttp.multipart, "__warningregistry__", {})))
"""


def test_what_aiohttp_warns_of_is_not_kept(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WARNINGS], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stderr == ""
    assert int(done.stdout) <= 1  # the version of the filters
