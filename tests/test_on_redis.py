"""Two workers behind one address: that everything hops between them, and what takes no second for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

import pagews
from pagews import DelegateTableDef
from pagews.redis_broker import RedisBroker
from pagews.site import get_site
from tests.on_redis import TwoWorkers
from tests.redis_server import RedisServer
from tests.sites import serving
from tests.two_workers import until
from tests.wire_client import POLLS, Document, Visitor, new_document


async def test_each_request_of_a_connection_that_is_kept_alive_goes_to_the_other_worker(
    shared_redis: RedisServer,
) -> None:
    site = TwoWorkers(shared_redis.url)
    asked: list[int] = []
    for number, worker in enumerate(site.workers):

        async def note(request: web.Request, number: int = number) -> web.Response:
            asked.append(number)
            return web.Response()

        worker.app.router.add_get("/note", note)
    async with serving(site), Visitor(site.url) as visitor:
        for _ in range(5):
            assert await visitor.get("/note") == 200
    assert asked == [0, 1, 0, 1, 0]


async def test_each_poll_goes_to_the_other_worker(shared_redis: RedisServer) -> None:
    async with (
        serving(TwoWorkers(shared_redis.url)) as site,
        Visitor(site.url, "poll") as visitor,
        Document(visitor, await visitor.token("/?topic=news")) as document,
    ):
        held = [get_site(worker.app).held for worker in site.workers]
        had: list[int] = []
        for number in range(4):
            await site.waiting()
            had.append([one.total() for one in held].index(1))
            await site.publisher.topic("news").push("count", number)
            await document.until(lambda document, number=number: len(document.received) > number)  # type: ignore[misc]
        assert had in ([0, 1, 0, 1], [1, 0, 1, 0])
        assert [push.data for push in document.received] == [0, 1, 2, 3]
        assert document.closes == []


async def test_who_waits_for_a_result_is_told_at_once_though_the_page_is_not_there(
    shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a probe, nothing but the result itself wakes whoever waits for it.
    monkeypatch.setattr(RedisBroker, "tick", lambda broker: None)
    started, go, runs = asyncio.Event(), asyncio.Event(), list[Any]()
    slow = DelegateTableDef()

    @slow.on("slow")
    async def run(page: pagews.Page, data: Any) -> str:
        runs.append(data)
        started.set()
        await go.wait()
        return "done"

    async with serving(TwoWorkers(shared_redis.url, delegates=slow)) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        # The page is where its send runs; a post sends it again, to the other one.
        wire = await visitor.attach(token, document=document)
        there, here = (get_site(worker.app) for worker in site.workers)
        send = ["send", 1, 2, "slow", "a"]
        await wire.send(*send)
        await started.wait()
        assert list(here.node.pages) == [wire.page]
        hello = ["hello", {"token": token, "document": document, "attempt": POLLS, "transport": "stream"}]
        body = json.dumps([hello, send]).encode()
        posting = asyncio.create_task(visitor.line().request("/pagews/post", body))
        await until(lambda: there.counters.sent > 0)
        for _ in range(10):  # whatever it was about to ask of Redis has been asked
            await there.node.broker.revoked("session:nobody")
        assert not posting.done()
        go.set()
        async with asyncio.timeout(2):
            answer = await posting
        assert json.loads(answer.body) == [["result", 1, True, "done"]]
        assert await wire.receive() == ["result", 1, True, "done"]
    assert runs == ["a"]
