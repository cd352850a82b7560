"""Which transport a page chooses, and that nothing is lost when it changes."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import pytest

import pagews
from tests.faults import FaultProxy, Link, after_header
from tests.wire_client import TRANSPORTS, Transport

from .conftest import OpenTab, Serve, StartProxy
from .site import Site
from .tab import Tab
from .walls import Wall

pytestmark = pytest.mark.parametrize("transport", [None])

#: Seconds in which a fallback must carry the page.
FALLBACK: Final = 5.0


def counting() -> tuple[pagews.DelegateTableDef, list[Any], asyncio.Event]:
    """A delegate `count` that notes what it was sent, and waits for the event before it answers."""
    delegates = pagews.DelegateTableDef()
    ran: list[Any] = []
    go_on = asyncio.Event()

    @delegates.on("count")
    async def count(page: pagews.Page, data: Any) -> Any:
        ran.append(data)
        await go_on.wait()
        return ["counted", data]

    return delegates, ran, go_on


async def carried_by(tab: Tab, transport: str) -> None:
    """Wait until a transport carries the page."""
    await tab.page.wait_for_function("transport => window.pagews?.transport === transport", arg=transport)


async def open_in_time(tab: Tab, url: str) -> None:
    """Open a page, which must be connected within the time that a fallback may take."""
    tab.network_fails = True
    await tab.page.goto(url)
    began = time.monotonic()
    await tab.is_in("open")
    assert time.monotonic() - began < FALLBACK


async def converse(site: Site, tab: Tab, ran: list[Any]) -> None:
    """Messages both ways, each once. The event of `counting` is set."""
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")
    before = len(ran)
    for number in range(5):
        await page.push("growl", number)
    assert await tab.run("pagews.send('count', 'once', { qos: 2 })") == ["counted", "once"]
    assert await tab.wait("growl", 5) == list(range(5))
    assert ran[before:] == ["once"]


def answer_400(proxy: FaultProxy) -> None:
    Wall(proxy, "websocket")


def swallow(proxy: FaultProxy) -> None:
    def request(link: Link, path: str) -> None:
        if path == "/pagews/socket":
            link.down.stall()

    proxy.on_request = request


def cut_after_header(proxy: FaultProxy) -> None:
    def request(link: Link, path: str) -> None:
        if path == "/pagews/socket":
            link.down.cut_when(after_header)

    proxy.on_request = request


async def test_websocket_that_gets_through(serve: Serve, open_tab: OpenTab) -> None:
    delegates, ran, go_on = counting()
    go_on.set()
    site = await serve(delegates=delegates)
    tab = await open_tab(f"{site.url}/")

    assert await tab.run("pagews.transport") == "websocket"
    await converse(site, tab, ran)
    assert site.journal["POST /pagews/stream"] == site.journal["POST /pagews/poll"] == []


@pytest.mark.parametrize("fault", [answer_400, swallow, cut_after_header])
async def test_fault_24_a_websocket_that_does_not_get_through(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, fault: Any
) -> None:
    delegates, ran, go_on = counting()
    go_on.set()
    site = await serve(delegates=delegates)
    proxy = await put_proxy(site)
    fault(proxy)
    tab = await open_tab()

    await open_in_time(tab, f"{proxy.url}/")

    assert await tab.run("pagews.transport") == "stream"
    await converse(site, tab, ran)
    assert len(site.journal["attach"]) == 1


async def test_fault_25_a_stream_that_a_proxy_collects(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab) -> None:
    delegates, ran, go_on = counting()
    go_on.set()
    site = await serve(delegates=delegates)
    proxy = await put_proxy(site)
    Wall(proxy, "websocket", hold=64 * 1024)
    tab = await open_tab()

    await open_in_time(tab, f"{proxy.url}/")

    assert await tab.run("pagews.transport") == "poll"
    await converse(site, tab, ran)


async def test_fallback_is_remembered_for_the_tab(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab) -> None:
    site = await serve()
    proxy = await put_proxy(site)
    wall = Wall(proxy, "websocket")
    tab = await open_tab()
    await open_in_time(tab, f"{proxy.url}/")
    assert wall.asked == ["websocket", "websocket", "stream"]

    await tab.page.reload()
    await tab.is_in("open")

    assert wall.asked == ["websocket", "websocket", "stream", "stream"]
    # Another tab knows nothing of it.
    other = await open_tab()
    await open_in_time(other, f"{proxy.url}/")
    assert wall.asked[4:] == ["websocket", "websocket", "stream"]


@pytest.mark.parametrize("fallback", ["stream", "poll"])
async def test_back_to_a_websocket(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, fallback: Transport) -> None:
    delegates, ran, go_on = counting()
    site = await serve(delegates=delegates)
    proxy = await put_proxy(site)
    wall = Wall(proxy, "websocket", *({"stream"} if fallback == "poll" else ()))
    tab = await open_tab()
    await open_in_time(tab, f"{proxy.url}/")
    assert await tab.run("pagews.transport") == fallback
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")
    sending = asyncio.create_task(tab.run("pagews.send('count', 'once', { qos: 2 })"))
    await tab.page.wait_for_function("() => pagews.busy")

    wall.closed.clear()
    pushing = asyncio.create_task(_push(page, 200))
    # What the browser says when a network has come: whatever did not get through may do so now.
    await tab.run("dispatchEvent(new Event('online'))")
    await carried_by(tab, "websocket")
    await pushing
    go_on.set()

    assert await tab.wait("growl", 200) == list(range(200))
    assert await sending == ["counted", "once"]
    assert ran == ["once"]


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in TRANSPORTS for b in TRANSPORTS if a != b])
async def test_change_in_mid_conversation(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, first: Transport, second: Transport
) -> None:
    delegates, ran, go_on = counting()
    site = await serve(delegates=delegates)
    proxy = await put_proxy(site)
    wall = Wall(proxy)
    wall.leave_open(first)
    tab = await open_tab(without_jitter=True)
    tab.network_fails = True
    await tab.page.goto(f"{proxy.url}/")
    await carried_by(tab, first)
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")
    sending = asyncio.create_task(tab.run("pagews.send('count', 'once', { qos: 2 })"))
    await tab.page.wait_for_function("() => pagews.busy")

    pushing = asyncio.create_task(_push(page, 200))
    await tab.wait("growl", 20)
    wall.leave_open(second)
    await carried_by(tab, second)
    await pushing
    go_on.set()

    assert await tab.wait("growl", 200) == list(range(200))
    assert await sending == ["counted", "once"]
    await tab.settle()
    assert tab["growl"] == list(range(200))
    assert ran == ["once"]
    assert site.publisher.statistics().lost == {}


async def _push(page: pagews.PageTarget, count: int) -> None:
    for number in range(count):
        await page.push("growl", number)
        await asyncio.sleep(0)


async def test_fault_26_seven_tabs_on_streams(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab) -> None:
    # A browser has six connections to a host by HTTP/1.1, and as many streams would leave none.
    site = await serve()
    proxy = await put_proxy(site)
    Wall(proxy, "websocket")
    tabs = [await open_tab() for _ in range(7)]
    for tab in tabs:
        await open_in_time(tab, f"{proxy.url}/")
        await tab.listen("growl")
    assert sorted([await tab.run("pagews.transport") for tab in tabs]) == ["poll"] * 3 + ["stream"] * 4

    session = site.journal["attach"][0].session
    for number in range(3):
        await session.push("growl", number)

    for tab in tabs:
        assert await tab.wait("growl", 3) == [0, 1, 2]


async def test_fifth_tab_that_is_forced_to_a_stream(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    site.transport = "stream"
    tabs = [await open_tab(f"{site.url}/") for _ in range(4)]
    fifth = await open_tab(without_jitter=True)
    fifth.expected = "stream has no room"
    await fifth.page.goto(f"{site.url}/")

    # Refused twice, and told of once.
    await site.journal.wait("POST /pagews/stream", 2)
    await tabs[0].page.close()
    await fifth.is_in("open")

    assert await fifth.run("pagews.transport") == "stream"
    assert len(fifth["expected"]) == 1
    assert site.journal["POST /pagews/poll"] == []


async def test_fault_27_a_post_cut_after_its_body(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab) -> None:
    delegates = pagews.DelegateTableDef()
    ran: list[Any] = []
    running, go_on = asyncio.Event(), asyncio.Event()

    @delegates.on("count")
    async def count(page: pagews.Page, data: Any) -> Any:
        ran.append(data)
        running.set()
        await go_on.wait()
        return ["counted", data]

    site = await serve(delegates=delegates)
    proxy = await put_proxy(site)
    wall = Wall(proxy, "websocket")
    tab = await open_tab()
    await open_in_time(tab, f"{proxy.url}/")
    refuse = proxy.on_request
    posted: asyncio.Queue[Link] = asyncio.Queue()

    def request(link: Link, path: str) -> None:
        if path == "/pagews/post":
            posted.put_nowait(link)
        elif refuse is not None:
            refuse(link, path)

    proxy.on_request = request
    sending = asyncio.create_task(tab.run("pagews.send('count', 'once', { qos: 2 })"))
    link = await posted.get()
    await running.wait()
    link.cut()
    await posted.get()
    go_on.set()

    assert await sending == ["counted", "once"]
    assert ran == ["once"]
    assert wall.asked.count("websocket") == 2
