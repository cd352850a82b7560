"""Connections that break at the worst moments, through a TCP proxy: nothing is missing, nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

import pagews
from pagews import DelegateTableDef, Limits
from tests.faults import HOST, FaultProxy, Link, after_frame, inside_frame
from tests.sites import TestSite, serving
from tests.wire_client import Document, Push, Visitor

#: How many messages, and after how many of them something breaks.
MESSAGES: Final = 2000
STEP: Final = 100

LIMITS: Final = Limits(channel_entries=2 * MESSAGES, results_kept=2 * MESSAGES, sends_waiting=2 * MESSAGES)


class Upward:
    """A server delegate that notes every run, and can be held in the middle of one."""

    def __init__(self) -> None:
        self.table = DelegateTableDef()
        self.runs: list[Any] = []
        self.inside = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        self._changed = asyncio.Event()

        @self.table.on("count")
        async def count(page: pagews.Page, data: Any) -> Any:
            self.runs.append(data)
            self._changed.set()
            self.inside.set()
            await self.go.wait()
            return data

    async def until(self, runs: int) -> None:
        async with asyncio.timeout(30):
            while len(self.runs) < runs:
                self._changed.clear()
                await self._changed.wait()


class Line:
    """A page behind a proxy, and a word for each way to break its connection.

    Attributes:
        killed: every way in which it has been broken, with how the connection ended.
    """

    def __init__(self, site: TestSite, upward: Upward, proxy: FaultProxy, document: Document) -> None:
        self.site = site
        self.upward = upward
        self.proxy = proxy
        self.document = document
        self.killed: list[tuple[str, str | None]] = []

    @property
    def link(self) -> Link:
        """The connection that the document has now."""
        return self.proxy.links[-1]

    async def attached(self, times: int) -> None:
        """Wait until it has been welcomed so often."""
        await self.document.until(lambda document: len(document.welcomes) >= times)

    async def ended(self, kind: str, link: Link) -> None:
        """Note that a kill has happened, once it has."""
        async with asyncio.timeout(10):
            await link.ended()
        self.killed.append((kind, link.how))


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    upward = Upward()
    async with (
        serving(TestSite(delegates=upward.table, limits=LIMITS)) as site,
        FaultProxy(HOST, site.port) as proxy,
        # The page comes directly; only its sockets break.
        Visitor(proxy.url) as visitor,
    ):
        token = await visitor.token("/?topic=news")
        await visitor.http.close()
        async with Document(visitor, token) as document:
            line = Line(site, upward, proxy, document)
            await line.attached(1)
            yield line


Speak = Callable[[Line, int], Awaitable[None]]


async def push(line: Line, number: int) -> None:
    await line.site.publisher.topic("news").push("count", number)


async def send(line: Line, number: int) -> None:
    await line.document.send("count", number, qos=2)


# --- the ways to break it ---------------------------------------------------------------------------------------------


async def on_an_idle_link(line: Line, speak: Speak, number: int) -> None:
    """Nothing is under way: everything before has been answered."""
    link = line.link
    await line.document.until(lambda document: len(document.received) + len(document.results) >= number)
    assert not line.document.waiting
    link.cut()
    await line.ended("idle", link)
    await speak(line, number)


async def before_hello(line: Line, speak: Speak, number: int) -> None:
    """The next connection breaks behind the upgrade: its hello does not arrive."""
    before = len(line.proxy.links)
    line.proxy.on_upgrade = lambda link: link.up.cut_when(after_upgrade)
    line.link.cut()
    await speak(line, number)
    broken = await until_link(line, before)
    await line.ended("before hello", broken)
    line.proxy.on_upgrade = None
    assert b"101 Switching" in broken.down.data
    assert b"\r\n\r\n" in broken.up.data
    assert not any(b"hello" in frame.payload for frame in frames_up(broken))
