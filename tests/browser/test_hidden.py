"""Tabs that nobody looks at: behind another one, throttled, frozen."""

from __future__ import annotations

from typing import Any

import pytest

import pagews
from pagews.site import get_site
from tests.faults import frames
from tests.wire_client import TRANSPORTS

from .conftest import OpenRealTab, Serve, StartProxy
from .devtools import RealTab
from .site import Site

#: Seconds; long enough for a busy machine to answer in one and a half of them.
HEARTBEAT = 2.0

#: The opcode of a WebSocket's own answer to its own ping (RFC 6455 section 5.5.3).
PONG = 0xA

#: Waits for the cursor to move by two heartbeats of ticks; pings move it when nothing else does.
_PINGED = """new Promise((resolve) => {
  const goal = (pagews.cursor?.seq ?? 0) + 8;
  const timer = setInterval(() => {
    if ((pagews.cursor?.seq ?? 0) < goal) return;
    clearInterval(timer);
    resolve(true);
  }, 50);
})"""


def table() -> pagews.DelegateTableDef:
    delegates = pagews.DelegateTableDef()

    @delegates.on("echo")
    async def echo(page: pagews.Page, data: Any) -> Any:
        return data

    return delegates


async def open_page(open_real_tab: OpenRealTab, site: Site, url: str) -> tuple[RealTab, pagews.PageTarget]:
    """A page that listens to `growl`."""
    tab = await open_real_tab(f"{url}/")
    await tab.run("pagews.on('growl', (text) => { told('growl', text); })")
    return tab, site.publisher.page(await tab.run("pagews.id"))


async def hide(tab: RealTab, open_real_tab: OpenRealTab, site: Site) -> RealTab:
    """Open another page in front of a tab; returns its tab."""
    front = await open_real_tab(f"{site.url}/")
    await tab.wait("visibility")
    assert await tab.is_hidden()
    return front


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_20_hidden_tab_lives(serve: Serve, open_real_tab: OpenRealTab) -> None:
    site = await serve(delegates=table(), limits=pagews.Limits(heartbeat=HEARTBEAT))
    tab, page = await open_page(open_real_tab, site, site.url)
    await hide(tab, open_real_tab, site)

    # Its timers are slow now. It answers every ping all the same, and is served.
    assert await tab.run(_PINGED) is True
    await page.push("growl", "to the hidden")
    assert await tab.wait("growl") == ["to the hidden"]
    assert await tab.run("pagews.send('echo', 'from the hidden', { qos: 2 })") == "from the hidden"
    assert await tab.is_hidden()
    assert site.journal["detach"] == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_20_hidden_tab_whose_line_is_cut_comes_back(
    serve: Serve, put_proxy: StartProxy, open_real_tab: OpenRealTab
) -> None:
    site = await serve()
    proxy = await put_proxy(site)
    tab, page = await open_page(open_real_tab, site, proxy.url)
    await hide(tab, open_real_tab, site)

    proxy.cut()
    await site.journal.wait("detach")
    await page.push("growl", "while it was away")

    assert await tab.wait("growl") == ["while it was away"]
    assert await tab.is_hidden()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_20_hidden_tab_that_waits_comes_back_at_once_when_it_is_looked_at(
    serve: Serve, put_proxy: StartProxy, open_real_tab: OpenRealTab
) -> None:
    site = await serve()
    proxy = await put_proxy(site)
    tab, page = await open_page(open_real_tab, site, proxy.url)
    await hide(tab, open_real_tab, site)
    # As if it had tried for a long time: it would wait for longer than this test.
    await tab.run("Math.random = () => 1000")
    # Refused, for a browser repeats a request by itself when a connection breaks that it has used before.
    proxy.refusing = True
    proxy.cut()
    await tab.wait("state", 3)
    proxy.refusing = False
    assert tab["state"] == ["connecting", "open", "waiting"]
    await page.push("growl", "while it was away")
    await tab.bring_to_front()

    assert await tab.wait("growl") == ["while it was away"]
    assert tab["visibility"] == ["hidden", "visible"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_20_frozen_tab_lets_go_and_resumes_on_thaw(serve: Serve, open_real_tab: OpenRealTab) -> None:
    site = await serve()
    tab, page = await open_page(open_real_tab, site, site.url)
    await page.push("growl", "before")
    await tab.wait("growl")
    await hide(tab, open_real_tab, site)

    await tab.freeze()
    [detached] = await site.journal.wait("detach")
    assert detached.id == page.id
    await page.push("growl", "while it was frozen")
    assert tab["growl"] == ["before"]
    await tab.thaw()

    assert await tab.wait("growl", 2) == ["before", "while it was frozen"]
    assert (tab["freeze"], tab["resume"]) == ([None], [None])
    assert {attached.id for attached in site.journal["attach"][2:]} == {page.id}
    assert site.publisher.statistics().dropped == {}


async def test_fault_20_frozen_tab_that_could_not_let_go_is_detached_by_its_silence(
    serve: Serve, put_proxy: StartProxy, open_real_tab: OpenRealTab
) -> None:
    # A browser need not tell a page before it freezes it. Its socket stays open, and nobody is behind it.
    site = await serve(limits=pagews.Limits(heartbeat=HEARTBEAT))
    proxy = await put_proxy(site)
    tab, page = await open_page(open_real_tab, site, proxy.url)
    line = await proxy.upgraded()
    await page.push("growl", "before")
    await tab.wait("growl")
    await tab.run("window.addEventListener('freeze', (event) => event.stopImmediatePropagation(), true)")
    await hide(tab, open_real_tab, site)

    await tab.freeze()
    # The browser goes on answering in its name.
    [socket] = [socket for socket in get_site(site.app).sockets if socket._context.page == page]
    carrier: Any = socket._carrier
    await carrier._ws.ping(b"anybody there?")
    await line.up.until(lambda data: any(frame.opcode == PONG for frame in frames(data)))
    [detached] = await site.journal.wait("detach")
    assert detached.id == page.id
    assert site.publisher.statistics().dropped["silent"] == 1
    assert site.publisher.statistics().closed == {4008: 1}
    await page.push("growl", "while it was frozen")
    assert (tab["growl"], tab["freeze"]) == (["before"], [])
    await tab.thaw()

    assert await tab.wait("growl", 2) == ["before", "while it was frozen"]
    assert await tab.is_hidden()
