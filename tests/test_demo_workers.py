"""The demo with several workers: what it starts, what it ends, and what its panels do across processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from pytest_aiohttp import AiohttpClient

from demo import reconnect
from demo.app import create_app
from pagews.testing import Browser, PageStandIn
from pagews.tokens import new_key
from tests.redis_server import RedisServer

HTML: Final = {"Accept": "text/html"}
PATIENCE: Final = 30.0

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(root: Path) -> AsyncIterator[Start]:
    """Starts `python -m demo` with arguments; what still runs in the end is interrupted."""
    started: list[Process] = []

    async def start_demo(*arguments: str, **environment: str) -> Process:
        without_redis = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "demo", "--port", "0", *arguments),
            cwd=root,
            env=without_redis | environment,
            stdout=PIPE,
            stderr=STDOUT,
        )
        started.append(process)
        return process

    yield start_demo
    for process in started:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), PATIENCE)


async def said(process: Process) -> str:
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    return output.decode()


async def ports(process: Process) -> list[int]:
    """Where the site and its Redis are, from what the demo says when all workers listen."""
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()
    found = re.search(r"http://127\.0\.0\.1:(\d+) on .*port (\d+)", line)
    assert found, line
    return [int(port) for port in found.groups()]


async def nobody_listens(port: int) -> None:
    """Return when a connection is refused."""
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await asyncio.sleep(0.05)


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("redis_program")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_ends_all(start: Start, number: signal.Signals) -> None:
    demo = await start("--workers", "2")
    both = await ports(demo)

    demo.send_signal(number)

    assert await said(demo) == ""
    assert demo.returncode == 0
    for port in both:
        await nobody_listens(port)


@pytest.mark.usefixtures("redis_program")
async def test_nothing_outlives_a_demo_that_is_killed(start: Start) -> None:
    demo = await start("--workers", "2")
    both = await ports(demo)

    demo.kill()

    for port in both:
        await nobody_listens(port)


async def test_given_redis_is_used(start: Start, redis: RedisServer) -> None:
    demo = await start("--workers", "2", REDIS_URL=redis.url)
    assert demo.stdout is not None

    assert b"on the Redis that it was given" in await asyncio.wait_for(demo.stdout.readline(), PATIENCE)

    assert await redis.command("EXISTS", "pagews-demo:log")
    assert not await redis.command("KEYS", "pagews:*")


async def test_machine_without_redis_is_told_what_to_install(start: Start, tmp_path: Path) -> None:
    demo = await start("--workers", "2", PATH=str(tmp_path))

    assert "apt-get install redis-server" in await said(demo)
    assert demo.returncode == 1


async def test_port_of_another_is_not_shared(start: Start) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        demo = await start("--workers", "2", "--port", str(other.getsockname()[1]))

        assert "Address already in use" in await said(demo)

    assert demo.returncode == 1


# --- panels -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def browsers(aiohttp_client: AiohttpClient, redis: RedisServer) -> AsyncIterator[list[Browser]]:
    """One browser at each of two workers."""
    key = new_key()
    apps = [create_app(key, broker=redis.url, worker=name) for name in ("A", "B")]
    async with Browser(await aiohttp_client(apps[0])) as first, Browser(await aiohttp_client(apps[1])) as second:
        yield [first, second]


async def move(page: PageStandIn, here: Browser, there: Browser) -> None:
    """Let a page that is cut off come back to another worker."""
    cookies = here.client.session.cookie_jar.filter_cookies(here.client.make_url("/"))
    there.client.session.cookie_jar.update_cookies(cookies, there.client.make_url("/"))
    here.client = there.client
    await page.connect()


async def test_one_process_has_no_button_that_kills_it(aiohttp_client: AiohttpClient) -> None:
    async with Browser(await aiohttp_client(create_app(new_key()))) as browser:
        page = await browser.open("/")
        assert "worker" not in page.html


async def test_page_is_told_who_serves_it(browsers: list[Browser]) -> None:
    page = await browsers[0].open("/")
    assert "<dd>A</dd>" in page.html
    assert await page.expect("worker") == {"name": "A", "pid": os.getpid()}


async def test_only_the_worker_of_the_page_is_killed(browsers: list[Browser], monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("demo.workers.os.kill", lambda pid, number: killed.append(pid))
    page = await browsers[0].open("/")
    worker = await page.expect("worker")

    for pid in (1, worker["pid"] + 1, worker["pid"]):
        await page.send("worker_kill", {"pid": pid})

    assert killed == [worker["pid"]]


async def test_chat_is_one_for_all_workers(browsers: list[Browser]) -> None:
    ann, bob = [await browser.open("/") for browser in browsers]
    for page, name in ((ann, "Ann"), (bob, "Bob")):
        await page.send("chat_name", {"name": name})
        await page.join("chat")
        if page is ann:
            await ann.send("chat_arrive")
            await ann.send("chat_say", {"text": "Hello?"})

    assert await bob.send("chat_arrive") == [{"name": "Ann", "text": "Hello?"}]
    assert await bob.expect("chat_people") == ["Ann", "Bob"]
    await bob.send("chat_say", {"text": "Here."})
    assert await ann.expect("chat_line") == {"name": "Ann", "text": "Hello?"}
    assert await ann.expect("chat_line") == {"name": "Bob", "text": "Here."}


async def test_stream_moves_with_its_page(browsers: list[Browser], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "RATE", 200.0)
    monkeypatch.setattr(reconnect, "TOTAL", 100)
    first, second = browsers
    page = await first.open("/")
    await page.send("stream_start", {"run": 1})
    app: Any = first.client.app
    [stream] = app[reconnect.STREAMS].tasks.values()
    await page.expect("number")
    await page.cut()
    # As if its process was killed.
    stream.cancel()
    await move(page, first, second)

    assert await page.expect("stream_end", timeout=PATIENCE) == {"run": 1, "sent": 100}
    numbers = [message.data["number"] for message in page.received if message.delegate == "number"]
    assert numbers == list(range(1, 101))
