"""Pushes from the server: what is pushed before the socket is there, to whom they go, and who hears them."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser

import pagews
from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve, StartProxy
from .site import Site
from .tab import Tab

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)


async def test_push_made_in_the_view_arrives(serve: Serve, open_tab: OpenTab) -> None:
    site = Site()

    async def view(request: web.Request) -> web.Response:
        await pagews.get_publisher(request).topic("news").push("growl", "before the page was opened")
        page = await pagews.open_page(request, topics=["news"])
        await page.push("growl", "before the page was rendered")
        await page.session.push("growl", "to its session")
        await pagews.get_publisher(request).topic("news").push("growl", "to its topic")
        response = site.render(request)
        await page.push("growl", "after it was rendered")
        return response

    site.app.router.add_get("/early", view)
    await serve(site)

    tab = await open_tab(f"{site.url}/early")
    await tab.listen("growl")

    assert await tab.wait("growl", 5) == [
        "before the page was opened",
        "before the page was rendered",
        "to its session",
        "to its topic",
        "after it was rendered",
    ]


async def test_push_between_render_and_attach_arrives(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab) -> None:
    site = Site()
    opened: list[pagews.Page] = []

    async def view(request: web.Request) -> web.Response:
        opened.append(await pagews.open_page(request))
        return site.render(request)

    site.app.router.add_get("/slow", view)
    await serve(site)
    proxy = await put_proxy(site)
    proxy.on_upgrade = lambda link: link.up.stall()
    tab = await open_tab(f"{proxy.url}/slow", state="connecting")
    link = await proxy.upgraded()

    # The browser has its page and no socket yet: what asks for one is held back.
    await opened[0].push("growl", "while it connects")
    await opened[0].session.push("growl", "to its session")
    await site.publisher.page(opened[0].id).push("growl", "from elsewhere")
    assert site.journal["attach"] == []
    link.up.resume()

    await tab.listen("growl")
    assert await tab.wait("growl", 3) == ["while it connects", "to its session", "from elsewhere"]


async def test_page_push_reaches_one_tab_and_session_push_both(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    one, other = await open_tab(f"{site.url}/"), await open_tab(f"{site.url}/")
    first, second = await site.journal.wait("attach", 2)
    assert first.session == second.session
    for tab in (one, other):
        await tab.listen("growl")

    await first.push("growl", "to the first")
    await first.session.push("growl", "to both")

    assert await one.wait("growl", 2) == ["to the first", "to both"]
    assert await other.wait("growl") == ["to both"]


async def test_session_push_stays_in_its_browser(serve: Serve, open_tab: OpenTab, browser: Browser) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    [page] = await site.journal.wait("attach")
    another = await browser.new_context()
    stranger = await Tab.new(another)
    await stranger.open(f"{site.url}/")
    other = (await site.journal.wait("attach", 2))[1]
    assert page.session != other.session
    for each in (tab, stranger):
        await each.listen("growl")

    await page.session.push("growl", "to the first browser")
    await other.session.push("growl", "to the second browser")

    assert await stranger.wait("growl") == ["to the second browser"]
    assert await tab.wait("growl") == ["to the first browser"]
    await another.close()


async def test_message_says_to_whom_it_was_pushed(serve: Serve, open_tab: OpenTab) -> None:
    site = Site()
    site.add_view("/news", topics=["news"])
    await serve(site)
    tab = await open_tab(f"{site.url}/news")
    [page] = await site.journal.wait("attach")
    await tab.run("() => { pagews.on('x', (data, { to, delegate, seq }) => { told('x', [to, delegate, seq > 0]); }); }")

    await page.push("x")
    await page.session.push("x", qos=2)
    await site.publisher.topic("news").push("x", qos=0)

    assert await tab.wait("x", 3) == [["page", "x", True], ["session", "x", True], ["topic:news", "x", False]]


async def test_what_is_sent_twice_is_shown_once(serve: Serve, open_tab: OpenTab) -> None:
    class Twice(pagews.PageHandler):
        def websocket_info(self, message: Any, context: pagews.Context) -> Any:
            return [super().websocket_info(message, context)] * 2

    site = await serve(handler=Twice)
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")

    await page.push("growl", 1)
    await page.push("growl", 2)
    await page.push("growl", "unnumbered", qos=0)

    assert await tab.wait("growl", 4) == [1, 2, "unnumbered", "unnumbered"]


async def test_binary_push(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    await tab.run(
        "() => { pagews.on('bytes', (data) => { told('bytes', [data instanceof Uint8Array, Array.from(data)]); }); }"
    )

    await site.publisher.page(await tab.id()).push("bytes", bytes(range(256)))
    await site.publisher.page(await tab.id()).push("bytes", b"")

    assert await tab.wait("bytes", 2) == [[True, list(range(256))], [True, []]]


async def test_late_delegate_gets_what_was_held(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.listen("there")
    for number in range(3):
        await page.push("late", number)
    await page.push("late", "qos 0 is not held", qos=0)
    await page.push("there", "all have come")
    await tab.wait("there")
    assert tab["late"] == []

    await tab.listen("late")
    await page.push("late", 3)

    assert await tab.wait("late", 4) == [0, 1, 2, 3]


async def test_listener_ends_by_its_function_and_by_its_signal(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.run(
        """() => {
          const control = new AbortController();
          const off = pagews.on("growl", () => { told("by function"); off(); });
          pagews.on("growl", () => { told("by signal"); control.abort(); }, { signal: control.signal });
          pagews.on("growl", () => { told("stays"); });
        }"""
    )

    await page.push("growl")
    await page.push("growl")

    await tab.wait("stays", 2)
    assert len(tab["by function"]) == len(tab["by signal"]) == 1


async def test_messages_iterates(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    for number in range(3):
        await page.push("log", number)
    await tab.run(
        """() => void (async () => {
          const control = new AbortController();
          for await (const line of pagews.messages("log", { signal: control.signal })) {
            told("line", line);
            if (line === "last") control.abort();
          }
          told("over");
        })()"""
    )
    await tab.wait("line", 3)
    await page.push("log", "last")
    await tab.wait("over")

    assert tab["line"] == [0, 1, 2, "last"]


async def test_markup_shows_what_is_pushed(serve: Serve, open_tab: OpenTab) -> None:
    site = Site()
    site.add_view("/markup", "markup.html")
    await serve(site)
    tab = await open_tab(f"{site.url}/markup")
    await tab.run("document.addEventListener('pagews:basket', ({ target, detail }) => told(target.localName, detail))")

    await site.publisher.page(await tab.id()).push("basket", {"items": {"count": "<b>3</b>"}})

    assert await tab.wait("i") == [{"items": {"count": "<b>3</b>"}}]
    assert await tab.page.inner_text("p") == "<b>3</b>"


async def test_many_pages_hear_one_topic(serve: Serve, open_tab: OpenTab) -> None:
    site = Site(limits=pagews.Limits(high_water=16 * 1024))
    site.add_view("/news", topics=["news"])
    await serve(site)
    # One after the other: opened at once, each tab would be given a browser session, and the last would win.
    tabs = [await open_tab(f"{site.url}/news") for _ in range(3)]
    for tab in tabs:
        await tab.run(
            """() => {
              const got = [];
              pagews.on("n", (data) => { if (got.push(data.n) === 300) told("all", got); });
            }"""
        )

    for number in range(300):
        await site.publisher.topic("news").push("n", {"n": number, "filling": "x" * 200})

    for tab in tabs:
        assert (await tab.wait("all"))[0] == list(range(300))
