"""A page that moves from one transport to another in mid-conversation: nothing is missing, nothing comes twice."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

import pytest

import pagews
from pagews import DelegateTableDef
from pagews.site import get_site
from tests.sites import ByTurns, House, TestSite, serving
from tests.wire_client import TRANSPORTS, Document, Transport, Visitor

PAIRS: Final = [(old, new) for old, new in itertools.product(TRANSPORTS, repeat=2) if old != new]
MESSAGES: Final = 60


class Moving:
    """A delegate that is held, so that its send has no answer while the page moves."""

    def __init__(self) -> None:
        self.table = DelegateTableDef()
        self.runs: list[int] = []
        self.started = asyncio.Event()
        self.go = asyncio.Event()

        @self.table.on("count")
        async def count(page: pagews.Page, data: int) -> int:
            self.runs.append(data)
            self.started.set()
            await self.go.wait()
            return data


async def push_all(topic: ByTurns, first: int) -> None:
    """Push, a few in each turn of the loop."""
    for number in range(first, first + MESSAGES):
        await topic.push("count", number)
        if number % 5 == 0:
            await asyncio.sleep(0)


@pytest.mark.parametrize(("old", "new"), PAIRS)
async def test_a_move_with_a_send_unanswered_and_pushes_under_way(house: House, old: Transport, new: Transport) -> None:
    moving = Moving()
    async with (
        serving(house(delegates=moving.table)) as site,
        Visitor(site.url, old) as visitor,
        Document(visitor, await visitor.token("/?topic=news")) as document,
    ):
        topic = site.topic("news")
        await document.until(lambda document: bool(document.welcomes))
        await document.send("count", 0, qos=2)
        await moving.started.wait()
        pushing = asyncio.create_task(push_all(topic, 0))
        await document.until(lambda document: len(document.received) > 5)
        await document.move(new)
        await document.send("count", 1, qos=2)
        await pushing
        await document.until(lambda document: len(document.welcomes) == 2)
        await push_all(topic, MESSAGES)
        moving.go.set()
        await document.until(lambda document: not document.unanswered and len(document.received) == 2 * MESSAGES)

        assert [push.data for push in document.received] == list(range(2 * MESSAGES))
        assert document.results == {1: [True, 0], 2: [True, 1]}
        await site.attached(1)
    assert moving.runs == [0, 1]


# In one process: a move to another worker is told there as attach, and as detach where it was.
async def test_a_move_through_all_of_them_and_back_is_no_detach() -> None:
    attached, detached = list[str](), list[str]()
    site = TestSite()

    async def note_attached(page: pagews.Page) -> None:
        attached.append(page.id)

    async def note_detached(page: pagews.Page) -> None:
        detached.append(page.id)

    get_site(site.app).publisher.on_attach.append(note_attached)
    get_site(site.app).publisher.on_detach.append(note_detached)
    async with (
        serving(site),
        Visitor(site.url) as visitor,
        Document(visitor, await visitor.token("/?topic=news")) as document,
    ):
        way: list[Transport] = ["stream", "poll", "websocket", "poll", "stream", "websocket"]
        await document.until(lambda document: len(document.welcomes) == 1)
        for moves, transport in enumerate(way, 1):
            await document.move(transport)
            await document.until(lambda document, moves=moves: len(document.welcomes) == 1 + moves)  # type: ignore[misc]

        assert attached == [document.welcomes[0]["page"]]
        assert detached == []
