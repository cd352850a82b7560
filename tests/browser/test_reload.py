"""A page that cannot go on as it is: it is told so, and reloads under guard."""

from __future__ import annotations

import asyncio

import pagews
from pagews.tokens import new_key

from .conftest import OpenTab, Serve
from .site import Site
from .tab import Tab

#: So few that the log soon does not reach back to a page that was away.
FEW = pagews.Limits(channel_entries=2)


async def lose(site: Site, tab: Tab) -> None:
    """Let a page be away for longer than the log reaches back."""
    detached = len(site.journal["detach"])
    page = site.publisher.page(await tab.id())
    await tab.run("pagews.suspend()")
    await site.journal.wait("detach", detached + 1)
    for number in range(4):
        await page.push("growl", number)
    await tab.run("pagews.resume()")


async def test_lost_is_told_with_its_reason(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(limits=FEW)
    tab = await open_tab(f"{site.url}/", watching=["lost"], keeping=["lost"])
    await tab.listen("growl")

    await lose(site, tab)

    assert await tab.wait("lost") == [{"reason": "trimmed"}]
    # The application has taken it upon itself: no reload, never a part, and the page goes on.
    await tab.is_in("open")
    await site.publisher.page(await tab.id()).push("growl", "goes on")
    assert await tab.wait("growl") == ["goes on"]
    assert await tab.run("document.documentElement.dataset.pagewsState") == "open"


async def test_lost_page_reloads(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(limits=FEW)
    tab = await open_tab(f"{site.url}/", without_jitter=True)
    before = await tab.id()

    async with tab.page.expect_event("load"):
        await lose(site, tab)

    await tab.is_in("open")
    assert await tab.id() != before
    assert site.rendered == 2


async def test_reload_is_spread_over_time(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(limits=FEW)
    tab = await open_tab()
    await tab.page.clock.install()
    await tab.page.add_init_script("Math.random = () => 0.5;")
    await tab.open(f"{site.url}/")

    await lose(site, tab)
    await tab.shows("lost")
    await tab.page.clock.fast_forward(2000)
    await tab.settle()
    assert tab["navigation"] == []
    async with tab.page.expect_event("load"):
        await tab.page.clock.fast_forward(1000)

    assert site.rendered == 2


async def test_not_twice_within_a_minute(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(limits=FEW)
    tab = await open_tab(without_jitter=True)
    await tab.page.clock.install()
    await tab.open(f"{site.url}/")
    async with tab.page.expect_event("load"):
        await lose(site, tab)
    await tab.is_in("open")
    tab.expected = "pagews: the page lost messages (trimmed) and reloads in "

    await lose(site, tab)
    await tab.shows("lost")
    await tab.page.clock.fast_forward(50_000)
    await tab.is_in("open")
    assert tab["navigation"] == ["reload"]
    async with tab.page.expect_event("load"):
        await tab.page.clock.fast_forward(15_000)

    assert site.rendered == 3
    assert len(tab["expected"]) == 1


async def test_not_while_a_form_is_half_filled_in(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(limits=FEW)
    tab = await open_tab(without_jitter=True)
    await tab.page.clock.install()
    await tab.open(f"{site.url}/")
    await tab.page.fill("textarea", "Dear Sir or Ma")
    tab.expected = "pagews: the page lost messages (trimmed) and reloads when no form is half filled in"

    await lose(site, tab)
    await tab.shows("lost")
    await tab.page.clock.fast_forward(600_000)
    assert await tab.page.input_value("textarea") == "Dear Sir or Ma"
    assert tab["navigation"] == []
    assert len(tab["expected"]) == 1
    await tab.page.fill("textarea", "")
    async with tab.page.expect_event("load"):
        await tab.page.clock.fast_forward(10_000)

    assert site.rendered == 2


async def test_not_while_a_send_is_under_way(serve: Serve, open_tab: OpenTab) -> None:
    delegates = pagews.DelegateTableDef()
    go_on = asyncio.Event()

    @delegates.on("order")
    async def order(page: pagews.Page, data: object) -> str:
        await go_on.wait()
        return "ordered"

    site = await serve(limits=FEW, delegates=delegates)
    tab = await open_tab(without_jitter=True)
    await tab.page.clock.install()
    await tab.open(f"{site.url}/")
    await tab.run("() => { pagews.send('order', 1, { timeout: Infinity }).then((result) => told('result', result)); }")
    tab.expected = "pagews: the page lost messages (trimmed) and reloads when the result of what it has sent is there"

    await lose(site, tab)
    await tab.shows("lost")
    await tab.page.clock.fast_forward(10_000)
    await tab.settle()
    assert tab["navigation"] == []
    assert len(tab["expected"]) == 1
    go_on.set()
    assert await tab.wait("result") == ["ordered"]
    async with tab.page.expect_event("load"):
        await tab.page.clock.fast_forward(10_000)

    assert site.rendered == 2


async def test_too_much_held_for_late_delegates_is_a_loss(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/", watching=["lost"], keeping=["lost"])
    page = site.publisher.page(await tab.id())
    tab.expected = "pagews: more than 500 messages, or 1 MiB, wait for on()"

    for number in range(501):
        await page.push("nobody", number)

    assert await tab.wait("lost") == [{"reason": "held"}]
    assert len(tab["expected"]) == 1


async def test_another_log_is_a_loss(serve: Serve, open_tab: OpenTab) -> None:
    # The embedded broker ends with its process: a page of the one before has a cursor that proves nothing.
    key = new_key()
    site = await serve(secret_key=key)
    tab = await open_tab(f"{site.url}/", watching=["lost"], keeping=["lost"])
    tab.network_fails = True

    await site.stop()
    await serve(Site(secret_key=key), port=site.port)

    assert await tab.wait("lost") == [{"reason": "epoch"}]
    await tab.is_in("open")
