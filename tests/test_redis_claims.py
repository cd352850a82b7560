"""Rule 25 on Redis when it is lost in the middle: a send that nobody runs must not keep its page waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pagews import Text
from pagews.page import Owner

from .broker_bench import PATIENCE, text_of
from .redis_server import RedisServer
from .test_redis_rules import Pair, two_nodes
from .two_workers import until


@pytest.fixture
async def pair(redis: RedisServer) -> AsyncIterator[Pair]:
    async with two_nodes(redis) as pair:
        await pair.a.attach()
        yield pair


async def claimed(pair: Pair) -> bool:
    """Whether somebody has the send."""
    return bool(await pair.server.command("HEXISTS", "pagews:sends:p", "1"))


async def test_rule_25_a_claim_whose_answer_is_lost_is_granted_all_the_same(pair: Pair) -> None:
    calling = pair.calling
    calling.down.stall()
    claiming = asyncio.create_task(pair.a.broker.claim_send("p", "d", 1))
    await until(lambda: claimed(pair))
    calling.cut()
    assert (await asyncio.wait_for(claiming, PATIENCE)).granted
    # And to nobody else, on its own node neither.
    assert await pair.a.broker.claim_send("p", "d", 1) == (False, None)


async def test_rule_25_another_node_gets_the_result_of_a_claim_whose_answer_was_lost(pair: Pair) -> None:
    calling = pair.calling
    calling.down.stall()
    claiming = asyncio.create_task(pair.a.broker.claim_send("p", "d", 1))
    await until(lambda: claimed(pair))
    waiting = asyncio.create_task(pair.b.broker.claim_send("p", "d", 1))
    calling.cut()
    assert (await asyncio.wait_for(claiming, PATIENCE)).granted
    await pair.a.broker.complete_send("p", "d", 1, Text("the result"))
    found = await asyncio.wait_for(waiting, PATIENCE)
    assert (found.granted, text_of(found.result)) == (False, "the result")


async def test_rule_25_a_result_is_kept_when_redis_is_back(pair: Pair) -> None:
    assert (await pair.a.broker.claim_send("p", "d", 1)).granted
    waiting = asyncio.create_task(pair.b.broker.claim_send("p", "d", 1))
    pair.calling.stall()
    keeping = asyncio.create_task(pair.a.broker.complete_send("p", "d", 1, Text("the result")))
    await pair.b.broker.probe()
    assert not keeping.done()
    pair.proxy.cut()
    await asyncio.wait_for(keeping, PATIENCE)
    found = await asyncio.wait_for(waiting, PATIENCE)
    assert (found.granted, text_of(found.result)) == (False, "the result")


async def test_rule_25_a_claim_that_is_lost_with_its_log_is_not_granted_in_the_next(pair: Pair) -> None:
    epoch = pair.a.broker.position.epoch
    assert (await pair.a.broker.claim_send("p", "d", 1, epoch=epoch)).granted
    await pair.server.flush()
    pair.a.broker.tick()
    await until(lambda: pair.a.broker.position.epoch != epoch)
    await pair.a.broker.subscribe([])
    await pair.a.attach(attempt=2)
    assert await pair.a.broker.owner("p") == Owner("d", 2)
    # It came before its page heard that the log is lost, and may have run.
    assert await pair.a.broker.claim_send("p", "d", 1, epoch=epoch) == (False, None)
    assert (await pair.a.broker.claim_send("p", "d", 2, epoch=pair.a.broker.position.epoch)).granted
