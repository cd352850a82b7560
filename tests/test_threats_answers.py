"""Answers to what nobody has asked, and sends that come again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from pagews.wire import MAX_INTEGER
from tests.sites import House, TestSite, serving
from tests.threats import Desk, is_served, lives, refused, verdict
from tests.two_workers import until
from tests.wire_client import Transport, Visitor, new_document


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=Desk().delegates)) as site:
        yield site


async def test_threat_20_answers_to_what_a_page_was_not_asked_release_nothing(
    house: House, transport: Transport
) -> None:
    async with serving(house(delegates=Desk().delegates)) as site, Visitor(site.url, transport) as visitor:
        asked, other = await visitor.attach(), await visitor.attach()
        publisher = site.publisher
        asking = asyncio.create_task(publisher.page(asked.page).ask("confirm", timeout=30))
        receipt = (await asked.receive())[5]
        never = [receipt + 1, receipt + 1000, MAX_INTEGER]
        for number in [receipt, *never]:
            for ok, value in ((True, "forged"), (False, {"code": "forged", "message": "forged"})):
                assert await other.ask("ack", number, ok, value) == ["acked", number]
        for number in never:
            assert await asked.ask("ack", number, True, "made up") == ["acked", number]

        assert not asking.done()
        await asked.send("ack", receipt, True, "honest")
        assert await asking == "honest"
        assert await asked.receive() == ["acked", receipt]
        # The second answer of the one that was asked is none either.
        assert await asked.ask("ack", receipt, True, "again") == ["acked", receipt]
        # The worker that has asked may hear of it a moment later.
        await until(lambda: refused(site) == {"answer nobody waits for": 2 * 4 + 3 + 1})
        assert await lives(other)


async def test_threat_20_an_answer_to_no_number_ends_its_socket(site: TestSite, transport: Transport) -> None:
    numbers = [-1, 0, -(2**63), MAX_INTEGER + 1, 1.5, "1", None]
    for number in numbers:
        assert (await verdict(site, transport, json.dumps(["ack", number, True, None]))).code == 4501, number

    assert refused(site) == {"malformed frame": len(numbers)}
    assert await is_served(site, transport)


async def test_threat_20_a_result_is_nothing_that_a_page_may_say(site: TestSite, transport: Transport) -> None:
    assert (await verdict(site, transport, '["result",1,true,null]')).code == 4501
    assert refused(site) == {"malformed frame": 1}
    assert await is_served(site, transport)


async def test_threat_21_a_replayed_send_gets_its_stored_result(house: House, transport: Transport) -> None:
    desk = Desk()
    async with serving(house(delegates=desk.delegates)) as site, Visitor(site.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        for attempt in (1, 2, 3):
            wire = await visitor.attach(token, document=document, attempt=attempt)
            for data in ("first", "another"):
                assert await wire.ask("send", 7, 2, "echo", data) == ["result", 7, True, "first"]
            wire.cut()
            await wire.gone()

        assert desk.given == ["first"]
        assert refused(site) == {}
        # A number is one of its document: of others it says nothing.
        other = await visitor.attach()
        assert await other.ask("send", 7, 2, "echo", "other") == ["result", 7, True, "other"]
