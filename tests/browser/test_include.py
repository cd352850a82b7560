"""The script include: it connects, or waits; it is there once; pages can see how it stands."""

from __future__ import annotations

from pagews import Limits

from .conftest import OpenTab, Serve
from .site import Site


async def test_include_connects(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()

    tab = await open_tab(f"{site.url}/")

    [page] = await site.journal.wait("attach")
    assert await tab.id() == page.id
    assert page.attached
    assert await tab.run("pagews.transport") == "websocket"
    assert await tab.run("pagews.ready.then(() => 'ready')") == "ready"


async def test_nostream_connects_when_it_is_told_to(serve: Serve, open_tab: OpenTab) -> None:
    site = Site()
    site.add_view("/nostream", "nostream.html")
    await serve(site)
    tab = await open_tab(f"{site.url}/nostream", state="idle")
    # A page that connects by itself, opened later, is attached: this one would have been before it.
    await open_tab(f"{site.url}/")
    assert len(site.journal["attach"]) == 1
    assert await tab.run("[pagews.state, pagews.id, pagews.transport]") == ["idle", None, None]

    await tab.run("pagews.connect()")
    await tab.is_in("open")

    await site.journal.wait("attach", 2)
    assert await tab.id() == site.journal["attach"][1].id


async def test_one_singleton_however_often_it_is_imported(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")

    same = await tab.run(
        """async () => {
          const once = await import("/pagews/static/pagews.js");
          const again = await import("/pagews/static/pagews.js?again");
          return [once.pagews === window.pagews, again.pagews === window.pagews, once.PageError !== undefined];
        }"""
    )

    assert same == [True, True, True]
    assert len(site.journal["attach"]) == 1


async def test_classic_script_waits_for_ready(serve: Serve, open_tab: OpenTab) -> None:
    site = Site()
    site.add_view("/classic", "classic.html")
    await serve(site)

    tab = await open_tab(f"{site.url}/classic")

    assert await tab.wait("ready") == [{"before": "object", "same": True, "state": "idle"}]
    await site.publisher.page(await tab.id()).push("growl", "for the classic script")
    assert await tab.wait("growl") == ["for the classic script"]


async def test_state_is_told_and_shown(serve: Serve, open_tab: OpenTab) -> None:
    site = Site()
    site.add_view("/nostream", "nostream.html")
    await serve(site)
    tab = await open_tab(f"{site.url}/nostream", state="idle")
    await tab.run(
        """() => pagews.addEventListener("statechange", ({ detail }) => {
          told("state", [detail.previous, detail.state, document.documentElement.dataset.pagewsState]);
        })"""
    )
    assert await tab.run("document.documentElement.dataset.pagewsState") == "idle"

    await tab.run("pagews.connect()")
    await tab.is_in("open")
    await tab.run("pagews.close()")

    assert await tab.wait("state", 3) == [
        ["idle", "connecting", "connecting"],
        ["connecting", "open", "open"],
        ["open", "closed", "closed"],
    ]


async def test_closing_the_tab_says_goodbye(serve: Serve, open_tab: OpenTab) -> None:
    # Without a goodbye the page would be waited for as long as the log is kept.
    site = await serve(limits=Limits(grace=0.1, heartbeat=1))
    tab = await open_tab(f"{site.url}/")
    page_id = await tab.id()

    await tab.page.close(run_before_unload=True)

    assert [page.id for page in await site.journal.wait("gone")] == [page_id]
