"""Faults 11, 12 and 16: Redis is killed, stopped, full, or made read-only. The pages of both workers stay, and are told
the truth.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from pagews import BrokerUnavailable, ConfigurationError, Limits
from tests.redis_server import RedisServer
from tests.two_workers import LIMITS, TIMES, attached, broker_of, note, open_page, push_when_back, two_workers, until


async def longest_turn(over: asyncio.Event) -> float:
    """The longest time that the loop has not come round, in seconds."""
    longest, before = 0.0, time.monotonic()
    while not over.is_set():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    return longest


async def test_fault_11_a_redis_that_comes_back_empty_is_a_new_epoch(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page, open_page(b) as other:
        await a.publisher.topic("news").push("show", "before")
        for each in (page, other):
            await each.until_shown("before")
        await own_redis.restart()
        for each in (page, other):
            await each.until_told(None, "epoch")
            assert each.closed is None
        await push_when_back(b, "after")
        for each in (page, other):
            await each.until_shown("before", "after")
        # The record of each page is made anew.
        assert await attached(a) == await attached(b) == sorted([page.id, other.id])
        assert page.welcomes[0]["epoch"] != page.welcomes[-1]["epoch"]


async def test_fault_11_the_log_that_is_begun_anew_keeps_what_the_first_one_kept(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        settings = await own_redis.command("HMGET", "pagews:log", "retention", "entries", "bytes", "grace", "results")
        await own_redis.restart()
        await page.until_told(None, "epoch")
        await page.cut()
        for number in range(5):
            await push_when_back(b, number)
        # Resumed from the log, on the other worker.
        await page.attach(b.url)
        await page.until_shown(*range(5))
        assert page.lost == [None, "epoch", None]
        assert page.welcomes[-1]["resumed"] is True
        assert settings == await own_redis.command(
            "HMGET", "pagews:log", "retention", "entries", "bytes", "grace", "results"
        )


async def test_fault_11_a_page_that_was_cut_meanwhile_is_not_told_that_it_resumed(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        for number in range(3):
            await a.publisher.topic("news").push("show", number)
        await page.until_shown(0, 1, 2)
        await page.cut()
        await own_redis.restart()
        await until(lambda: broker_of(a).position.epoch == broker_of(b).position.epoch != page.cursor["epoch"])
        # As many again, so that the number of its cursor exists.
        for number in range(20):
            await push_when_back(b, number)
        await page.attach(b.url)
        assert page.lost == [None, "epoch"]
        assert page.welcomes[-1]["resumed"] is False


async def test_fault_11_pages_of_a_new_epoch_are_gone_once(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url, limits=Limits(**TIMES, retention=1.0, grace=0.5)) as (a, b):
        gone, gone_too = note(a.publisher.on_gone), note(b.publisher.on_gone)
        async with open_page(a) as page, open_page(b) as other:
            await own_redis.restart()
            for each in (page, other):
                await each.until_told(None, "epoch")
        assert not gone + gone_too
        await until(lambda: len(gone + gone_too) == 2)
        assert await attached(a) == []
    # Also what would come late has come: the workers have stopped.
    assert sorted(gone + gone_too) == sorted([page.id, other.id])


async def test_fault_11_a_redis_that_is_emptied_is_a_new_epoch(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        await own_redis.flush()
        await page.until_told(None, "epoch")
        await push_when_back(b, "after")
        await page.until_shown("after")
        assert await attached(b) == [page.id]


async def test_fault_12_redis_stands_still_and_goes_on(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page, open_page(b) as other:
        over = asyncio.Event()
        turning = asyncio.create_task(longest_turn(over))
        own_redis.stop()
        try:
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable) as failed:
                await a.publisher.topic("news").push("show", 1, key="one")
            took = time.monotonic() - began
            # The next ones know that it is away: nothing can have happened.
            with pytest.raises(BrokerUnavailable) as refused:
                await a.publisher.topic("news").push("show", 2)
            # Longer than a worker may be silent.
            await asyncio.sleep(LIMITS.lease)
        finally:
            own_redis.go_on()
        over.set()
        assert failed.value.unknown is True
        assert refused.value.unknown is False
        assert took < LIMITS.broker * 1.5
        assert await turning < 0.5
        await push_when_back(b, 3)
        await page.until(lambda: 3 in page.shown)
        await other.until(lambda: 3 in other.shown)
        # What was accepted came once: whether the first was is unknown.
        assert page.shown == other.shown
        assert page.shown in ([3], [1, 3])
        # It goes on where it was: nobody was counted as dead, and nothing is lost.
        assert page.closed is None
        assert other.closed is None
        assert page.lost == other.lost == [None]
        assert await attached(a) == sorted([page.id, other.id])


async def test_fault_12_nobody_is_dead_because_redis_was_away(own_redis: RedisServer) -> None:
    patient = Limits(**{**TIMES, "broker": 5.0})
    async with two_workers(own_redis.url, limits=patient) as (a, b):
        detached = [note(a.publisher.on_detach), note(b.publisher.on_detach)]
        async with open_page(a) as page, open_page(b) as other:
            own_redis.stop()
            await asyncio.sleep(TIMES["lease"] + 1.0)
            own_redis.go_on()
            for _ in range(2):
                await asyncio.gather(broker_of(a).probe(), broker_of(b).probe())
            await b.publisher.topic("news").push("show", 1)
            for each in (page, other):
                await each.until_shown(1)
                assert each.closed is None
            assert await attached(a) == sorted([page.id, other.id])
            assert detached == [[], []]


async def test_fault_16_a_full_redis_tells_the_publisher_and_the_pages_stay(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        await own_redis.config("maxmemory", 1)
        with pytest.raises(BrokerUnavailable, match="maxmemory") as failed:
            await b.publisher.topic("news").push("show", 1)
        assert failed.value.unknown is False
        # It hears what needs no memory, and may come back.
        await b.publisher.topic("news").push("show", 2, qos=0)
        await page.until_shown(2)
        await page.attach(b.url)
        assert page.lost == [None, None]
        await own_redis.config("maxmemory", 0)
        await b.publisher.topic("news").push("show", 3)
        await page.until_shown(2, 3)


@pytest.mark.parametrize("setting", ["min-replicas-to-write", "replicaof"])
async def test_fault_16_a_redis_that_is_read_only_tells_the_publisher(own_redis: RedisServer, setting: str) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        if setting == "replicaof":
            # Of nobody: it waits for a master that is not there.
            await own_redis.command("REPLICAOF", "127.0.0.1", 1)
        else:
            await own_redis.config(setting, 1)
        with pytest.raises(BrokerUnavailable):
            await b.publisher.topic("news").push("show", 1)
        await asyncio.sleep(LIMITS.lease)
        if setting == "replicaof":
            await own_redis.command("REPLICAOF", "NO", "ONE")
        else:
            await own_redis.config(setting, 0)
        await push_when_back(b, 2)
        await page.until_shown(2)
        assert page.closed is None
        assert page.lost == [None]


async def test_fault_16_a_redis_that_evicts_is_refused_at_the_start(own_redis: RedisServer) -> None:
    await own_redis.config("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match="allkeys-lru"):
        async with two_workers(own_redis.url):
            pass


async def test_rule_4_a_redis_that_has_evicted_has_a_new_epoch(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        # A key that expires, which alone it may evict: the log is as it was.
        await own_redis.command("SET", "another", "x" * 100, "EX", 1000)
        await own_redis.config("maxmemory-policy", "volatile-lru")
        await own_redis.config("maxmemory", 1)
        await until(lambda: has_evicted(own_redis))
        await own_redis.config("maxmemory", 0)
        await own_redis.config("maxmemory-policy", "noeviction")
        await page.until_told(None, "epoch")
        await push_when_back(b, 1)
        await page.until_shown(1)
        assert await attached(b) == [page.id]


async def has_evicted(redis: RedisServer) -> bool:
    await redis.command("PING")
    stats = await redis.command("INFO", "stats")
    return int(stats["evicted_keys"]) > 0


async def test_flushed_scripts_do_not_matter(own_redis: RedisServer) -> None:
    async with two_workers(own_redis.url) as (a, b), open_page(a) as page:
        await own_redis.command("SCRIPT", "FLUSH")
        await asyncio.gather(*(b.publisher.topic("news").push("show", number) for number in range(3)))
        await page.until(lambda: sorted(page.shown) == [0, 1, 2])
        await own_redis.command("SCRIPT", "FLUSH")
        await page.attach(b.url)
        assert page.lost == [None, None]
