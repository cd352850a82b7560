"""Faults 13 and 14, and what else happens to the two connections of a worker to Redis: each may be cut, silent or half
open for itself. Nothing is lost, and nobody is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from pagews import BrokerUnavailable, Limits
from pagews.broker import Answer
from pagews.page import Owner
from pagews.redis_broker import RedisBroker
from pagews.redis_scripts import ATTACH
from tests.broker_bench import RedisDesk
from tests.faults import HOST, FaultProxy, Link
from tests.redis_server import RedisServer
from tests.rig import draft
from tests.sites import TestSite
from tests.two_workers import TIMES, OpenPage, attached, broker_of, open_page, push_when_back, two_workers, until
from tests.wire_client import Visitor

NEWS: Final = "/?topic=news"


@asynccontextmanager
async def first_behind_proxy(
    redis: RedisServer, **limits: float
) -> AsyncIterator[tuple[FaultProxy, TestSite, TestSite]]:
    """Two workers, of which the first reaches Redis through a proxy."""
    async with FaultProxy(HOST, redis.port) as proxy:
        # A worker whose subscription is silent does not probe: it must not be taken for dead for that.
        times = Limits(**{**TIMES, "lease": 8.0, **limits})
        async with two_workers(f"redis://{HOST}:{proxy.port}/0", redis.url, limits=times) as (a, b):
            yield proxy, a, b


def listening(proxy: FaultProxy) -> Link:
    """The newest connection that brings what is published."""
    return [link for link in proxy.open_links if b"\r\nSUBSCRIBE\r\n" in link.up.data][-1]


def calling(proxy: FaultProxy) -> Link:
    """The connection that commands go through."""
    [link] = [link for link in proxy.open_links if b"\r\nSUBSCRIBE\r\n" not in link.up.data]
    return link


async def test_fault_13_a_half_open_subscription_is_noticed_and_nothing_is_lost(redis: RedisServer) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), open_page(a) as page:
        topic = b.publisher.topic("news")
        await topic.push("show", 0)
        await page.until_shown(0)
        # What is on its way there waits before the black hole.
        await broker_of(a).probe()
        silent, before = listening(proxy), len(page.frames)
        silent.stall()
        for number in range(1, 10):
            await topic.push("show", number)
        proven = broker_of(a).position.seq
        await page.until_shown(*range(10))
        # By another connection, and on the same socket.
        assert listening(proxy) is not silent
        assert (page.closed, page.lost, page.repeated) == (None, [None], 0)
        # Rule 8: until then no ping has moved on.
        came = page.frames[before:]
        first = next(index for index, frame in enumerate(came) if frame[0] == "push")
        assert all(frame[0] == "ping" and frame[1] <= proven for frame in came[:first])
        await topic.push("show", 10)
        await page.until_shown(*range(11))


async def test_fault_14_a_subscription_that_is_killed_for_its_buffer_reads_on(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        await own_redis.config("client-output-buffer-limit", "pubsub 4096 0 0")
        topic = b.publisher.topic("news")
        text = "x" * 5000
        await asyncio.gather(*(topic.push("show", [number, text]) for number in range(100)))
        await own_redis.config("client-output-buffer-limit", "pubsub 0 0 0")
        await page.until(lambda: len(page.shown) == 100)
        assert sorted(number for number, _ in page.shown) == list(range(100))
        assert (page.closed, page.lost) == (None, [None])
        assert any("output buffer limits" in line for line in own_redis.said)


async def test_rule_13_every_new_subscription_is_a_new_beginning(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        for turn in range(5):
            pushing = [b.publisher.topic("news").push("show", 10 * turn + number) for number in range(10)]
            await asyncio.gather(*pushing, own_redis.cut("pubsub"))
        await page.until(lambda: len(page.shown) == 50)
        assert sorted(page.shown) == list(range(50))
        assert (page.closed, page.lost) == (None, [None])


async def test_rule_13_both_connections_are_cut_at_once(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        for turn in range(5):
            await own_redis.command("CLIENT", "KILL", "SKIPME", "yes")
            await push_when_back(b, turn)
        await page.until_shown(*range(5))
        assert (page.closed, page.lost) == (None, [None])


async def test_rule_22_a_revocation_reaches_a_page_whose_worker_did_not_hear(redis: RedisServer) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), open_page(a) as page:
        [found] = await b.publisher.topic("news").pages()
        listening(proxy).stall()
        await found.session.revoke()
        await page.until(lambda: page.closed is not None)
        assert page.closed is not None
        assert page.closed.code == 4503


async def test_rule_22_a_revocation_while_there_is_no_subscription(redis: RedisServer) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), open_page(a) as page:
        [found] = await b.publisher.topic("news").pages()
        proxy.refusing = True
        listening(proxy).cut()
        await until(lambda: proxy.counts["refused"] > 0)
        await found.session.revoke()
        proxy.refusing = False
        await page.until(lambda: page.closed is not None)
        assert page.closed is not None
        assert page.closed.code == 4503


async def test_a_page_that_is_cut_while_redis_is_away_is_detached_later(redis: RedisServer) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), Visitor(a.url) as visitor:
        page = OpenPage(visitor, await visitor.token(NEWS))
        async with page:
            proxy.refusing = True
            proxy.cut()
        # Longer than a command is waited for, and not so long that its worker is taken for dead.
        await asyncio.sleep(TIMES["broker"] + 0.7)
        assert await attached(b) == [page.id]
        proxy.refusing = False
        await until(lambda: is_attached_nowhere(b))


async def test_a_hello_whose_grant_is_lost_is_detached_later(redis: RedisServer) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), Visitor(a.url) as visitor:
        page = OpenPage(visitor, await visitor.token(NEWS))
        link = calling(proxy)

        def at_the_claim(before: bytearray, chunk: bytes) -> int | None:
            if ATTACH.digest in chunk:
                link.down.stall()
            return None

        link.up.cut_when(at_the_claim)
        await page.hello()
        await until(lambda: is_attached(b))
        link.cut()
        # Its document is told to come back, and does not.
        await page.until(lambda: page.closed is not None)
        await page.cut()
        await until(lambda: is_attached_nowhere(b))


async def is_attached(site: TestSite) -> bool:
    return bool(await attached(site))


async def is_attached_nowhere(site: TestSite) -> bool:
    return not await attached(site)


async def test_rule_24_no_answer_is_lost_among_many_at_once(redis: RedisServer) -> None:
    asking, answering = await RedisDesk(redis).start(), await RedisDesk(redis).start()
    try:
        await asking.broker.publish("topic:t", draft(receipt=7))
        for start in range(0, 300, 30):
            await asyncio.gather(
                *(
                    answering.broker.answer(Answer(7, f"p{number}", f"d{number}", ["topic:t"], True, number))
                    for number in range(start, start + 30)
                )
            )
            await asyncio.sleep(0)
        await asking.node.until(lambda: len({answer.value for answer in asking.node.answers}) == 300)
        assert len(asking.node.answers) == 300
    finally:
        await asyncio.gather(asking.broker.stop(), answering.broker.stop())


async def test_rule_24_answers_outlast_the_connection_of_whoever_asks(own_redis: RedisServer) -> None:
    asking, answering = await RedisDesk(own_redis).start(), await RedisDesk(own_redis).start()
    try:
        await asking.broker.publish("topic:t", draft(receipt=7))
        for number in range(5):
            await asyncio.gather(
                own_redis.cut("pubsub"),
                answering.broker.answer(Answer(7, f"p{number}", f"d{number}", ["topic:t"], True, number)),
            )
        await asking.node.until(lambda: {answer.value for answer in asking.node.answers} == set(range(5)))
    finally:
        await asyncio.gather(asking.broker.stop(), answering.broker.stop())


async def test_rule_12_what_comes_late_from_a_subscription_that_was_given_up_is_no_gap(redis: RedisServer) -> None:
    async with FaultProxy(HOST, redis.port) as proxy:
        pushing = await RedisDesk(redis).start()
        hearing = RedisDesk(redis)
        hearing.broker = type(hearing.broker)(f"redis://{HOST}:{proxy.port}/0", hearing.limits)
        await hearing.start()
        try:
            link = listening(proxy)
            link.stall()
            await pushing.broker.publish("topic:t", draft(1))
            # It is on its way when nobody here listens to the topic any more.
            hearing.broker.unsubscribe(["topic:t"])
            link.resume()
            await hearing.settle()
            await pushing.broker.publish("topic:t", draft(2))
            await hearing.broker.subscribe(["topic:t"])
            await pushing.broker.publish("topic:t", draft(3))
            await hearing.node.until(lambda: bool(hearing.node.delivered) and data(hearing)[-1] == 3)
            assert hearing.node.interruptions == 0
        finally:
            await asyncio.gather(pushing.broker.stop(), hearing.broker.stop())


def data(desk: RedisDesk) -> list[object]:
    return [message.data for _, message in desk.node.delivered]  # type: ignore[union-attr]  # only pushes are filed


@pytest.mark.parametrize("repeat", range(2))
async def test_rule_23_a_push_whose_reply_is_lost_is_filed_once(redis: RedisServer, repeat: int) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), open_page(b) as page:
        link = calling(proxy)
        link.down.stall()
        pushing = asyncio.create_task(a.publisher.topic("news").push("show", "once", key="one"))
        await page.until_shown("once")
        link.cut()
        with pytest.raises(BrokerUnavailable) as failed:
            await pushing
        assert failed.value.unknown is True
        # The same again, by either worker.
        site = (a, b)[repeat]
        await site.publisher.topic("news").push("show", "once", key="one")
        await site.publisher.topic("news").push("show", "another")
        await page.until(lambda: page.shown[-1] == "another")
        assert page.shown == ["once", "another"]


@pytest.mark.parametrize("event", ["gone", "detached"])
async def test_rule_27_what_one_worker_is_to_tell_is_told_though_the_reply_that_says_so_is_lost(
    redis: RedisServer, event: str
) -> None:
    desk, dead = RedisDesk(redis, lease=30.0), RedisDesk(redis)
    async with FaultProxy(HOST, redis.port) as proxy:
        desk.broker = RedisBroker(f"redis://{HOST}:{proxy.port}/0", desk.limits)
        await dead.start()
        await desk.start()
        told = desk.node.gone_pages if event == "gone" else desk.node.detached_pages
        await dead.attach()
        if event == "gone":
            await dead.broker.detach("p", Owner("d", 1), left=True)
            await dead.jump(11)
        else:
            await redis.command("ZADD", "pagews:alive", "XX", 0, dead.broker._node.decode())
        reply = calling(proxy)
        reply.down.stall()
        desk.broker.tick()

        async def has_run() -> bool:
            return bool(await redis.command("EXISTS", f"pagews:untold:{desk.broker._node.decode()}"))

        await until(has_run)
        assert told == []
        reply.cut()
        await desk.node.until(lambda: told == ["p"])
        # Once: what it has told is taken from the list.
        await desk.broker.probe()
        await desk.broker.probe()
        assert told == ["p"]
        assert not await has_run()
        await desk.broker.stop()
        await dead.broker.stop()
