"""Two workers of one application on one Redis, and pages that look closely.

    async with two_workers(redis.url) as (a, b), open_page(a) as page:
        await b.publisher.topic("news").push("show", 1)
        await page.until(lambda: page.shown == [1])

The two are applications of their own in this process, each with its own connections to Redis. What has to be killed is
a process of `tests.redis_worker`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

from aiosignal import Signal

from pagews import BrokerUnavailable, Limits, Page
from pagews.redis_broker import RedisBroker
from pagews.site import get_site
from pagews.tokens import new_key
from tests.sites import TestSite, serving
from tests.wire_client import Closed, SocketClosed, Visitor, Wire, new_document

#: Short enough for a test, long enough for a machine that is busy.
TIMES: Final[dict[str, Any]] = {"lease": 1.5, "broker": 1.0, "heartbeat": 2.0, "drain_window": 0.2, "drain_grace": 2.0}
LIMITS: Final = Limits(**TIMES)

#: Seconds that anything may take. The tests wait for events; this only ends those that never come.
PATIENCE: Final = 15.0


@asynccontextmanager
async def two_workers(
    url: str, second_url: str | None = None, **setup: Any
) -> AsyncIterator[tuple[TestSite, TestSite]]:
    """Two workers that serve.

    Arguments:
        url: of their Redis; `second_url`: how the second one reaches it, if otherwise.
        setup: what both are set up with, instead of `LIMITS` and a key of their own.
    """
    setup = {"key": new_key(), "limits": LIMITS, **setup}
    first, second = TestSite(broker=url, **setup), TestSite(broker=second_url or url, **setup)
    async with serving(first), serving(second):
        yield first, second


def broker_of(site: TestSite) -> RedisBroker:
    """The broker of a worker."""
    broker = get_site(site.app).node.broker
    assert isinstance(broker, RedisBroker)
    return broker


async def until(true: Callable[[], Awaitable[bool] | bool]) -> None:
    """Wait until something is so of which nobody tells."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)


async def push_when_back(site: TestSite, data: object) -> None:
    """Push to the topic `news`, again and again until Redis takes it: what a job does that must not lose it."""

    async def push() -> bool:
        try:
            await site.publisher.topic("news").push("show", data, key=f"job {data}")
        except BrokerUnavailable:
            return False
        return True

    await until(push)


async def attached(site: TestSite, topic: str = "news") -> list[str]:
    """The ids of a topic's pages that are attached, as one worker knows them."""
    return sorted(page.id for page in await site.publisher.topic(topic).pages())


def note(signal: Signal[Page]) -> list[str]:
    """The ids of the pages that a signal is sent for, as they come; asked for before the first."""
    told: list[str] = []

    async def receive(page: Page) -> None:
        told.append(page.id)

    signal.append(receive)
    return told


class OpenPage:
    """One document on one socket after another, which keeps all that it is told.

    Arguments:
        visitor: opens its sockets. token: its page's.

    Attributes:
        frames: what came. welcomes: of those the welcomes.
        shown: the data of every push, as its delegates were shown them: each number once.
        results: the answers to its sends, by id.
        closed: how its newest socket has ended.
        cursor: where it would read on.
    """

    def __init__(self, visitor: Visitor, token: str, document: str | None = None) -> None:
        self.frames: list[list[Any]] = []
        self.welcomes: list[dict[str, Any]] = []
        self.shown: list[Any] = []
        self.results: dict[int, list[Any]] = {}
        self.closed: Closed | None = None
        self.cursor: dict[str, Any] = {}
        self.repeated = 0
        self._visitor = visitor
        self._token = token
        self._document = document or new_document()
        self._attempts = itertools.count(1)
        self._wire: Wire
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.attach()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cut()

    @property
    def id(self) -> str:
        """Its page's."""
        return str(self.welcomes[-1]["page"])

    @property
    def lost(self) -> list[str | None]:
        """What each welcome said of its cursor."""
        return [welcome["lost"] for welcome in self.welcomes]

    async def attach(self, url: str | None = None) -> None:
        """Say hello by a new socket, at `url` if it is another worker's; returns when it is welcomed."""
        await self.hello(url)
        count = len(self.welcomes)
        await self.until(lambda: len(self.welcomes) > count or self.closed is not None)
        assert self.closed is None, self.closed

    async def hello(self, url: str | None = None) -> None:
        """Say hello by a new socket, and do not wait for the welcome."""
        self._visitor.url = url or self._visitor.url
        before = self._reading
        self._wire = wire = await self._visitor.open()
        self.closed = None
        if before is not None:
            before.cancel()
            await asyncio.wait([before])
        await wire.hello(self._token, document=self._document, attempt=next(self._attempts), **self.cursor)
        self._reading = asyncio.create_task(self._read(wire))

    async def cut(self) -> None:
        """Break its connection."""
        self._wire.cut()
        await self._wire.gone()
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def send(self, *frame: object) -> None:
        """Send a frame."""
        await self._wire.send(*frame)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so of what it was told."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"came: {self.frames!r}, ended: {self.closed!r}") from None

    async def until_shown(self, *data: Any) -> None:
        """Wait until it was shown just this, in this order."""
        await self.until(lambda: self.shown == list(data))

    async def until_told(self, *lost: str | None) -> None:
        """Wait until its welcomes have said this of its cursor; sent away with 1012, it comes back."""
        while self.lost != list(lost):
            await self.until(lambda: self.lost == list(lost) or self.closed is not None)
            if self.closed is not None:
                assert self.closed.code == 1012, self.closed
                await self.hello()

    async def _read(self, wire: Wire) -> None:
        try:
            while True:
                frame = await wire.receive()
                self.frames.append(frame)
                await self._take(frame)
                self._changed.set()
        except SocketClosed as end:
            self.closed = Closed(end.code, end.reason)
        self._changed.set()

    async def _take(self, frame: list[Any]) -> None:
        match frame:
            case ["welcome", dict() as fields]:
                self.welcomes.append(fields)
                if not self.cursor or fields["lost"]:
                    self.cursor = {"epoch": fields["epoch"], "seq": fields["seq"]}
            case ["push", seq, _, _, data, *receipt]:
                if seq and seq <= self.cursor["seq"]:
                    self.repeated += 1
                    return
                self.cursor["seq"] = seq or self.cursor["seq"]
                self.shown.append(data)
                if receipt:
                    with suppress(ConnectionError):
                        await self._wire.send("ack", receipt[0], True, data)
            case ["ping", seq]:
                self.cursor["seq"] = max(self.cursor["seq"], seq)
                await self._wire.send("pong")
            case ["result", number, *outcome]:
                self.results[number] = outcome


@asynccontextmanager
async def open_page(site: TestSite, path: str = "/?topic=news") -> AsyncIterator[OpenPage]:
    """A page that a browser of its own has rendered, and attached, at one worker."""
    async with Visitor(site.url) as visitor, OpenPage(visitor, await visitor.token(path)) as page:
        yield page
