"""The page asks to listen to topics; the application decides."""

from __future__ import annotations

import pytest

import pagews
from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)


async def authorize(page: pagews.Page, topic: str) -> bool:
    return topic.startswith("room/")


async def test_join_and_leave(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(authorize=authorize)
    tab = await open_tab(f"{site.url}/")
    [page] = await site.journal.wait("attach")
    await tab.listen("line")
    room = site.publisher.topic("room/7")

    await room.push("line", "before it joined")
    await tab.run("pagews.join('room/7')")
    assert page.topics == {"room/7"}
    await room.push("line", "while it listens")
    await tab.wait("line")
    await tab.run("pagews.leave('room/7')")
    await room.push("line", "after it left")
    await page.push("line", "to the page")

    assert await tab.wait("line", 2) == ["while it listens", "to the page"]
    assert page.topics == set()


async def test_join_is_denied(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(authorize=authorize)
    tab = await open_tab(f"{site.url}/")

    assert await tab.run("pagews.join('secret').catch(({ name, code }) => [name, code])") == [
        "PageError",
        "not-authorized",
    ]


async def test_joined_topic_is_kept_over_a_cut(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(authorize=authorize)
    tab = await open_tab(f"{site.url}/")
    [page] = await site.journal.wait("attach")
    await tab.listen("line")
    await tab.run("pagews.join('room/7')")

    await tab.run("pagews.suspend()")
    await site.journal.wait("detach")
    await site.publisher.topic("room/7").push("line", "while it was away")
    await tab.run("pagews.resume()")

    assert await tab.wait("line") == ["while it was away"]
    assert page.topics == {"room/7"}
