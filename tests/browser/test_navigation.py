"""The tab goes elsewhere, with a send under way, and comes back from what the browser has kept."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

import pagews

from .conftest import OpenTab, Serve
from .site import Site


class Orders:
    """A delegate that takes its time.

    Attributes:
        ran: what it was called with. `go_on`: set when it may return.
    """

    def __init__(self) -> None:
        self.table = pagews.DelegateTableDef()
        self.ran: list[Any] = []
        self.running = asyncio.Event()
        self.go_on = asyncio.Event()

        @self.table.on("order")
        async def order(page: pagews.Page, data: Any) -> str:
            self.ran.append(data)
            self.running.set()
            await self.go_on.wait()
            return f"ordered {data}"


_SEND = "() => { pagews.send('order', 'tea', { qos: 2, timeout: 60000 }).then((result) => told('result', result)); }"


async def test_send_under_way_survives_the_back_forward_cache(serve: Serve, open_tab: OpenTab) -> None:
    orders = Orders()
    site = await serve(delegates=orders.table)
    tab = await open_tab(f"{site.url}/")
    await tab.run(_SEND)
    await orders.running.wait()

    await tab.page.goto(f"{site.url}/plain")
    await site.journal.wait("detach")
    # Its result comes when nobody is there to take it.
    orders.go_on.set()
    await tab.run("() => { history.back(); }")

    assert await tab.wait("result") == ["ordered tea"]
    assert orders.ran == ["tea"]
    assert site.rendered == 1
    assert site.publisher.statistics().failed == {}


async def test_send_under_way_ends_when_its_document_does_not_come_back(serve: Serve, open_tab: OpenTab) -> None:
    orders = Orders()
    site = await serve(delegates=orders.table, limits=pagews.Limits(grace=0.2))
    tab = await open_tab(f"{site.url}/")
    page_id = await tab.id()
    # Who listens for `unload` is not taken into the back-forward cache.
    await tab.run("() => { addEventListener('unload', () => {}); }")
    await tab.run(_SEND)
    await orders.running.wait()

    await tab.page.goto(f"{site.url}/plain")
    assert [page.id for page in await site.journal.wait("gone")] == [page_id]
    # The order stands: it was not the tab's to undo.
    orders.go_on.set()
    await site.publisher.node.jobs.finish()

    assert orders.ran == ["tea"]
    assert site.publisher.statistics().failed == {}
    assert site.publisher.statistics().attached == 0
    assert tab["result"] == []


async def test_send_in_the_same_breath_as_the_navigation(serve: Serve, open_tab: OpenTab) -> None:
    orders = Orders()
    orders.go_on.set()
    site = await serve(delegates=orders.table)
    tab = await open_tab(f"{site.url}/")

    async with tab.page.expect_navigation():
        await tab.run("() => { pagews.send('order', 'tea', { qos: 2 }).catch(() => {}); location.href = '/plain'; }")
    async with asyncio.timeout(10):
        await orders.running.wait()
    await site.journal.wait("detach")

    assert orders.ran == ["tea"]
    assert site.publisher.statistics().failed == {}


async def test_fault_22_cached_html_in_another_tab(serve: Serve, open_tab: OpenTab) -> None:
    site = Site()

    async def view(request: web.Request) -> web.Response:
        response = site.render(request)
        # Against all advice; the browser keeps the token with the HTML.
        response.headers["Cache-Control"] = "private, max-age=600"
        return response

    site.app.router.add_get("/cached", view)
    await serve(site)
    tab = await open_tab(f"{site.url}/cached")
    await tab.listen("growl")
    [first] = await site.journal.wait("attach")
    await first.session.push("growl", 1)
    await tab.wait("growl")
    twin = await open_tab(f"{site.url}/cached", watching=["forked"], keeping=["forked"])
    assert site.rendered == 1
    assert await twin.wait("forked") == [{"id": await twin.id()}]
    await twin.listen("growl")
    await first.session.push("growl", 2)

    # Both live, and both are complete from the time that the HTML is of.
    assert await tab.wait("growl", 2) == [1, 2]
    assert await twin.wait("growl", 2) == [1, 2]
    assert site.publisher.statistics().attached == 2


async def test_page_restored_from_a_cached_response_when_it_was_gone(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(limits=pagews.Limits(grace=0.2))
    tab = await open_tab(f"{site.url}/", watching=["lost", "forked"])
    [page] = await site.journal.wait("attach")
    await tab.run("() => { addEventListener('unload', () => {}); }")
    await tab.page.goto(f"{site.url}/plain")
    await site.journal.wait("gone")
    await page.session.push("growl", "while it was gone")

    await tab.page.go_back()
    await tab.is_in("open")
    await tab.listen("growl")

    assert await tab.wait("growl") == ["while it was gone"]
    assert site.rendered == 1
    assert await tab.id() == page.id
    assert (tab["lost"], tab["forked"]) == ([], [])
    await page.push("growl", "to the page")
    assert await tab.wait("growl", 2) == ["while it was gone", "to the page"]
