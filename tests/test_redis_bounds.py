"""What one step may cost Redis, which does nothing else meanwhile, and what may be kept in it when nobody is there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from pagews import BrokerUnavailable, Text
from pagews.broker import Answer
from pagews.errors import ProtocolError
from pagews.node import READS
from pagews.page import Owner
from pagews.redis_scripts import ATTACH

from .broker_bench import PATIENCE, RedisDesk, data_of, text_of
from .faults import Link
from .redis_server import RedisServer
from .rig import Client, draft, turn
from .test_redis_rules import Pair, node_of, two_nodes
from .two_workers import until

MIB: Final = 1024 * 1024

#: What is kept of page p, and for nobody else.
KEPT: Final = ("pagews:page:p", "pagews:variables:p", "pagews:sends:p")


@pytest.fixture
async def pair(redis: RedisServer) -> AsyncIterator[Pair]:
    async with two_nodes(redis) as pair:
        yield pair


@pytest.fixture
async def desk(redis: RedisServer) -> AsyncIterator[RedisDesk]:
    desk = RedisDesk(redis)
    await desk.start()
    yield desk
    await desk.broker.stop()


async def calls(server: RedisServer, command: str) -> int:
    """How often Redis has run a command, also inside scripts."""
    statistics: dict[str, Any] = await server.command("INFO", "commandstats")
    return int(statistics.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def lives(server: RedisServer) -> list[float]:
    """How many seconds what is kept of page p lasts if nobody does anything; -1: for ever."""
    return [await server.command("TTL", key) for key in KEPT]


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_to_read_many_full_channels_costs_no_more_than_one(redis: RedisServer, desk: RedisDesk) -> None:
    start, channels = desk.broker.position, [f"topic:{number}" for number in range(20)]
    for _ in range(3):
        await asyncio.gather(*(desk.broker.publish(channel, draft()) for channel in channels for _ in range(100)))
    before = await calls(redis, "xrange")
    replay = await desk.broker.read(start.epoch, dict.fromkeys(channels, start.seq), 5000)
    assert replay.more
    assert len(data_of(replay.messages)) > len(channels)
    # Each channel is looked into, and most of what that has found is told.
    assert await calls(redis, "xrange") - before < 4 * len(channels)


async def test_of_a_crowd_that_comes_back_a_few_read_at_once_and_all_get_in(pair: Pair) -> None:
    async with node_of(pair) as rig:
        seq = await rig.push("topic:t")
        clients = [Client(rig, f"page-{number}", topics=("t",)) for number in range(5 * READS)]
        start = rig.broker.position
        calling = pair.calling
        calling.down.stall()
        attaching = [asyncio.create_task(client.attach(cursor=start._replace(seq=seq - 1))) for client in clients]
        await until(lambda: attaches(calling) >= READS)
        await turn()
        assert attaches(calling) == READS
        calling.down.resume()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*attaching)
        assert [client.pushed for client in clients] == [[seq]] * len(clients)


async def test_nothing_is_read_for_who_has_gone_while_it_waited_to_attach(pair: Pair) -> None:
    async with node_of(pair) as rig:
        clients = [Client(rig, f"page-{number}") for number in range(READS + 1)]
        calling = pair.calling
        calling.down.stall()
        attaching = [asyncio.create_task(client.attach()) for client in clients]
        await until(lambda: attaches(calling) == READS)
        clients[-1].socket.over(1006)
        calling.down.resume()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*attaching[:-1])
            with pytest.raises(ProtocolError, match="has ended"):
                await attaching[-1]
        assert attaches(calling) == READS
        assert await rig.broker.owner(clients[-1].page_id) is None


def attaches(calling: Link) -> int:
    """How often a node has asked to attach a page."""
    return calling.up.data.count(ATTACH.digest)


async def test_to_tell_who_is_attached_takes_many_steps(redis: RedisServer, desk: RedisDesk) -> None:
    pages, since = [f"page-{number}" for number in range(1200)], await desk.now()
    await asyncio.gather(*(desk.attach(page_id, since=since) for page_id in pages))
    before = await calls(redis, "evalsha")
    assert sorted(page.page_id for page in await desk.broker.pages("topic:t")) == sorted(pages)
    assert await calls(redis, "evalsha") - before >= 3


# --- pages that have ended, and workers that have gone ----------------------------------------------------------------


async def test_a_page_that_was_ended_is_not_looked_at_until_its_last_cursor_ends(
    redis: RedisServer, desk: RedisDesk
) -> None:
    await desk.attach()
    await desk.broker.end("p")
    await desk.broker.detach("p", Owner("d", 1), left=False)
    due = float(await redis.command("ZSCORE", "pagews:due", "p"))
    assert due >= await desk.now() + desk.limits.retention


async def test_what_is_kept_of_a_page_goes_though_no_worker_comes_back(redis: RedisServer, desk: RedisDesk) -> None:
    await desk.attach()
    await desk.broker.set_variable("p", "v", b"1")
    await desk.broker.claim_send("p", "d", 1)
    assert await lives(redis) == [-1, -1, -1]
    await desk.broker.detach("p", Owner("d", 1), left=False)
    # Rule 6: it outlives every cursor, and workers that have stood still for a while.
    enough = desk.limits.retention + 86_000
    assert all(enough < left < enough + 1000 for left in await lives(redis))
    # One that is attached stays for as long as it is.
    await desk.attach(attempt=2)
    assert await lives(redis) == [-1, -1, -1]


async def test_what_is_stored_for_a_page_without_a_socket_goes_with_its_record(
    redis: RedisServer, desk: RedisDesk
) -> None:
    await desk.attach()
    await desk.broker.detach("p", Owner("d", 1), left=True)
    await desk.broker.set_variable("p", "v", b"1")
    await desk.broker.claim_send("p", "d", 1)
    await desk.broker.complete_send("p", "d", 1, Text("the result"))
    record, variables, sends = await lives(redis)
    assert record > 0
    assert {variables, sends} <= {record, record - 1}
    # Nor does one last that has only been rendered.
    await desk.broker.set_variable("q", "v", b"1")
    assert await redis.command("TTL", "pagews:variables:q") > 0
    assert await redis.command("TTL", "pagews:page:q") > 0


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_answers_are_taken_a_hundred_at_a_time(pair: Pair) -> None:
    count, calling = 250, pair.calling
    await pair.a.broker.publish("topic:t", draft(receipt=7))
    await pair.cut_off()
    answers = [Answer(7, "p", f"d{number}", ["topic:t"], True, number) for number in range(count)]
    for answer in answers:
        await pair.b.broker.answer(answer)
    pair.proxy.refusing = False
    await pair.a.node.until(lambda: len(pair.a.node.answers) >= count)
    assert [answer.value for answer in pair.a.node.answers] == list(range(count))
    await until(lambda: sum(taken(calling)) >= count)
    assert taken(calling) == [100, 100, 50]


def taken(calling: Link) -> list[int]:
    """How many answers a node has said that it has taken, each time."""
    return [int(number) for number in re.findall(rb"LTRIM\r\n\$\d+\r\n\S+\r\n\$\d+\r\n(\d+)\r\n", calling.up.data)]


async def test_answers_to_a_process_that_does_not_take_them_have_a_bound(pair: Pair) -> None:
    await pair.a.broker.publish("topic:t", draft(receipt=7))
    await pair.cut_off()
    key = "pagews:answers:" + pair.a.broker._node.decode()
    for _ in range(5):
        await pair.server.command("RPUSH", key, "x" * 4 * MIB)
    await pair.b.broker.answer(Answer(7, "p", "d", ["topic:t"], True, "late"))
    assert await pair.server.command("LLEN", key) == 5
    # Which counts it.
    assert [answer.value for answer in pair.b.node.answers] == ["late"]


# --- memory -----------------------------------------------------------------------------------------------------------


async def test_what_needs_no_memory_is_done_when_redis_is_full(own_redis: RedisServer) -> None:
    desk = await RedisDesk(own_redis).start()
    try:
        broker = desk.broker
        await desk.attach()
        await broker.set_variable("p", "v", b"1")
        await broker.claim_send("p", "d", 1)
        await broker.complete_send("p", "d", 1, Text("the result"))
        await own_redis.config("maxmemory", 1)
        assert await broker.owner("p") == Owner("d", 1)
        assert [page.page_id for page in await broker.pages("session:s")] == ["p"]
        claim = await broker.find_send("p", "d", 1)
        assert claim is not None
        assert text_of(claim.result) == "the result"
        assert await broker.set_topics("p", [], [], ["t"]) == {}
        await broker.set_variable("p", "v", None)
        assert await broker.get_variable("p", "v") is None
        for more in (broker.set_topics("p", [], ["t"], []), broker.set_variable("p", "v", b"1")):
            with pytest.raises(BrokerUnavailable, match="maxmemory"):
                await more
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            await broker.claim_send("p", "d", 2)
    finally:
        await broker.stop()
