"""What becomes of a document: its network goes, it sleeps in the back-forward cache, is duplicated, is sent away."""

from __future__ import annotations

import pytest
from aiohttp import web

import pagews
from tests.faults import Link
from tests.wire_client import TRANSPORTS, Transport

from .conftest import OpenTab, Serve, StartProxy
from .site import Site
from .walls import REFUSAL, REQUESTS

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)


async def test_refused_upgrade_asks_renew_and_comes_back(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab
) -> None:
    site = await serve()
    proxy = await put_proxy(site)
    refusals: list[Link] = []

    def refuse_once(link: Link) -> None:
        if not refusals:
            refusals.append(link)
            link.answer(REFUSAL)

    proxy.on_upgrade = refuse_once
    tab = await open_tab(without_jitter=True)
    tab.network_fails = True

    await tab.open(f"{proxy.url}/")

    assert proxy.counts["answered"] == 1
    assert site.journal["POST /pagews/renew"] == [200]


async def test_refused_upgrade_tells_the_reason(serve: Serve, open_tab: OpenTab, transport: Transport) -> None:
    site = await serve(allowed_origins=["https://example.org"])
    tab = await open_tab(watching=["refused"])
    tab.network_fails = True

    await tab.open(f"{site.url}/", state="waiting")

    told = await tab.wait("refused")
    assert told[0] == {"code": None, "reason": "status 403", "final": False}
    assert site.journal[REQUESTS[transport]][0] == 403
    assert site.journal["POST /pagews/renew"][0] == 403


async def test_server_that_is_about_to_stop_says_when_to_come_back(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/", without_jitter=True)
    tab.network_fails = True
    await tab.run(
        """() => {
          const began = performance.now();
          pagews.addEventListener("statechange", ({ detail: { state } }) => {
            if (state === "open") told("back after", performance.now() - began);
          });
        }"""
    )

    await site.publisher.page(await tab.id()).close(1012, "the server restarts; retry=0.7")

    [milliseconds] = await tab.wait("back after")
    assert milliseconds >= 700


async def test_page_that_is_closed_for_good_stays_away(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/", watching=["refused"])
    page_id = await tab.id()

    await site.publisher.page(page_id).close(4600, "the show is over")

    assert await tab.wait("refused") == [{"code": 4600, "reason": "the show is over", "final": True}]
    assert await tab.run("pagews.state") == "closed"
    assert [page.id for page in await site.journal.wait("gone")] == [page_id]
    outcome = await tab.run("pagews.send('anything').catch(({ code }) => code)")
    assert outcome == "refused"


async def test_lost_cookie_ends_the_page(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/", watching=["refused"], keeping=["refused"])
    tab.network_fails = True

    await tab.page.context.clear_cookies()
    await tab.run("pagews.reconnect()")

    [told] = await tab.wait("refused")
    assert (told["code"], told["final"]) == (4500, True)
    assert site.journal["POST /pagews/renew"] == [403]
    assert tab["navigation"] == []


async def test_fault_19_offline_and_online_by_the_events_alone(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab
) -> None:
    site = await serve()
    proxy = await put_proxy(site)
    tab = await open_tab()
    tab.network_fails = True
    await tab.page.clock.install()
    await tab.open(f"{proxy.url}/")
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")

    # Its clock stands still: whatever the page does now, it does because of an event.
    await tab.run("() => addEventListener('online', () => told('online'))")
    await tab.page.clock.pause_at(await tab.run("Date.now() + 60_000"))
    proxy.refusing = True
    await tab.page.context.set_offline(True)
    # At once, though nothing has cut its socket yet.
    await tab.is_in("waiting")
    proxy.cut()
    await page.push("growl", "while it was offline")
    proxy.refusing = False
    assert tab["growl"] == []
    await tab.page.context.set_offline(False)

    await tab.wait("online")
    assert await tab.wait("growl") == ["while it was offline"]
    await tab.is_in("open")


async def test_fault_21_back_forward_cache(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")
    await page.push("growl", "before")
    await tab.wait("growl")
    await tab.run(
        """() => {
          addEventListener("pagehide", ({ persisted }) => { globalThis.hidden = [persisted, pagews.state]; });
          addEventListener("pageshow", ({ persisted }) => { told("shown", [persisted, hidden]); });
        }"""
    )

    await tab.page.goto(f"{site.url}/plain")
    await site.journal.wait("detach")
    await page.push("growl", "while it slept")
    await tab.run("history.back()")

    # The same document, which kept its variables and did not keep its socket.
    assert await tab.wait("shown") == [[True, [True, "waiting"]]]
    assert await tab.wait("growl", 2) == ["before", "while it slept"]
    assert site.rendered == 1
    assert {attached.id for attached in site.journal["attach"]} == {page.id}
    await page.push("growl", "after")
    assert await tab.wait("growl", 3) == ["before", "while it slept", "after"]


async def test_fault_21_back_without_the_back_forward_cache(serve: Serve, open_tab: OpenTab) -> None:
    # Going back, the browser shows the HTML that it has, with the token in it, in a new document. It takes the page
    # over, which its first document has left, and shows what was pushed since it was rendered.
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")
    await page.push("growl", "before")
    await tab.wait("growl")
    # Who listens for `unload` is not taken into that cache.
    await tab.run("() => { globalThis.first = true; addEventListener('unload', () => {}); }")

    await tab.page.goto(f"{site.url}/plain")
    await site.journal.wait("detach")
    await page.push("growl", "while it was away")
    await tab.page.go_back()
    await tab.is_in("open")
    assert await tab.run("globalThis.first ?? 'another document'") == "another document"
    await tab.listen("growl")

    assert await tab.wait("growl", 3) == ["before", "before", "while it was away"]
    assert await tab.id() == page.id
    assert site.rendered == 1


async def test_fault_22_duplicated_tab_is_forked(serve: Serve, open_tab: OpenTab) -> None:
    site = Site()
    rendered: list[web.Response] = []

    async def view(request: web.Request) -> web.Response:
        # What a duplicated tab or a restored window does: it shows the same HTML again.
        if not rendered:
            rendered.append(site.render(request))
        same = web.Response(body=rendered[0].body, content_type="text/html", charset="utf-8")
        same.headers["Content-Security-Policy"] = rendered[0].headers["Content-Security-Policy"]
        return same

    site.app.router.add_get("/same", view)
    await serve(site)
    tab = await open_tab(f"{site.url}/same")
    twin = await open_tab(f"{site.url}/same", watching=["forked"], keeping=["forked"])
    [told] = await twin.wait("forked")
    assert told == {"id": await twin.id()}
    assert await twin.id() != await tab.id()
    [first, second] = await site.journal.wait("attach", 2)
    assert first.session == second.session
    for each in (tab, twin):
        await each.listen("growl")

    await first.push("growl", "to the first")
    await second.push("growl", "to the second")
    await first.session.push("growl", "to both")

    assert await tab.wait("growl", 2) == ["to the first", "to both"]
    assert await twin.wait("growl", 2) == ["to the second", "to both"]
    # It stays what it has become.
    await twin.run("pagews.reconnect()")
    await twin.is_in("open")
    assert await twin.id() == second.id
    assert len(twin["forked"]) == 1


async def test_reconnect_in_the_browser(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")

    await tab.run("pagews.reconnect()")
    await page.push("growl", "after")

    assert await tab.wait("growl") == ["after"]
    assert {attached.id for attached in site.journal["attach"]} == {page.id}


async def test_page_is_pinged_and_answers(serve: Serve, open_tab: OpenTab) -> None:
    # Silent for one and a half intervals, it would be closed with 4008.
    site = await serve(limits=pagews.Limits(heartbeat=3.0))
    tab = await open_tab(f"{site.url}/")

    before = (await tab.run("pagews.cursor")) or {"seq": 0}
    await tab.page.wait_for_function("seq => pagews.cursor?.seq > seq + 8", arg=before["seq"])

    assert site.journal["detach"] == []
