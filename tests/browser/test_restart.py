"""Pages that their HTML knows nothing of: without a token in it, and begun anew without a reload."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

import pagews
from tests.wire_client import TRANSPORTS, Transport

from .conftest import OpenTab, Serve
from .site import Site

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)


def echoing() -> pagews.DelegateTableDef:
    delegates = pagews.DelegateTableDef()

    @delegates.on("echo")
    async def echo(page: pagews.Page, data: Any) -> Any:
        return [page.id, data]

    return delegates


async def test_page_without_a_token_in_its_html(serve: Serve, open_tab: OpenTab, transport: Transport) -> None:
    site = Site(delegates=echoing())

    async def static(request: web.Request) -> web.Response:
        # As a file that a content delivery network hands to everyone: no page, no session, nobody's.
        return web.Response(
            text=f"""<!doctype html><html lang="en"><title>Static</title>
            <script type="module" src="/pagews/static/pagews.js"
              data-pagews="/pagews" data-transport="{transport}"></script></html>""",
            content_type="text/html",
        )

    site.app.router.add_get("/static.html", static)
    await serve(site)
    first, second = [await open_tab(f"{site.url}/static.html") for _ in range(2)]

    assert await first.id() != await second.id()
    assert await first.run("pagews.send('echo', 1)") == [await first.id(), 1]
    pages = await site.journal.wait("attach", 2)
    assert len({page.session for page in pages}) == 1
    for tab in (first, second):
        await tab.listen("growl")
    await pages[0].session.push("growl", "to both")
    assert await first.wait("growl") == await second.wait("growl") == ["to both"]


async def test_restart(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(Site(delegates=echoing(), limits=pagews.Limits(grace=0.2, heartbeat=1)))
    tab = await open_tab(f"{site.url}/")
    before = await tab.id()
    await tab.listen("growl")
    await site.publisher.page(before).push("growl", "to the first")
    await tab.wait("growl")
    await site.publisher.page(before).push("late", "for nobody")

    await tab.run("pagews.restart()")

    after = await tab.id()
    assert after != before
    assert await tab.run("pagews.state") == "open"
    assert await tab.run("pagews.send('echo', 1)") == [after, 1]
    await tab.listen("late")
    await site.publisher.page(after).push("growl", "to the second")
    assert await tab.wait("growl", 2) == ["to the first", "to the second"]
    [gone] = await site.journal.wait("gone")
    assert gone.id == before
    assert tab["late"] == []
    assert site.rendered == 1
