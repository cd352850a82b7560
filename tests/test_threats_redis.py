"""Calls to Redis that somebody cancels: the reply that comes all the same is nobody else's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from pagews.redis_link import Calls, Line
from tests.redis_server import RedisServer
from tests.sites import TestSite, serving
from tests.threats import Desk
from tests.two_workers import LIMITS, open_page
from tests.wire_client import Visitor

CHANCE: Final = random.Random(30)


@asynccontextmanager
async def calling(redis: RedisServer) -> AsyncIterator[Calls]:
    """Calls over one connection."""
    line, calls = await Line.open(redis.url, 5.0), Calls(5.0)
    running = asyncio.create_task(calls.run(line))
    await asyncio.sleep(0)
    calls.open()
    try:
        yield calls
    finally:
        running.cancel()
        await asyncio.wait([running])


async def echo(calls: Calls, number: int) -> bytes:
    reply: bytes = await calls(b"ECHO", b"%d" % number)
    return reply


async def cancelled(calls: Awaitable[bytes]) -> None:
    """A call that is cancelled when its command has left."""
    task = asyncio.ensure_future(calls)
    await asyncio.sleep(CHANCE.choice([0, 0, 0.001]))
    task.cancel()
    await asyncio.wait([task])


async def test_threat_30_no_caller_gets_the_reply_of_one_that_was_cancelled(own_redis: RedisServer) -> None:
    async with calling(own_redis) as calls:
        own_redis.stop()
        waiting = {number: asyncio.create_task(echo(calls, number)) for number in range(0, 200, 2)}
        for number in range(1, 200, 2):
            await cancelled(echo(calls, number))
        behind = asyncio.create_task(echo(calls, 1000))
        await asyncio.sleep(0.01)
        assert not behind.done()
        own_redis.go_on()

        assert await behind == b"1000"
        assert {number: await task for number, task in waiting.items()} == {
            number: b"%d" % number for number in waiting
        }
        assert await echo(calls, 1001) == b"1001"


async def test_threat_30_whenever_it_is_cancelled(redis: RedisServer) -> None:
    """Callers come and go, each of them after its own time."""

    async def caller(number: int) -> None:
        for step in range(20):
            mine = number * 1000 + step
            if CHANCE.random() < 0.5:
                await cancelled(echo(calls, -mine))
            assert await echo(calls, mine) == b"%d" % mine

    async with calling(redis) as calls:
        await asyncio.gather(*(caller(number) for number in range(20)))


async def test_threat_30_a_request_that_is_cut_takes_nobody_elses_push_along(own_redis: RedisServer) -> None:
    """aiohttp cancels the views of connections that are lost, if it is asked to, in the middle of a push."""
    asked = asyncio.Semaphore(0)

    async def push(request: web.Request) -> web.Response:
        asked.release()
        number = request.query["number"]
        await site.publisher.topic(f"topic {number}").push("note", number)
        return web.Response(text=number)

    site = TestSite(broker=own_redis.url, limits=LIMITS, handler_cancellation=True, delegates=Desk().delegates)
    site.app.router.add_get("/push", push)
    async with serving(site), Visitor(site.url) as visitor, open_page(site, "/?topic=topic 7&topic=topic 3") as page:
        own_redis.stop()
        asking = [asyncio.create_task(_text(visitor, number)) for number in range(10)]
        for _ in asking:
            await asked.acquire()
        for task in asking[::2]:
            task.cancel()
        await asyncio.wait(asking[::2])
        own_redis.go_on()

        assert await asyncio.gather(*asking[1::2]) == ["1", "3", "5", "7", "9"]
        await page.until(lambda: sorted(page.shown) == ["3", "7"])
        assert await _text(visitor, 11) == "11"
        assert site.publisher.statistics().refused == {}


async def _text(visitor: Visitor, number: int) -> str:
    async with visitor.http.get(f"{visitor.url}/push?number={number}") as response:
        assert response.status == 200
        return await response.text()
