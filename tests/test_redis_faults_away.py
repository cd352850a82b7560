"""What pages and others do while their worker does not hear from Redis."""

from __future__ import annotations

import asyncio

from pagews import BrokerUnavailable
from tests.redis_server import RedisServer
from tests.sites import TestSite
from tests.test_redis_faults_line import first_behind_proxy, is_attached_nowhere, listening
from tests.two_workers import attached, open_page, two_workers, until


async def test_rule_22_a_send_that_was_held_back_does_not_overtake_the_revocation(redis: RedisServer) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), open_page(a) as page:
        [found] = await b.publisher.topic("news").pages()
        proxy.refusing = True
        listening(proxy).cut()
        await until(lambda: proxy.counts["refused"] > 0)
        await found.session.revoke()
        await page.send("send", 1, 1, "unknown", None)
        proxy.refusing = False
        await page.until(lambda: page.closed is not None)
        # It is refused, unless the page was closed before that.
        assert [error["code"] for is_ok, error in page.results.values()] in ([], ["not-authorized"])


async def test_a_page_that_is_closed_for_good_while_its_worker_does_not_hear(redis: RedisServer) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), open_page(a) as page:
        [found] = await b.publisher.topic("news").pages()
        proxy.refusing = True
        listening(proxy).cut()
        await until(lambda: proxy.counts["refused"] > 0)
        await found.close(4500, "over")
        proxy.refusing = False
        await page.until(lambda: page.closed is not None)
        assert page.closed is not None
        assert page.closed.code == 4500


async def test_a_task_of_a_page_that_ends_while_its_worker_does_not_hear(redis: RedisServer) -> None:
    async with first_behind_proxy(redis) as (proxy, a, b), open_page(a) as page:
        [here] = await a.publisher.topic("news").pages()
        task = here.create_task(asyncio.Event().wait())
        await page.cut()
        proxy.refusing = True
        listening(proxy).cut()
        await until(lambda: proxy.counts["refused"] > 0)
        await b.publisher.page(page.id).close(4500, "over")
        proxy.refusing = False
        await until(task.done)


async def test_a_page_that_answers_while_redis_is_away_comes_back_to_say_it_again(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, _), open_page(a) as page:
        own_redis.stop()
        try:
            await page.send("ack", 7, True, 1)
            await page.until(lambda: page.closed is not None)
        finally:
            own_redis.go_on()
        assert page.closed is not None
        assert page.closed.code == 1012


async def test_fault_9_a_worker_hears_that_it_was_taken_for_dead_though_a_reply_is_lost(redis: RedisServer) -> None:
    async with first_behind_proxy(redis, lease=1.5) as (proxy, a, b), open_page(a) as page:
        # Its probes wait in a black hole, and are run when that ends: so does TCP with what a connection has left that
        # was closed on one side. Nobody reads the replies.
        links = proxy.open_links
        proxy.refusing = True
        proxy.stall()
        await until(lambda: is_attached_nowhere(b))
        await until(lambda: knows_that_redis_is_away(a))
        async with asyncio.timeout(5):
            for link in links:
                link.resume()
                await link.ended()
        proxy.refusing = False

        async def is_told() -> bool:
            return page.closed is not None or await attached(b) == [page.id]

        await until(is_told)


async def knows_that_redis_is_away(site: TestSite) -> bool:
    try:
        await site.publisher.topic("other").push("show", 0)
    except BrokerUnavailable as error:
        return not error.unknown
    return False
