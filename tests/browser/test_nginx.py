"""A real browser, a real nginx with the settings of the guide, and a site."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import BrowserContext, WebSocket

import pagews
from tests.markdown import Example
from tests.nginx import (
    GUIDE,
    PAGEWS_LOCATION,
    SERVER,
    SHOP_SERVER,
    Nginx,
    plain,
    with_http2,
    within,
    without,
    without_websockets,
)
from tests.wire_client import Transport

from .conftest import OpenTab, Serve
from .site import Site
from .tab import Tab
from .test_choosing import FALLBACK
from .test_kills import RECEIVE, SEND

pytestmark = pytest.mark.parametrize("transport", [None])

PUSHES: Final = 200
SENDS: Final = 20

#: As nginx speaks to a site unless it is told otherwise.
HTTP_1_0: Final = without(plain(SERVER), "proxy_http_version")

#: What makes nginx keep a stream back although it is asked not to: one that it gets by HTTP/1.0, or compresses.
DEAF: Final = "    proxy_ignore_headers X-Accel-Buffering;"
COLLECTING: Final = within(HTTP_1_0, DEAF)
COMPRESSING: Final = within(plain(SERVER), f"{DEAF}\n    gzip on;\n    gzip_proxied any;\n    gzip_types *;")

PutNginx = Callable[[str, int], Awaitable[Nginx]]


@pytest.fixture
def context_options() -> dict[str, Any]:
    """Nobody vouches for the certificate of a test."""
    return {"ignore_https_errors": True}


@pytest_asyncio.fixture(loop_scope="session")
async def put_nginx(
    serve: Serve, context: BrowserContext, nginx_program: Path, tmp_path: Path
) -> AsyncIterator[PutNginx]:
    """Puts one in front of a port, with some settings."""
    async with AsyncExitStack() as stack:

        async def start(settings: str, port: int) -> Nginx:
            return await stack.enter_async_context(Nginx(nginx_program, tmp_path, settings, port))

        yield start
        await context.close()


class Counting(Site):
    """A site whose delegate `number` notes what it was sent, and whose journal has each page that it has `opened`."""

    def __init__(self) -> None:
        delegates = pagews.DelegateTableDef()
        self.ran: list[int] = []

        @delegates.on("number")
        async def number(page: pagews.Page, data: int) -> str:
            self.ran.append(data)
            return f"ran {data}"

        super().__init__(delegates=delegates)
        self.app.router.add_get("/opened", self._opened)

    async def _opened(self, request: web.Request) -> web.Response:
        self.journal.note("opened", (await pagews.open_page(request)).id)
        return self.render(request)


async def converse(site: Counting, tab: Tab, url: str, early: int = PUSHES // 2) -> str:
    """Open a page, and say much in both directions: each once, and in time. Returns what carries the page.

    Arguments:
        early: how much of it is pushed before the page is connected.
    """
    tab.network_fails = True
    await tab.page.goto(f"{url}/opened")
    began = time.monotonic()
    [page_id] = await site.journal.wait("opened")
    page = site.publisher.page(page_id)
    await tab.run(SEND)
    await tab.run("count => sendMany(0, count)", SENDS // 2)
    for number in range(early):
        await page.push("number", number)
    await tab.run(RECEIVE)
    await tab.is_in("open")
    assert time.monotonic() - began < FALLBACK

    await tab.run("([first, count]) => sendMany(first, count)", [SENDS // 2, SENDS // 2])
    for number in range(early, PUSHES):
        await page.push("number", number)
    await tab.run("count => has(count)", PUSHES)
    assert await tab.run("() => Promise.all(results)") == [f"ran {number}" for number in range(SENDS)]
    # What is behind the last number has come too: nothing is under way any more.
    await tab.listen("end")
    await page.push("end")
    await tab.wait("end")
    assert await tab.run("got") == list(range(PUSHES))
    assert site.ran == list(range(SENDS))
    assert await tab.id() == page_id
    assert site.publisher.statistics().lost == {}
    return str(await tab.run("pagews.transport"))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(plain(SERVER), id="buffering on"),
        pytest.param(plain(within(SERVER, PAGEWS_LOCATION)), id="buffering off"),
    ],
)
async def test_websocket_gets_through(serve: Serve, put_nginx: PutNginx, open_tab: OpenTab, settings: str) -> None:
    site = Counting()
    await serve(site)
    nginx = await put_nginx(settings, site.port)

    assert await converse(site, await open_tab(), nginx.url) == "websocket"

    assert len(site.journal["attach"]) == 1
    assert site.journal["POST /pagews/stream"] == site.journal["POST /pagews/poll"] == []


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(plain(SERVER), id="buffering on"),
        pytest.param(HTTP_1_0, id="buffering on by HTTP-1.0"),
        pytest.param(plain(within(SERVER, PAGEWS_LOCATION)), id="buffering off"),
        pytest.param(within(COLLECTING, PAGEWS_LOCATION), id="buffering off by HTTP-1.0"),
        pytest.param(within(COMPRESSING, PAGEWS_LOCATION), id="compression off"),
    ],
)
async def test_stream_where_websockets_do_not_get_through(
    serve: Serve, put_nginx: PutNginx, open_tab: OpenTab, settings: str
) -> None:
    site = Counting()
    await serve(site)
    nginx = await put_nginx(without_websockets(settings), site.port)

    assert await converse(site, await open_tab(), nginx.url) == "stream"

    assert len(site.journal["attach"]) == 1
    # As the guide says.
    assert site.journal["GET /pagews/socket"] == [426, 426]


@pytest.mark.parametrize(
    "settings", [pytest.param(COLLECTING, id="buffering on"), pytest.param(COMPRESSING, id="compression on")]
)
async def test_poll_where_streams_are_kept_back(
    serve: Serve, put_nginx: PutNginx, open_tab: OpenTab, settings: str
) -> None:
    site = Counting()
    await serve(site)
    nginx = await put_nginx(without_websockets(settings), site.port)

    # What comes early is less than a buffer of nginx: when one is full, it is handed on.
    assert await converse(site, await open_tab(), nginx.url, early=10) == "poll"


# --- where TLS ends at nginx ------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def guided(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TestServer]:
    """The application of the guide."""
    app = Example(tmp_path_factory.mktemp("guide"), monkeypatch).write(GUIDE).load("app").app
    server = TestServer(app)
    async with server:
        yield server


def app_of(server: TestServer) -> web.Application:
    assert isinstance(server.app, web.Application)
    return server.app


@pytest.mark.parametrize("speak", [str, with_http2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize(
    ("blocked", "carrier"), [(str, "websocket"), (without_websockets, "stream")], ids=["websocket", "stream"]
)
async def test_tls(
    guided: TestServer,
    put_nginx: PutNginx,
    context: BrowserContext,
    open_tab: OpenTab,
    speak: Callable[[str], str],
    blocked: Callable[[str], str],
    carrier: Transport,
) -> None:
    assert guided.port is not None
    nginx = await put_nginx(speak(blocked(SERVER)), guided.port)
    assert nginx.url.startswith("https://")
    tab = await open_tab()
    tab.network_fails = True
    sockets: list[WebSocket] = []
    tab.page.on("websocket", lambda socket: sockets.append(socket))

    await tab.open(f"{nginx.url}/")

    protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
    assert await tab.run(protocol) == ("h2" if speak is with_http2 else "http/1.1")
    assert await tab.run("pagews.transport") == carrier
    tries = 1 if carrier == "websocket" else 2
    assert [socket.url for socket in sockets] == [f"{nginx.url.replace('https', 'wss')}/pagews/socket"] * tries
    [cookie] = await context.cookies(nginx.url)
    assert (cookie["name"], cookie["secure"], cookie["httpOnly"]) == ("PAGEWS", True, True)
    page = pagews.get_publisher(app_of(guided)).page(await tab.id())
    await tab.run("() => { pagews.on('question', (data) => data + 1); }")
    assert await page.ask("question", 1) == 2
    assert pagews.get_publisher(app_of(guided)).statistics().refused == {}


# --- where a path is stripped -----------------------------------------------------------------------------------------


async def test_a_proxy_that_strips_a_path(serve: Serve, put_nginx: PutNginx, open_tab: OpenTab) -> None:
    site = await serve(public_prefix="/shop/pagews")
    # Without the rest of the site in front of it, nothing else can answer.
    nginx = await put_nginx(plain(SHOP_SERVER), site.port)
    tab = await open_tab()
    tab.network_fails = True  # the browser looks for an icon

    await tab.open(f"{nginx.url}/shop/")

    assert await tab.run("pagews.transport") == "websocket"
    await tab.listen("growl")
    await site.publisher.page(await tab.id()).push("growl", "in the shop")
    assert await tab.wait("growl") == ["in the shop"]
