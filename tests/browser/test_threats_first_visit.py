"""A browser that comes for the first time, with two tabs at once; and one whose cookies are cleared."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve
from .site import Site

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)

RENEW: Final = "POST /pagews/renew"


class Together:
    """Holds the first answers back until so many requests have been answered: none comes with another one's cookie."""

    def __init__(self, site: Site, count: int) -> None:
        self._barrier = asyncio.Barrier(count)
        self._left = count
        site.app.middlewares.append(self._hold)

    @web.middleware
    async def _hold(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/" or not self._left:
            return await handler(request)
        assert "Cookie" not in request.headers
        self._left -= 1
        await self._barrier.wait()
        return await handler(request)


async def test_threat_35_of_two_first_tabs_the_one_whose_cookie_lost_reloads_once(
    serve: Serve, open_tab: OpenTab
) -> None:
    site = Site()
    Together(site, 2)
    await serve(site)
    tabs = [await open_tab(without_jitter=True, watching=["identity"]) for _ in range(2)]
    for tab in tabs:
        tab.network_fails = True

    # Two addresses, for Chromium asks for one of them at a time.
    await asyncio.gather(*(tab.page.goto(f"{site.url}/?{number}") for number, tab in enumerate(tabs)))
    await site.journal.wait("attach", 2)
    for tab in tabs:
        await tab.is_in("open")

    # One of them was refused and asked once why; then it was loaded again, with the session that had won.
    assert site.journal[RENEW] == [403]
    assert site.rendered == 3
    assert sum(len(tab["identity"]) for tab in tabs) == 1
    first, second = site.journal["attach"]
    assert first.session == second.session
    assert site.publisher.statistics().refused == {"token": 1, "renewal": 1}
    assert site.publisher.statistics().attached == 2


async def test_threat_35_a_tab_whose_cookies_were_cleared_reloads_once(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/", without_jitter=True, watching=["identity"])
    tab.network_fails = True
    [before] = await site.journal.wait("attach")
    await tab.page.context.clear_cookies()

    async with tab.page.expect_event("load"):
        await tab.run("() => { pagews.reconnect(); }")
    await tab.is_in("open")

    assert site.journal[RENEW] == [403]
    assert site.rendered == 2
    after = (await site.journal.wait("attach", 2))[1]
    assert after.session != before.session
    assert site.publisher.statistics().refused == {"token": 1, "renewal": 1}
