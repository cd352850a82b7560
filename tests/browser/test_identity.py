"""Who is at the browser changes: no message reaches a page of the old identity."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

import pagews
from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve
from .site import Site

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)

_FETCH = "path => fetch(path, { method: 'POST' }).then((response) => response.text())"


def make_site() -> Site:
    site = Site()

    async def log_in(request: web.Request) -> web.Response:
        await pagews.login(request, "ann")
        return web.Response(text="logged in")

    async def log_out(request: web.Request) -> web.Response:
        await pagews.logout(request)
        return web.Response(text="logged out")

    site.app.router.add_post("/login", log_in)
    site.app.router.add_post("/logout", log_out)
    site.app.router.add_get("/login", log_in)
    return site


async def test_user_push_after_login(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(make_site())
    tab = await open_tab()
    await tab.page.goto(f"{site.url}/login")
    await tab.open(f"{site.url}/")
    other = await open_tab(f"{site.url}/")
    first, second = await site.journal.wait("attach", 2)
    assert first.user is not None
    assert first.user == second.user
    for each in (tab, other):
        await each.listen("mail")

    await site.publisher.user("bob").push("mail", "for bob")
    await site.publisher.user("ann").push("mail", "for ann")

    assert await tab.wait("mail") == ["for ann"]
    assert await other.wait("mail") == ["for ann"]


async def test_logout_in_one_tab_reloads_the_other(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(make_site())
    tab = await open_tab(without_jitter=True, watching=["identity"])
    await tab.page.goto(f"{site.url}/login")
    await tab.open(f"{site.url}/")
    other = await open_tab()
    await other.page.goto(f"{site.url}/plain")
    tab.network_fails = True
    [page] = await site.journal.wait("attach")

    async with tab.page.expect_event("load"):
        assert await other.run(_FETCH, "/logout") == "logged out"

    assert site.journal["POST /pagews/renew"] == [403]
    [told] = await tab.wait("identity")
    assert (told["code"], told["renewed"]) == (4503, False)
    await tab.is_in("open")
    now = (await site.journal.wait("attach", 2))[1]
    assert now.user is None
    assert now.session != page.session


async def test_login_of_this_very_page(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(make_site())
    tab = await open_tab(f"{site.url}/", without_jitter=True)
    tab.network_fails = True

    async with tab.page.expect_event("load"):
        await tab.run("() => { fetch('/login', { method: 'POST' }); }")

    await tab.is_in("open")
    page = (await site.journal.wait("attach", 2))[1]
    assert page.user is not None
    assert page.user.id == "ann"


async def test_late_answer_to_the_old_session_does_not_undo_a_login(serve: Serve, open_tab: OpenTab) -> None:
    """The other tab is closed before the cookie of the new session is there, and asks /renew with that of the old one.
    Its answer comes last, and must not take the new cookie away.
    """
    site = make_site()
    renewing, logged_in = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await pagews.login(request, "ann")
        await renewing.wait()
        return web.Response(text="logged in")

    @web.middleware
    async def answer_late(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/pagews/renew":
            return await handler(request)
        renewing.set()
        response = await handler(request)
        await logged_in.wait()
        return response

    site.app.middlewares.insert(0, answer_late)
    site.app.router.add_post("/slow", slow)
    await serve(site)
    tab = await open_tab(f"{site.url}/", watching=["identity"], keeping=["identity"])
    tab.network_fails = True
    other = await open_tab()
    await other.page.goto(f"{site.url}/plain")

    assert await other.run(_FETCH, "/slow") == "logged in"
    logged_in.set()
    await tab.wait("identity")
    await other.open(f"{site.url}/")

    page = (await site.journal.wait("attach", 2))[1]
    assert page.user is not None
    assert page.user.id == "ann"
