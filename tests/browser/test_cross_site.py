"""Pages of other origins, in a real browser, with the visitor's cookie and the token of a page that they have open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from playwright.async_api import BrowserContext

import pagews

from .conftest import OpenTab, Serve
from .site import Site, with_status
from .tab import Tab

ATTACK: Final = Path(__file__).with_name("attack.js").read_text()

#: Where the attacked site is. Browsers take all of `localhost` to this machine.
SHOP: Final = "shop.localhost"

#: The routes that a page asks for, and those whose requests another site's page cannot make a browser begin with JSON.
ROUTES: Final = ("stream", "poll", "post", "renew", "form")

#: What each attack may give, whoever makes it.
NOTHING: Final = {"refused", "nothing to read"}


class Attacker(NamedTuple):
    """Who attacks.

    `host`: of its page. `sandboxed`: the page has no origin at all. `same_site`: the browser sends the visitor's cookie
    with what it asks of the shop, as it does for the shop's own pages.
    """

    host: str
    sandboxed: bool = False
    same_site: bool = False


ATTACKERS: Final = {
    "another site": Attacker("evil.localhost"),
    "a name alike": Attacker("evilshop.localhost"),
    "a subdomain": Attacker("sub.shop.localhost", same_site=True),
    "another port": Attacker(SHOP, same_site=True),
    "no origin": Attacker(SHOP, sandboxed=True),
}


class Echo(pagews.WebSocketHandler):
    """A socket of the application's own."""

    async def websocket_handle(
        self, frame: pagews.Text | pagews.Binary, context: pagews.Context
    ) -> pagews.Text | pagews.Binary:
        return frame


class Asked(NamedTuple):
    """A request that has reached the shop: what made it, how it was answered, and whether it brought the cookie."""

    by: str
    method: str
    path: str
    status: int
    has_cookie: bool


class Shop(Site):
    """A site whose visitor is logged in.

    Attributes:
        asked: the requests of an attack.
        ran: what its delegate was sent.
    """

    def __init__(self) -> None:
        delegates = pagews.DelegateTableDef()
        self.asked: list[Asked] = []
        self.ran: list[Any] = []

        @delegates.on("buy")
        async def buy(page: pagews.Page, data: Any) -> str:
            self.ran.append(data)
            return "bought"

        async def allow(page: pagews.Page, topic: str) -> bool:
            return True

        super().__init__(delegates=delegates, authorize=allow)
        self.app.middlewares.append(self._note_attacks)
        self.app.router.add_get("/socket/custom", pagews.websocket(Echo))
        self.app.router.add_get("/login", self._login)

    def render(self, request: web.Request, template: str = "page.html") -> web.Response:
        response = super().render(request, template)
        # Who may show a page in a frame is the site's to say.
        response.headers["Content-Security-Policy"] += "; frame-ancestors 'self'"
        return response

    async def _login(self, request: web.Request) -> web.Response:
        await pagews.login(request, "ann")
        return self.render(request)

    @web.middleware
    async def _note_attacks(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        def note(status: int) -> None:
            if by := request.query.get("by"):
                self.asked.append(Asked(by, request.method, request.path, status, "PAGEWS" in request.cookies))
                self.journal.note("attack", by)

        return await with_status(request, handler, note)


@pytest_asyncio.fixture(loop_scope="session")
async def attack_page() -> AsyncIterator[Any]:
    """Serves the page of an attacker; returns its port."""
    async with AsyncExitStack() as stack:

        async def start(attacker: Attacker) -> int:
            async def page(request: web.Request) -> web.Response:
                policy = {"Content-Security-Policy": "sandbox allow-scripts allow-forms"} if attacker.sandboxed else {}
                return web.Response(
                    text="<!doctype html><title>You won</title>", content_type="text/html", headers=policy
                )

            app = web.Application()
            app.router.add_get("/", page)
            server = await stack.enter_async_context(TestServer(app))
            assert server.port is not None
            return server.port

        yield start


@pytest.mark.parametrize("attacker", ATTACKERS.values(), ids=ATTACKERS)
async def test_another_site_gets_nothing(
    serve: Serve, open_tab: OpenTab, context: BrowserContext, attack_page: Any, attacker: Attacker
) -> None:
    shop = Shop()
    await serve(shop)
    url = f"http://{SHOP}:{shop.port}"
    victim = await open_tab()
    await victim.page.goto(f"{url}/login")
    await victim.is_in("open")
    [page] = await shop.journal.wait("attach")
    assert page.user == shop.publisher.user("ann")
    token = await victim.run("document.querySelector('[data-page]').dataset.page")
    await victim.listen("secret")

    tab = await Tab.new(context)  # the browser complains of all that it refuses
    evil = f"http://{attacker.host}:{await attack_page(attacker)}"
    await tab.page.goto(evil)
    assert await tab.run("origin") == ("null" if attacker.sandboxed else evil)
    outcomes = await tab.run(ATTACK, {"shop": url, "token": token, "delegate": "buy"})
    # What goes as a beacon has no outcome; the browser sends those that need not ask first.
    await shop.journal.until(
        lambda: sum(by.startswith("beacon") for by in posted_by(shop)) == 2 * len(ROUTES), "beacons"
    )

    assert {by: outcome for by, outcome in outcomes.items() if outcome not in NOTHING} == {}
    assert {
        asked for asked in shop.asked if asked.path.startswith(("/pagews/", "/socket/")) and not is_refused(asked)
    } == set()
    assert shop.ran == []
    assert len(shop.journal["attach"]) == 1
    statistics = shop.publisher.statistics()
    assert statistics.attached == 1
    # Each of them was refused for its origin, and nothing was even looked at behind that.
    assert statistics.refused == {"origin": sum(asked.status == 403 for asked in shop.asked)}
    # Every attack that a browser lets out was tried, with the cookie or without it, as a browser will have it.
    for route in ROUTES:
        for kind in ("cors-text", "no-cors-text", "no-cors-urlencoded", "no-cors-multipart", "form-text/plain"):
            assert f"{kind}-{route}" in posted_by(shop)
    assert {"socket", "custom", "form-noreferrer"} <= {asked.by for asked in shop.asked if asked.status == 403}
    assert {asked.has_cookie for asked in shop.asked if asked.method == "POST"} == {attacker.same_site}

    # The visitor has not noticed.
    assert await victim.run("pagews.send('buy', 'by the visitor')") == "bought"
    await page.push("secret", "for the visitor")
    assert await victim.wait("secret") == ["for the visitor"]
    assert shop.ran == ["by the visitor"]
    assert shop.publisher.statistics().lost == {}


def posted_by(shop: Shop) -> list[str]:
    """The attacks that came to a `POST`."""
    return [asked.by for asked in shop.asked if asked.method == "POST"]


def is_refused(asked: Asked) -> bool:
    """Whether a request for what pagews serves got nothing: only the client's modules are there for everybody."""
    if asked.path.startswith("/pagews/static/"):
        return True
    if asked.method == "POST" or asked.by in ("socket", "custom"):
        return asked.status == 403
    return asked.status in (403, 405, 426)
