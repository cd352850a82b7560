"""A small site with pagews, served on 127.0.0.1 for as long as a test needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp_jinja2
import jinja2
from aiohttp import web

import pagews
from pagews.site import get_site
from pagews.tokens import new_key
from tests.wire_client import SocketClosed, Wire

_TEMPLATES: Final = {"page.html": "<!doctype html><title>A page</title>{{ pagews_script() }}"}

View = Callable[[web.Request], Awaitable[None]]


class TestSite:
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
        self._view = view
        self._runner = web.AppRunner(self.app, access_log=None, handler_cancellation=handler_cancellation)
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
        return int(self._runner.addresses[0][1])

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def waiting(self, count: int = 1) -> None:
        """Wait until so many streams and polls are held."""
        held = get_site(self.app).held
        async with asyncio.timeout(10):
            while held.total() < count:  # noqa: ASYNC110  # nothing is told when a request begins to wait
                await asyncio.sleep(0)

    async def break_off(self, wire: Wire) -> None:
        """Cut a socket where the server notices it at once: of polls, while one waits."""
        receiving = asyncio.create_task(wire.receive())
        if wire.transport == "poll":
            await self.waiting()
        wire.cut()
        await asyncio.wait([receiving])
        assert isinstance(receiving.exception(), SocketClosed)

    async def stop(self) -> None:
        """Stop serving; also in the middle of a test."""
        await self._runner.cleanup()

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


@asynccontextmanager
async def serving(site: TestSite) -> AsyncIterator[TestSite]:
    """Serve a site, so that what belongs to the application can be added before: `async with serving(site):`"""
    await site.start()
    try:
        yield site
    finally:
        await site.stop()


class Detached:
    """Says when a page has lost its socket; made before the site is served."""

    def __init__(self, site: TestSite) -> None:
        self._pages: asyncio.Queue[str] = asyncio.Queue()
        get_site(site.app).publisher.on_detach.append(self._note)

    async def _note(self, page: pagews.Page) -> None:
        self._pages.put_nowait(page.id)

    async def next(self) -> str:
        async with asyncio.timeout(10):
            return await self._pages.get()
