"""Fault 15: another server takes Redis's place, with the same keys, and not all of them. It would give the same numbers
once more: it is a new epoch, on every connection.
"""

from __future__ import annotations

import asyncio

import pytest

from pagews import Limits
from tests.faults import HOST
from tests.redis_server import RedisServer
from tests.sites import TestSite, serving
from tests.two_workers import LIMITS, TIMES, attached, broker_of, open_page, push_when_back, two_workers, until


async def lagging_replica(redis: RedisServer) -> RedisServer:
    """Has all that is there by now, and nothing that comes."""
    replica = await redis.replica()
    await replica.command("REPLICAOF", HOST, 1)
    return replica


async def test_fault_15_a_replica_that_lags_is_a_new_epoch(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page, open_page(b) as away:
        for number in range(3):
            await a.publisher.topic("news").push("show", number)
        replica = await lagging_replica(own_redis)
        for number in range(3, 6):
            await a.publisher.topic("news").push("show", number)
        for each in (page, away):
            await each.until_shown(*range(6))
        await away.cut()
        own_redis.kill()
        await replica.succeed()
        await page.until_told(None, "epoch")
        assert page.closed is None
        # It would give the numbers again that the page has seen.
        for number in range(10, 20):
            await push_when_back(b, number)
        await page.until_shown(*range(6), *range(10, 20))
        await away.attach(a.url)
        assert away.lost == [None, "epoch"]
        assert await attached(b) == sorted([page.id, away.id])


async def test_rule_18_nothing_is_filed_in_the_old_epoch_by_a_push_that_waited(own_redis: RedisServer) -> None:
    patient = Limits(**{**TIMES, "broker": 8.0})
    async with two_workers(own_redis.url, limits=patient) as (a, b), open_page(a) as page:
        replica = await lagging_replica(own_redis)
        old = broker_of(a).position.epoch
        for number in range(3):
            await b.publisher.topic("news").push("show", number)
        await page.until_shown(*range(3))
        own_redis.kill()
        await until(lambda: not any(broker_of(site)._calls.connected for site in (a, b)))
        waiting = [asyncio.create_task(site.publisher.topic("news").push("show", "waited")) for site in (a, b)]
        await asyncio.sleep(0)
        await replica.succeed()
        await asyncio.gather(*waiting)
        await page.until_told(None, "epoch")
        watermark, seq, epoch = await replica.command("HMGET", "pagews:log", "watermark", "seq", "epoch")
        assert epoch != old
        filed = [
            int(entry[0].partition("-")[0])
            for entry in await replica.command("XRANGE", "pagews:channel:topic:news", "-", "+")
        ]
        assert all(number > int(watermark) for number in filed), (filed, watermark, seq)


@pytest.mark.parametrize("cut", ["none", "pubsub", "normal"])
async def test_fault_15_a_master_that_is_demoted_keeps_its_clients(own_redis: RedisServer, cut: str) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        await b.publisher.topic("news").push("show", 1)
        await page.until_shown(1)
        replica = await own_redis.replica()
        address = own_redis.url
        await replica.succeed()
        # Both are masters; whoever comes now meets the new one.
        async with serving(TestSite(key=a.key, broker=address, limits=LIMITS)) as newcomer:
            await newcomer.publisher.topic("news").push("show", 2)
            if cut == "none":
                await own_redis.command("REPLICAOF", HOST, replica.port)
            else:
                # One of their two connections: it is made anew, to the other server.
                await own_redis.command("CLIENT", "KILL", "TYPE", cut, "SKIPME", "yes")
            await page.until_told(None, "epoch")
            await newcomer.publisher.topic("news").push("show", 3)
            await page.until_shown(1, 3)
            await push_when_back(b, 4)
            await page.until_shown(1, 3, 4)
            assert page.closed is None
            assert await attached(newcomer) == [page.id]


async def test_rule_18_an_old_dump_is_a_new_epoch(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        await own_redis.dump()
        for number in range(3):
            await a.publisher.topic("news").push("show", number)
        await page.until_shown(*range(3))
        own_redis.kill()
        await own_redis.restart(data=True)
        await page.until_told(None, "epoch")
        for number in range(10, 15):
            await push_when_back(b, number)
        await page.until_shown(*range(3), *range(10, 15))
