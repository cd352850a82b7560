"""The guides for many workers and for pushes from outside, on a real Redis."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from pytest_aiohttp import AiohttpClient

import pagews
from pagews.testing import Browser
from pagews.tokens import new_key
from tests.faults import HOST
from tests.markdown import Example, rows
from tests.ports import free_port
from tests.redis_server import RedisServer

WORKERS = "docs/how-to/many-workers.md"
OUTSIDE = "docs/how-to/push-from-outside.md"
PATIENCE = 30.0


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    return Example(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def environment(redis: RedisServer, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """What all processes share."""
    monkeypatch.setenv("REDIS_URL", redis.url)
    monkeypatch.setenv("PAGEWS_SECRET_KEY", new_key())
    monkeypatch.setenv("PYTHONPATH", str(root))


async def test_page_moves_from_one_worker_to_the_other(example: Example, aiohttp_client: AiohttpClient) -> None:
    module = example.write(WORKERS).load("app")
    first, second = [await aiohttp_client(module.make_app()) for _ in range(2)]
    browser = Browser(first)
    page = await browser.open("/")
    for client in (first, second):
        assert await page.expect("served") == f"Served by process {os.getpid()}."
        await page.cut()
        await pagews.get_publisher(client.app).topic("news").push("headline", "while it was away")
        second.session.cookie_jar.update_cookies(first.session.cookie_jar.filter_cookies(first.make_url("/")))
        browser.client = second
        await page.connect()
        assert await page.expect("headline") == "while it was away"
    assert page.lost == []
    await page.close()


async def process_ids(port: int, count: int) -> set[int]:
    """Ask until so many processes have answered."""
    found: set[int] = set()
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        while len(found) < count:
            try:
                async with session.get(f"http://{HOST}:{port}/", headers={"Connection": "close"}) as response:
                    [pid] = re.findall(r"by process (\d+)", await response.text())
                    found.add(int(pid))
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    return found


async def test_two_processes_listen_on_one_port(example: Example) -> None:
    example.write(WORKERS)
    port = free_port()
    command = [sys.executable, "app.py", str(port)]
    processes = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL) for _ in range(2)]
    try:
        assert await process_ids(port, 2) == {process.pid for process in processes}
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [await asyncio.wait_for(process.wait(), PATIENCE) for process in processes]
    assert codes == [0, 0]


async def test_job_pushes(example: Example, redis: RedisServer) -> None:
    module = example.write(OUTSIDE).load("report")
    for _ in range(2):
        await module.main(redis.url, "ann")

    entries = await redis.command("XRANGE", "pagews:channel:user:ann", "-", "+")
    states = [re.findall(r'"state":"(\w+)"', entry["b"])[0] for _, entry in entries]
    assert states == ["begun", "done", "begun"]


def test_options_of_the_command(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pagews", "push", "--help"], capture_output=True, check=True, text=True, timeout=60
    )
    told = {name for row in rows((root / OUTSIDE).read_text()) for name in re.findall(r"--\w+", row[0])}
    assert told == set(re.findall(r"^ +(--\w+)", done.stdout, re.MULTILINE))
