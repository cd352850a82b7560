"""Several workers on one port, killed one after the other under a running stream."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest_asyncio
from playwright.async_api import expect

from .conftest import OpenTab
from .journal import PATIENCE
from .tab import Tab

KILLS: Final = 5


@pytest_asyncio.fixture(loop_scope="session")
async def demo(redis_program: Path, root: Path) -> AsyncIterator[str]:
    """The demo with three workers on a Redis of its own; its address."""
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    environment["PATH"] = os.pathsep.join([str(redis_program.parent), environment.get("PATH", os.defpath)])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demo", "--workers", "3", "--port", "0"),
        cwd=root,
        env=environment,
        stdout=PIPE,
        stderr=STDOUT,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        said = (await process.stdout.readline()).decode()
    address = re.search(r"http://[^\s;]+", said)
    assert address, said
    yield address[0]
    process.send_signal(signal.SIGINT)
    rest, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, rest
    assert len(re.findall(r"has ended \(-9\); another one starts", rest.decode())) == KILLS


async def text(tab: Tab, name: str) -> str:
    return await tab.page.locator(f"#{name}").inner_text()


async def test_stream_goes_on_while_workers_are_killed(demo: str, open_tab: OpenTab) -> None:
    tab = await open_tab()
    tab.network_fails = True
    await tab.open(demo)
    await tab.page.click("#stream-start")
    await expect(tab.page.locator("#count-received")).not_to_have_text("0")

    for killed in range(1, KILLS + 1):
        before = int(await text(tab, "count-received"))
        await tab.page.click("#worker-kill", timeout=PATIENCE * 1000)
        await expect(tab.page.locator("#count-killed")).to_have_text(str(killed), timeout=PATIENCE * 1000)
        await tab.page.wait_for_function(
            "before => Number(document.getElementById('count-received').textContent) > before + 3", arg=before
        )

    await tab.page.click("#stream-stop")
    await expect(tab.page.locator("#stream-status")).to_have_text("Stopped.")
    assert (await text(tab, "count-missing"), await text(tab, "count-repeated")) == ("0", "0")
    assert await text(tab, "count-received") == await text(tab, "count-sent")
    workers = await tab.page.locator("#worker-log .by").all_inner_texts()
    assert len(workers) == KILLS + 1
    assert await tab.page.locator(".pill [data-pagews-text]").inner_text() == workers[-1]
