"""A small site with pagews, served on 127.0.0.1 for as long as a test needs it, by one process or as if by several."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

import aiohttp_jinja2
import jinja2
from aiohttp import web

import pagews
from pagews.site import get_site
from pagews.tokens import new_key
from tests.wire_client import SocketClosed, Wire

_TEMPLATES: Final = {"page.html": "<!doctype html><title>A page</title>{{ pagews_script() }}"}

View = Callable[[web.Request], Awaitable[None]]


class Served(abc.ABC):
    """A site at one address, whoever it is that serves it.

    Attributes:
        workers: the applications that do.
    """

    workers: Sequence[TestSite]

    @property
    @abc.abstractmethod
    def publisher(self) -> pagews.Publisher:
        """That of the worker whose turn it is."""

    @property
    @abc.abstractmethod
    def port(self) -> int:
        """Where it listens."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Begin to serve."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Stop serving; also in the middle of a test."""

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def topic(self, name: str) -> ByTurns:
        """A topic, for more than one push."""
        return ByTurns(self, lambda publisher: publisher.topic(name))

    def page(self, page_id: str) -> ByTurns:
        """A page, for more than one push."""
        return ByTurns(self, lambda publisher: publisher.page(page_id))

    def total(self, count: Callable[[pagews.Statistics], int]) -> int:
        """The sum of what every worker has counted."""
        return sum(count(worker.publisher.statistics()) for worker in self.workers)

    async def attached(self, count: int) -> None:
        """Wait until so many pages are attached: a worker that a page has left hears of it a moment later."""
        async with asyncio.timeout(10):
            while self.total(lambda statistics: statistics.attached) != count:  # noqa: ASYNC110  # nobody is told
                await asyncio.sleep(0.001)

    async def waiting(self, count: int = 1) -> None:
        """Wait until so many streams and polls are held."""
        sites = [get_site(worker.app) for worker in self.workers]
        async with asyncio.timeout(10):
            while sum(site.held.total() for site in sites) < count:  # noqa: ASYNC110  # nobody is told of such a begin
                await asyncio.sleep(0)

    async def break_off(self, wire: Wire) -> None:
        """Cut a socket where the server notices it at once: of polls, while one waits."""
        receiving = asyncio.create_task(wire.receive())
        if wire.transport == "poll":
            await self.waiting()
        wire.cut()
        await asyncio.wait([receiving])
        assert isinstance(receiving.exception(), SocketClosed)


class ByTurns:
    """A target, to which the workers of a site push by turns."""

    def __init__(self, site: Served, target: Callable[[pagews.Publisher], pagews.Target]) -> None:
        self._site = site
        self._target = target

    async def push(self, delegate: str, data: Any, **options: Any) -> None:
        """As `push` of a target."""
        await self._target(self._site.publisher).push(delegate, data, **options)


class TestSite(Served):
    """An application with pagews, and the server that it runs on.

    `/` renders a page that listens to what `?topic=` names; `/login?user=` and `/logout` change the identity.

    Arguments:
        view: called when `/` is rendered, with the page open already.
        key: a secret key of the test's own.
        handler_cancellation: aiohttp's: whether a client that is cut cancels what its request runs.
        setup: what else `pagews.setup()` takes.
    """

    __test__ = False

    def __init__(
        self, *, view: View | None = None, key: str | None = None, handler_cancellation: bool = False, **setup: Any
    ) -> None:
        self.key = key or new_key()
        self.app = web.Application()
        self.workers = (self,)
        self._view = view
        self.runner = web.AppRunner(self.app, access_log=None, handler_cancellation=handler_cancellation)
        aiohttp_jinja2.setup(self.app, loader=jinja2.DictLoader(_TEMPLATES))
        pagews.setup(self.app, **{"secret_key": self.key, **setup})
        self.app.router.add_get("/", self._page)
        self.app.router.add_get("/login", self._login)
        self.app.router.add_get("/logout", self._logout)

    @property
    def publisher(self) -> pagews.Publisher:
        return pagews.get_publisher(self.app)

    @property
    def port(self) -> int:
        return int(self.runner.addresses[0][1])

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()

    async def stop(self) -> None:
        await self.runner.cleanup()

    async def _page(self, request: web.Request) -> web.Response:
        await pagews.open_page(request, topics=request.query.getall("topic", []))
        if self._view is not None:
            await self._view(request)
        return aiohttp_jinja2.render_template("page.html", request, {})

    async def _login(self, request: web.Request) -> web.Response:
        await pagews.login(request, request.query["user"])
        return web.Response()

    async def _logout(self, request: web.Request) -> web.Response:
        await pagews.logout(request)
        return web.Response()


class House(Protocol):
    """Makes a site of what `TestSite` takes: in one house for one process, in the other for two workers on Redis."""

    def __call__(self, **setup: Any) -> Served: ...


AnySite = TypeVar("AnySite", bound=Served)


@asynccontextmanager
async def serving(site: AnySite) -> AsyncIterator[AnySite]:
    """Serve a site, so that what belongs to the application can be added before: `async with serving(site):`"""
    await site.start()
    try:
        yield site
    finally:
        await site.stop()


class Detached:
    """Says when a page has lost its socket; made before the site is served."""

    def __init__(self, site: Served) -> None:
        self._pages: asyncio.Queue[str] = asyncio.Queue()
        for worker in site.workers:
            get_site(worker.app).publisher.on_detach.append(self._note)

    async def _note(self, page: pagews.Page) -> None:
        self._pages.put_nowait(page.id)

    async def next(self) -> str:
        async with asyncio.timeout(10):
            return await self._pages.get()
