"""The rules that speak of Redis, or of several nodes: one test for each way in which the order could go wrong.

The numbers in names are those of the rules. What every broker does is in `test_broker.py`. Here are two nodes on one
real Redis, of which the first reaches it through a proxy that holds back the one or the other connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest

from pagews import BrokerUnavailable, ConfigurationError, RemoteError, Text, redis_bus
from pagews.broker import Answer
from pagews.page import Claim, Owner, State
from pagews.redis_broker import RedisBroker
from pagews.redis_codec import answer_body, push_body
from pagews.redis_scripts import ATTACH, DETACH, PROBE, PUBLISH, READ, REVOKE
from pagews.wire import MAX_INTEGER

from .broker_bench import PATIENCE, RedisDesk, data_of, text_of
from .faults import HOST, FaultProxy, Link
from .redis_server import RedisServer
from .rig import Client, Rig, draft, turn
from .two_workers import until

LIMITS: Final[dict[str, Any]] = {"retention": 60.0, "grace": 10.0, "lease": 5.0}

#: A number that the log comes to in two hundred years.
AHEAD: Final = 8 * 10**15


class Pair:
    """Two nodes: `a` reaches Redis through `proxy`, `b` by itself."""

    def __init__(self, server: RedisServer, proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy
        self.url = f"redis://{HOST}:{proxy.port}/0"
        self.a, self.b = RedisDesk(server, **LIMITS), RedisDesk(server, **LIMITS)
        self.a.broker = RedisBroker(self.url, self.a.limits)

    @property
    def listening(self) -> Link:
        """The connection that brings `a` what is published."""
        [link] = [link for link in self.proxy.open_links if b"\r\nSUBSCRIBE\r\n" in link.up.data]
        return link

    @property
    def calling(self) -> Link:
        """The connection that the calls of `a` go through."""
        [link] = [link for link in self.proxy.open_links if b"\r\nSUBSCRIBE\r\n" not in link.up.data]
        return link

    async def cut_off(self) -> None:
        """`a` loses what brings it messages, and gets no other connection until `proxy` refuses none."""
        self.proxy.refusing = True
        self.listening.cut()
        await self.a.node.until(lambda: self.a.node.interruptions > 0)


@asynccontextmanager
async def two_nodes(server: RedisServer) -> AsyncIterator[Pair]:
    """Two nodes on a Redis."""
    async with FaultProxy(HOST, server.port) as proxy:
        pair = Pair(server, proxy)
        try:
            await pair.a.start()
            await pair.b.start()
            yield pair
        finally:
            await asyncio.gather(pair.a.broker.stop(), pair.b.broker.stop())


@pytest.fixture
async def pair(redis: RedisServer) -> AsyncIterator[Pair]:
    async with two_nodes(redis) as pair:
        yield pair


@asynccontextmanager
async def node_of(pair: Pair) -> AsyncIterator[Rig]:
    """The pages of `a`: a whole node, in the place of the one that only keeps what it is told."""
    await pair.a.broker.stop()
    pair.a.broker = RedisBroker(pair.url, pair.a.limits)
    rig = Rig(pair.a.broker)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.node.stop()


async def round_trips(broker: RedisBroker, count: int = 10) -> None:
    """Whatever was about to be asked of Redis has been asked."""
    for _ in range(count):
        await broker.revoked("session:nobody")


async def probe_when_back(broker: RedisBroker) -> None:
    """Wait until a probe comes through."""

    async def probe() -> bool:
        with suppress(BrokerUnavailable):
            await broker.probe()
            return True
        return False

    await until(probe)


async def evict(server: RedisServer) -> None:
    """Let it drop one key, which is not one of ours: only those that expire may go."""
    await server.command("CONFIG", "RESETSTAT")
    await server.command("SET", "another", "x" * 100, "EX", 1000)
    await server.config("maxmemory-policy", "volatile-lru")
    await server.config("maxmemory", 1)

    async def has_evicted() -> bool:
        await server.command("PING")
        return int((await server.command("INFO", "stats"))["evicted_keys"]) > 0

    await until(has_evicted)
    await server.config("maxmemory", 0)
    await server.config("maxmemory-policy", "noeviction")


# --- completeness -----------------------------------------------------------------------------------------------------


async def test_rule_3_no_key_expires_before_the_watermark_has_passed_it(pair: Pair) -> None:
    desk = pair.b
    await desk.pass_time(2)
    start = desk.broker.position
    await desk.broker.publish("page:p", draft("young"))
    # Longer than the retention, and less than a second more: the tick before it is the watermark.
    await desk.jump(60.1)
    replay = await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)
    assert replay.lost == "expired" or data_of(replay.messages) == ["young"]


async def test_rule_3_what_was_filed_before_the_retention_grew_expires_as_it_would_have(pair: Pair) -> None:
    desk = pair.b
    await desk.pass_time(2)
    start = desk.broker.position
    await desk.broker.publish("page:p", draft("young"))
    other = RedisDesk(pair.server, **LIMITS | {"retention": 3600.0})
    try:
        await other.start()
        await desk.jump(30)
        after = await desk.broker.publish("page:q", draft("later"))
        replay = await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)
        assert (replay.lost, data_of(replay.messages)) == (None, ["young"])
        # The channel is gone, with what nobody has read.
        await desk.jump(100)
        replay = await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)
        assert (replay.lost, replay.messages) == ("expired", [])
        replay = await desk.broker.read(start.epoch, {"page:q": after - 1}, 1000)
        assert (replay.lost, data_of(replay.messages)) == (None, ["later"])
    finally:
        await other.broker.stop()


async def test_rule_4_a_redis_that_may_evict_is_refused(own_redis: RedisServer) -> None:
    await own_redis.config("maxmemory-policy", "volatile-ttl")
    desk = RedisDesk(own_redis)
    try:
        with pytest.raises(ConfigurationError, match="volatile-ttl"):
            await desk.start()
    finally:
        await desk.broker.stop()


async def test_rule_4_after_an_eviction_the_log_is_another(own_redis: RedisServer) -> None:
    async with two_nodes(own_redis) as pair:
        before = pair.a.broker.position.epoch
        await evict(own_redis)
        await probe_when_back(pair.a.broker)
        assert pair.a.broker.position.epoch != before


async def test_rule_4_to_count_evictions_from_0_again_is_none(own_redis: RedisServer) -> None:
    async with two_nodes(own_redis) as pair:
        broker = pair.b.broker
        await evict(own_redis)
        await probe_when_back(broker)
        before = broker.position.epoch
        await own_redis.command("CONFIG", "RESETSTAT")
        await broker.probe()
        assert broker.position.epoch == before
        # As many as before the statistics were reset.
        await evict(own_redis)
        await probe_when_back(broker)
        assert broker.position.epoch != before


# --- position ---------------------------------------------------------------------------------------------------------


async def test_rule_8_the_position_comes_through_pub_sub_alone(pair: Pair) -> None:
    broker = pair.a.broker
    before = broker.position
    link = pair.listening
    link.down.stall()
    seq = await pair.b.broker.publish("page:p", draft())
    probing = asyncio.create_task(broker.probe())
    await round_trips(broker)
    # Redis has answered the probe, and what it has published is still on its way.
    assert not probing.done()
    assert broker.position == before
    link.down.resume()
    await probing
    assert broker.position.seq >= seq
    assert [message.seq for _, message in pair.a.node.delivered] == [seq]


async def test_rule_8_the_start_waits_for_the_first_probe(redis: RedisServer) -> None:
    async with FaultProxy(HOST, redis.port) as proxy:
        proxy.on_connect = lambda link: link.down.stall() if len(proxy.links) == 2 else None
        pair = Pair(redis, proxy)
        starting = asyncio.create_task(pair.a.broker.start(pair.a.node))
        try:
            await proxy.connected()
            link = await proxy.connected()
            await link.up.until(lambda data: b"INFO" in data)
            await turn()
            assert not starting.done()
            link.down.resume()
            await starting
            assert pair.a.broker.position.epoch == await redis.command("HGET", "pagews:log", "epoch")
        finally:
            await asyncio.wait([starting])
            await pair.a.broker.stop()


async def test_rule_10_a_node_delivers_its_own_push_from_pub_sub_alone(pair: Pair) -> None:
    broker, node = pair.a.broker, pair.a.node
    link = pair.listening
    link.down.stall()
    first = await pair.b.broker.publish("page:p", draft("lower"))
    second = await broker.publish("page:p", draft("own"))
    await turn()
    assert node.delivered == []
    assert broker.position.seq < first
    link.down.resume()
    await node.until(lambda: len(node.delivered) == 2)
    assert [message.seq for _, message in node.delivered] == [first, second]


# --- attach -----------------------------------------------------------------------------------------------------------


async def test_rule_11_subscribed_is_what_redis_has_confirmed(pair: Pair) -> None:
    link = pair.listening
    link.down.stall()
    subscribing = asyncio.create_task(pair.a.broker.subscribe(["topic:late"]))
    await link.up.until(lambda data: b"topic:late" in data)
    await round_trips(pair.a.broker, 2)
    assert not subscribing.done()
    link.down.resume()
    await subscribing


async def test_rule_11_the_log_is_read_when_its_channels_are_confirmed(pair: Pair) -> None:
    async with node_of(pair) as rig:
        client = Client(rig, topics=("late",))
        link = pair.listening
        link.up.stall()
        attaching = asyncio.create_task(client.attach())
        await turn()
        await round_trips(pair.a.broker)
        seq = await pair.b.broker.publish("topic:late", draft())
        link.up.resume()
        await attaching
        await pair.a.settle()
        await turn()
        assert client.pushed == [seq]


async def test_rule_12_an_unsubscribe_under_way_is_no_subscription(pair: Pair) -> None:
    broker, link = pair.a.broker, pair.listening
    link.down.stall()
    broker.unsubscribe(["topic:t"])
    await link.up.until(lambda data: b"UNSUBSCRIBE" in data)
    link.up.stall()
    subscribing = asyncio.create_task(broker.subscribe(["topic:t"]))
    await turn()
    link.down.resume()
    # It comes behind the confirmation that there is no subscription any more.
    await broker.probe()
    await turn()
    assert not subscribing.done()
    link.up.resume()
    await subscribing
    seq = await pair.b.broker.publish("topic:t", draft())
    await pair.a.settle()
    assert [message.seq for _, message in pair.a.node.delivered] == [seq]


async def test_rule_13_whoever_is_attached_is_told_of_an_interruption(pair: Pair) -> None:
    async with node_of(pair) as rig:
        client = Client(rig, topics=("t",))
        await client.attach()
        pair.proxy.refusing = True
        pair.listening.cut()
        await until(lambda: client.page.state is State.REPLAYING)
        missed = await pair.b.broker.publish("topic:t", draft())
        pair.proxy.refusing = False
        await until(lambda: client.page.state is State.LIVE)
        later = await pair.b.broker.publish("topic:t", draft())
        await until(lambda: later in client.pushed)
        assert client.pushed == [missed, later]
        assert client.welcome["lost"] is None


async def test_rule_13_pings_do_not_move_on_while_a_page_reads_again(pair: Pair) -> None:
    async with node_of(pair) as rig:
        client = Client(rig, topics=("t",))
        await client.attach()
        before = pair.a.broker.position.seq
        pair.proxy.refusing = True
        pair.listening.cut()
        await until(lambda: client.page.state is State.REPLAYING)
        await pair.b.broker.publish("topic:t", draft())
        for _ in range(round(rig.limits.heartbeat) + 2):
            rig.node.turn()
        await turn()
        pings = [frame[1] for frame in client.frames if frame[0] == "ping"]
        assert pings == [0]
        assert pair.a.broker.position.seq == before


async def test_rule_13_a_silent_subscription_is_noticed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "STALE", 0.2)
    pair.listening.stall()
    pair.a.broker.tick()
    await pair.a.node.until(lambda: pair.a.node.interruptions > 0)
    monkeypatch.undo()
    await probe_when_back(pair.a.broker)


async def test_rule_13_a_gap_in_what_comes_is_noticed(pair: Pair) -> None:
    # An entry that is filed, and whose announcement is lost.
    unannounced = PUBLISH.text.replace(b"redis.call('PUBLISH', ", b"tostring(")
    assert unannounced != PUBLISH.text
    async with node_of(pair) as rig:
        client = Client(rig, topics=("t",))
        await client.attach()
        seqs = [await pair.b.broker.publish("topic:t", draft(0))]
        epoch = pair.b.broker.position.epoch
        body = push_body(draft(1))
        _, number = await pair.server.command(
            "EVAL", unannounced, 1, "pagews:log", epoch, "topic:t", body, "", "", "", ""
        )
        seqs += [int(number), await pair.b.broker.publish("topic:t", draft(2))]
        await until(lambda: seqs[-1] in client.pushed)
        assert client.pushed == seqs


async def test_rule_13_a_new_subscription_is_no_gap(pair: Pair) -> None:
    node = pair.a.node
    await pair.b.broker.publish("topic:t", draft())
    await pair.a.settle()
    await pair.cut_off()
    await pair.b.broker.publish("topic:t", draft())
    pair.proxy.refusing = False
    await probe_when_back(pair.a.broker)
    seq = await pair.b.broker.publish("topic:t", draft())
    await node.until(lambda: node.delivered[-1][1].seq == seq)
    await pair.a.settle()
    assert node.interruptions == 1


async def test_rule_13_a_read_during_which_the_subscription_was_lost_is_repeated(pair: Pair) -> None:
    broker, start, calling = pair.a.broker, pair.a.broker.position, pair.calling
    calling.down.stall()
    reading = asyncio.create_task(broker.read(start.epoch, {"page:p": start.seq}, 1000))
    await calling.up.until(lambda data: READ.digest in data)
    await pair.b.broker.probe()
    pair.listening.cut()
    await pair.a.node.until(lambda: pair.a.node.interruptions == 1)
    await pair.b.broker.publish("page:p", draft("meanwhile"))
    calling.down.resume()
    assert data_of((await reading).messages) == ["meanwhile"]


async def test_rule_13_an_attach_during_which_the_subscription_was_lost_is_none(pair: Pair) -> None:
    calling = pair.calling
    since = await pair.a.now()
    calling.down.stall()
    attaching = asyncio.create_task(pair.a.attach(since=since))
    await calling.up.until(lambda data: ATTACH.digest in data[-1000:])
    pair.listening.cut()
    await pair.a.node.until(lambda: pair.a.node.interruptions == 1)
    calling.down.resume()
    with pytest.raises(BrokerUnavailable):
        await attaching


async def test_rule_16_a_claim_whose_answer_is_lost_leaves_the_page_to_the_node_that_has_it_now(pair: Pair) -> None:
    calling, since = pair.calling, await pair.a.now()
    calling.down.stall()
    attaching = asyncio.create_task(pair.a.attach(since=since))
    await until(lambda: pair.server.command("EXISTS", "pagews:page:p"))
    # The same attempt, for its page has heard nothing.
    assert (await pair.b.attach()).claim is Claim.GRANTED
    calling.cut()
    with pytest.raises(BrokerUnavailable):
        await attaching
    await until(lambda: any(DETACH.digest in link.up.data for link in pair.proxy.links))
    await pair.a.broker.subscribe([])
    await round_trips(pair.a.broker)
    assert [page.page_id for page in await pair.b.broker.pages("page:p")] == ["p"]


async def test_rule_16_the_node_that_had_a_page_is_told_who_has_it_now(pair: Pair) -> None:
    await pair.a.attach(attempt=1)
    await pair.b.attach(attempt=2)
    await pair.a.settle()
    [(page_id, owner)] = pair.a.node.superseded_pages
    assert page_id == "p"
    assert owner.is_claim_of(Owner("d", 1))
    assert await pair.a.broker.owner("p") == Owner("d", 2)


async def test_rule_16_a_page_that_has_moved_is_closed_where_it_was(pair: Pair) -> None:
    async with node_of(pair) as rig:
        client = Client(rig)
        await client.attach(attempt=1)
        await pair.b.attach(attempt=2)
        await pair.a.settle()
        await turn()
        assert client.wire.closed is not None
        assert client.wire.closed[0] == 4509
        # What it does not have any more, it cannot let go of.
        await client.detach()
        assert (await pair.b.broker.pages("page:p"))[0].page_id == "p"


# --- epoch ------------------------------------------------------------------------------------------------------------


async def test_rule_18_another_server_with_the_same_data_is_another_log(own_redis: RedisServer) -> None:
    async with two_nodes(own_redis) as pair:
        before = pair.b.broker.position.epoch
        await own_redis.restart(data=True)
        await pair.b.node.until(lambda: pair.b.node.interruptions > 0)
        await probe_when_back(pair.b.broker)
        assert pair.b.broker.position.epoch != before


async def test_rule_18_no_number_comes_again_when_the_head_of_the_log_is_lost_alone(pair: Pair) -> None:
    broker = pair.b.broker
    numbers = [await broker.publish("topic:t", draft(number)) for number in range(3)]
    before = broker.position.epoch
    await pair.server.command("DEL", "pagews:log")
    await broker.probe()
    await probe_when_back(broker)
    start = broker.position
    assert start.epoch != before
    numbers += [await broker.publish("topic:t", draft(3))]
    assert numbers == sorted(set(numbers))
    replay = await broker.read(start.epoch, {"topic:t": start.seq}, 1000)
    assert (replay.lost, data_of(replay.messages)) == (None, [3])
    assert numbers[-1] <= replay.upto <= MAX_INTEGER


async def test_rule_18_a_node_has_both_connections_to_one_server(own_redis: RedisServer) -> None:
    replica = await own_redis.replica()
    async with two_nodes(own_redis) as pair:
        desk = pair.b
        before = desk.broker.position.epoch
        await own_redis.replicated()
        # The master that has lost its place keeps the connection for calls.
        await replica.succeed()
        await own_redis.cut("pubsub")
        await desk.node.until(lambda: desk.node.interruptions > 0)
        await probe_when_back(desk.broker)
        assert desk.broker.position.epoch != before
        assert desk.broker.position.epoch == await replica.command("HGET", "pagews:log", "epoch")


async def test_rule_18_no_call_goes_out_before_the_log_of_its_server_is_known(pair: Pair) -> None:
    pair.proxy.refusing = True
    pair.proxy.cut()
    await pair.a.node.until(lambda: pair.a.node.interruptions > 0)
    pushing = asyncio.create_task(pair.a.broker.publish("page:p", draft()))
    await turn()
    pair.proxy.refusing = False
    await pushing
    [data] = [link.up.data for link in pair.proxy.links if PUBLISH.digest in link.up.data]
    assert 0 <= data.find(PROBE.digest) < data.find(PUBLISH.digest)


async def test_rule_19_a_node_that_knows_another_log_writes_nothing_to_this_one(pair: Pair) -> None:
    before = pair.a.broker.position.epoch
    await pair.server.flush()
    await probe_when_back(pair.b.broker)
    assert pair.b.broker.position.epoch != before
    await pair.a.broker.publish("user:nobody", draft())
    assert pair.a.broker.position.epoch == pair.b.broker.position.epoch


async def test_rule_19_a_message_of_another_log_is_not_delivered(pair: Pair) -> None:
    body = push_body(draft())
    await pair.server.command("PUBLISH", "pagews:topic:t", b"another 0 0 " + body)
    await pair.a.settle()
    assert (pair.a.node.interruptions, pair.a.node.delivered) == (0, [])
    await pair.server.command("PUBLISH", "pagews:topic:t", b"another 5 0 " + body)
    await pair.a.node.until(lambda: pair.a.node.interruptions == 1)
    await probe_when_back(pair.a.broker)
    assert pair.a.node.delivered == []


async def test_rule_20_a_script_that_meets_another_log_begins_anew(pair: Pair) -> None:
    before = pair.a.broker.position.epoch
    await pair.server.flush()
    await pair.a.broker.publish("page:p", draft())
    assert pair.a.broker.position.epoch != before
    assert pair.a.node.interruptions == 1


async def test_rule_20_a_probe_that_meets_another_log_begins_anew(pair: Pair) -> None:
    broker = pair.a.broker
    before = broker.position.epoch
    # The clock of the server before was ahead.
    await pair.server.command("HSET", "pagews:log", "seq", AHEAD)
    await broker.publish("page:p", draft())
    await pair.server.flush()
    # It is the reply that says so: what was published comes late.
    pair.listening.down.stall()
    probing = asyncio.create_task(broker.probe())
    await pair.a.node.until(lambda: pair.a.node.interruptions == 1)
    await probing
    assert broker.position.epoch != before
    # What is rendered now begins in the new log, and not after numbers of the old one.
    assert broker.head.epoch == broker.position.epoch
    assert broker.head.seq < AHEAD


async def test_rule_20_an_attached_page_is_claimed_in_the_new_log_and_told(pair: Pair) -> None:
    async with node_of(pair) as rig:
        client = Client(rig, topics=("t",))
        await client.attach()
        before = client.welcome["epoch"]
        await pair.server.flush()
        await probe_when_back(pair.a.broker)
        # Nothing that is under way on its socket may run in the new epoch: it is told when it comes back.
        await until(lambda: client.wire.closed is not None)
        assert client.wire.closed is not None
        assert client.wire.closed[0] == 1012
        assert pair.a.broker.position.epoch != before
        assert await pair.a.broker.owner("p") == Owner("d", 1)
        assert (await pair.a.broker.topics("p") or {}).keys() == {"t"}


# --- join and leave ---------------------------------------------------------------------------------------------------


async def test_rule_21_the_node_that_has_the_page_reads_a_joined_topic_when_it_is_confirmed(pair: Pair) -> None:
    async with node_of(pair) as rig:
        client = Client(rig)
        await client.attach()
        link = pair.listening
        link.up.stall()
        await pair.b.broker.publish("topic:late", draft("before"))
        await pair.b.broker.set_topics("p", [], ["late"], [])
        await until(lambda: client.page.topics.keys() == {"late"})
        await round_trips(pair.a.broker)
        seq = await pair.b.broker.publish("topic:late", draft("after"))
        link.up.resume()
        await until(lambda: client.page.state is State.LIVE)
        await pair.a.settle()
        await turn()
        assert client.pushed == [seq]


async def test_rule_22_a_revocation_that_was_not_heard_is_read(pair: Pair) -> None:
    async with node_of(pair) as rig:
        client = Client(rig)
        await client.attach()
        pair.proxy.refusing = True
        pair.listening.cut()
        await until(lambda: client.page.state is State.REPLAYING)
        await pair.b.broker.revoke("session:s")
        pair.proxy.refusing = False
        await until(lambda: client.wire.closed is not None or client.page.state is State.LIVE)
        assert client.wire.closed is not None
        assert client.wire.closed[0] == 4503


async def test_rule_22_a_revocation_before_the_log_was_lost_is_found_when_pages_are_claimed_anew(pair: Pair) -> None:
    async with node_of(pair) as rig:
        client = Client(rig)
        await client.attach()
        pair.proxy.refusing = True
        pair.listening.cut()
        await until(lambda: client.page.state is State.REPLAYING)
        await pair.b.broker.revoke("session:s")
        await pair.b.jump(70)
        await pair.b.turn()
        pair.proxy.refusing = False
        await until(lambda: client.wire.closed is not None or client.page.state is State.LIVE)
        assert client.wire.closed is not None
        assert client.wire.closed[0] == 4503


async def test_rule_22_a_logout_that_redis_does_not_take_raises_and_closes_the_pages_that_are_here(
    own_redis: RedisServer,
) -> None:
    async with two_nodes(own_redis) as pair, node_of(pair) as rig:
        client = Client(rig)
        await client.attach()
        # Of nobody: it takes no writes, and says so at once.
        await own_redis.command("REPLICAOF", HOST, 1)
        with pytest.raises(BrokerUnavailable):
            await rig.node.revoke("session:s")
        await turn()
        assert client.wire.closed is not None
        assert client.wire.closed[0] == 4503


async def test_rule_22_a_host_whose_clock_is_behind_takes_no_revocation_back(pair: Pair) -> None:
    now = time.time()
    for seconds in (now + 100, now):
        await pair.b.broker._run_script(REVOKE, b"user:ann", b"%r" % seconds, b"60")
    assert await pair.b.broker.revoked("user:ann") == now + 100
    assert (await pair.a.attach(since=now + 50)).revoked


async def test_rule_22_sends_are_held_back_while_a_node_is_cut_off(pair: Pair) -> None:
    await asyncio.wait_for(pair.a.broker.current(), PATIENCE)
    await pair.cut_off()
    knowing = asyncio.create_task(pair.a.broker.current())
    await turn()
    assert not knowing.done()
    pair.proxy.refusing = False
    await asyncio.wait_for(knowing, PATIENCE)


async def test_rule_22_sends_are_held_back_while_no_probe_comes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "STALE", -1.0)
    knowing = asyncio.create_task(pair.a.broker.current())
    await turn()
    assert not knowing.done()
    monkeypatch.undo()
    await pair.a.broker.probe()
    await asyncio.wait_for(knowing, PATIENCE)


# --- publish, claims, answers -----------------------------------------------------------------------------------------


async def test_rule_23_a_key_is_that_of_one_target(pair: Pair) -> None:
    first = await pair.b.broker.publish("topic:t", draft(), key="u once")
    assert await pair.b.broker.publish("topic:t u", draft(), key="once") != first
    assert await pair.b.broker.publish("topic:t", draft(), key="u once") == first


@pytest.mark.parametrize("key", [None, "once"])
async def test_rule_23_a_push_whose_reply_is_lost_is_not_repeated(pair: Pair, key: str | None) -> None:
    broker, start, calling = pair.a.broker, pair.b.broker.position, pair.calling
    calling.down.stall()
    pushing = asyncio.create_task(broker.publish("page:p", draft(), key=key))
    await pair.b.node.until(lambda: bool(pair.b.node.delivered))
    calling.cut()
    with pytest.raises(BrokerUnavailable) as failed:
        await asyncio.wait_for(pushing, PATIENCE)
    assert failed.value.unknown is True
    await probe_when_back(broker)
    if key:
        await broker.publish("page:p", draft(), key=key)
    replay = await pair.b.broker.read(start.epoch, {"page:p": start.seq}, 1000)
    assert len(replay.messages) == 1


async def test_rule_23_a_push_that_was_refused_has_not_happened(own_redis: RedisServer) -> None:
    async with two_nodes(own_redis) as pair:
        await own_redis.config("maxmemory", 1)
        with pytest.raises(BrokerUnavailable) as failed:
            await pair.a.broker.publish("page:p", draft())
        assert failed.value.unknown is False
        await own_redis.config("maxmemory", 0)
        await pair.b.settle()
        assert pair.b.node.delivered == []


async def test_rule_24_an_answer_outlasts_the_interruption_of_whoever_asked(pair: Pair) -> None:
    await pair.a.broker.publish("topic:t", draft(receipt=7))
    await pair.cut_off()
    await pair.b.broker.answer(Answer(7, "p", "d", ["topic:t"], True, "yes"))
    pair.proxy.refusing = False
    await pair.a.node.until(lambda: len(pair.a.node.answers) == 1)
    assert pair.a.node.answers[0].value == "yes"
    assert pair.b.node.answers == []


@pytest.mark.parametrize(
    "value", [2**64, {"deep": [-(2**70)]}, 1.5, None, "", b"\xff", {"": None}, RemoteError("no", "why")]
)
async def test_rule_24_an_answer_may_be_whatever_json_has(pair: Pair, value: object) -> None:
    await pair.a.broker.publish("topic:t", draft(receipt=7))
    answer = Answer(7, "p", "d", ["topic:t"], not isinstance(value, RemoteError), value)
    await pair.b.broker.answer(answer)
    await pair.a.node.until(lambda: len(pair.a.node.answers) == 1)
    [got] = pair.a.node.answers
    if isinstance(value, RemoteError):
        assert isinstance(got.value, RemoteError)
        assert (got.ok, got.value.code, got.value.message) == (False, "no", "why")
    else:
        assert got == answer


@pytest.mark.parametrize("body", [b"junk", b"", answer_body(Answer(7, "p", "d", [], True, 1))[:-1] + b"]"])
async def test_rule_24_an_answer_that_cannot_be_read_holds_up_none_behind_it(
    pair: Pair, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    await pair.a.broker.publish("topic:t", draft(receipt=7))
    key = "pagews:answers:" + pair.a.broker._node.decode()
    await pair.server.command("RPUSH", key, body)
    await pair.b.broker.answer(Answer(7, "p", "d", ["topic:t"], True, "yes"))
    await pair.a.node.until(lambda: len(pair.a.node.answers) == 1)
    await until(lambda: emptied(pair.server, key))
    assert [record.message for record in caplog.records if "cannot be read" in record.message] != []
    assert pair.a.node.answers[0].value == "yes"


async def emptied(server: RedisServer, key: str) -> bool:
    return not await server.command("EXISTS", key)


async def test_rule_24_of_many_notices_one_takes_all_answers(pair: Pair) -> None:
    calling, count = pair.calling, 50
    await pair.a.broker.publish("topic:t", draft(receipt=7))
    asked = calling.up.data.count(b"LRANGE")
    calling.down.stall()
    for number in range(count):
        await pair.b.broker.answer(Answer(7, "p", "d", ["topic:t"], True, number))
    await pair.listening.down.until(lambda data: data.count(b"\r\nanswers\r\n") == count)
    await turn()
    calling.down.resume()
    await pair.a.node.until(lambda: len(pair.a.node.answers) == count)
    await until(lambda: not pair.a.broker._tasks)
    assert [answer.value for answer in pair.a.node.answers] == list(range(count))
    # Once for the first one, and once for all that came meanwhile.
    assert calling.up.data.count(b"LRANGE") - asked <= 3


async def test_rule_24_answers_are_taken_when_redis_is_back_though_it_was_lost_while_they_were(pair: Pair) -> None:
    calling = pair.calling
    await pair.a.broker.publish("topic:t", draft(receipt=7))
    asked = calling.up.data.count(b"LRANGE")
    calling.down.stall()
    await pair.b.broker.answer(Answer(7, "p", "d", ["topic:t"], True, "yes"))
    await calling.up.until(lambda data: data.count(b"LRANGE") > asked)
    calling.cut()
    await pair.a.node.until(lambda: len(pair.a.node.answers) == 1)


async def test_rule_25_another_node_waits_for_the_result_while_the_runner_lives(pair: Pair) -> None:
    await pair.a.attach(attempt=1)
    assert (await pair.a.broker.claim_send("p", "d", 1)).granted
    await pair.b.attach(attempt=2)
    claiming = asyncio.create_task(pair.b.broker.claim_send("p", "d", 1))
    await pair.b.broker.probe()
    await round_trips(pair.b.broker)
    assert not claiming.done()
    # Who has not claimed it, stores nothing.
    await pair.b.broker.complete_send("p", "d", 1, Text("not its own"))
    await pair.a.broker.complete_send("p", "d", 1, Text("the result"))
    async with asyncio.timeout(PATIENCE / 3):
        claim = await claiming
    assert (claim.granted, text_of(claim.result)) == (False, "the result")


async def test_rule_25_what_a_node_that_died_was_running_does_not_run_again(pair: Pair) -> None:
    await pair.a.attach(attempt=1)
    assert (await pair.a.broker.claim_send("p", "d", 1)).granted
    await pair.b.attach(attempt=2)
    claiming = asyncio.create_task(pair.b.broker.claim_send("p", "d", 1))
    await round_trips(pair.b.broker)
    assert not claiming.done()
    # Its lease runs out.
    await pair.b.pass_time(round(pair.b.limits.lease) + 2)
    async with asyncio.timeout(PATIENCE / 3):
        assert await claiming == (False, None)


async def test_rule_25_a_clock_that_is_set_forward_ends_no_lease(pair: Pair) -> None:
    await pair.a.attach(attempt=1)
    assert (await pair.a.broker.claim_send("p", "d", 1)).granted
    await pair.b.attach(attempt=2)
    await pair.b.jump(3600)
    claiming = asyncio.create_task(pair.b.broker.claim_send("p", "d", 1))
    await round_trips(pair.b.broker)
    assert not claiming.done()
    await pair.a.broker.complete_send("p", "d", 1, Text("the result"))
    async with asyncio.timeout(PATIENCE / 3):
        claim = await claiming
    assert (claim.granted, text_of(claim.result)) == (False, "the result")


async def test_rule_25_the_lease_of_a_node_that_stops_is_over(pair: Pair) -> None:
    await pair.a.attach(attempt=1)
    assert (await pair.a.broker.claim_send("p", "d", 1)).granted
    await pair.b.attach(attempt=2)
    await pair.a.broker.stop()
    # Nobody has probed since.
    async with asyncio.timeout(PATIENCE / 3):
        assert await pair.b.broker.claim_send("p", "d", 1) == (False, None)


async def test_rule_25_a_send_from_before_the_log_was_lost_does_not_run(pair: Pair) -> None:
    await pair.a.attach()
    assert await pair.a.broker.claim_send("p", "d", 1, epoch="another") == (False, None)
    assert (await pair.a.broker.claim_send("p", "d", 1, epoch=pair.a.broker.position.epoch)).granted


async def test_rule_27_the_pages_of_a_node_that_died_are_let_go_and_gone_once(pair: Pair) -> None:
    await pair.a.attach("p")
    await pair.a.attach("moved")
    await pair.b.attach("moved", attempt=2)
    await pair.b.attach("q")
    await pair.b.pass_time(round(pair.b.limits.lease) + 2)
    assert pair.b.node.detached_pages == ["p"]
    assert sorted(page.page_id for page in await pair.b.broker.pages("session:s")) == ["moved", "q"]
    # It lives after all, and is told.
    await pair.a.turn()
    assert pair.a.node.deaths == 2  # and once more when it lives again
    assert pair.b.node.deaths == 0
    for _ in range(70):
        await pair.b.jump(1)
        await asyncio.gather(pair.a.turn(), pair.b.turn())
    assert sorted(pair.a.node.gone_pages + pair.b.node.gone_pages) == ["p"]
    assert pair.a.node.ended_pages == pair.b.node.ended_pages == ["p"]


async def test_rule_27_of_many_nodes_one_tells_that_a_page_is_gone(pair: Pair) -> None:
    pages = [f"page-{number}" for number in range(20)]
    for page_id in pages:
        await pair.a.attach(page_id)
        await pair.a.broker.detach(page_id, Owner("d", 1), left=True)
    await pair.b.jump(11)
    await asyncio.gather(*(desk.turn() for desk in (pair.a, pair.b) * 3))
    assert sorted(pair.a.node.gone_pages + pair.b.node.gone_pages) == sorted(pages)


async def test_rule_27_all_that_is_due_is_told_in_one_turn(pair: Pair) -> None:
    pages = [f"page-{number}" for number in range(450)]
    since = await pair.b.now()
    await asyncio.gather(*(pair.a.attach(page_id, since=since) for page_id in pages))
    # The node dies.
    for _ in range(round(pair.b.limits.lease) + 2):
        await pair.b.jump(1)
        await pair.b.turn()
        if pair.b.node.detached_pages:
            break
    assert sorted(pair.b.node.detached_pages) == sorted(pages)
    await asyncio.gather(*(pair.b.attach(page_id, attempt=2, since=since) for page_id in pages))
    await asyncio.gather(*(pair.b.broker.detach(page_id, Owner("d", 2), left=True) for page_id in pages))
    await pair.b.jump(11)
    await pair.b.turn()
    assert sorted(pair.b.node.gone_pages) == sorted(pages)


async def test_rule_27_what_one_turn_does_is_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "PROBES_PER_TURN", 2)
    pages = [f"page-{number}" for number in range(450)]
    since = await pair.b.now()
    await asyncio.gather(*(pair.b.attach(page_id, since=since) for page_id in pages))
    await asyncio.gather(*(pair.b.broker.detach(page_id, Owner("d", 1), left=True) for page_id in pages))
    await pair.b.jump(11)
    await pair.b.turn()
    assert len(pair.b.node.gone_pages) == 400
    await pair.b.turn()
    assert sorted(pair.b.node.gone_pages) == sorted(pages)


async def test_rule_27_a_page_that_comes_to_a_node_that_counts_as_dead_is_let_go_too(pair: Pair) -> None:
    await pair.a.attach("p")
    await pair.b.pass_time(round(pair.b.limits.lease) + 2)
    assert pair.b.node.detached_pages == ["p"]
    # It does not know yet, and dies before it does.
    await pair.a.attach("q")
    await pair.b.turn()
    assert pair.b.node.detached_pages == ["p", "q"]
    assert await pair.b.broker.pages("session:s") == []


async def test_rule_27_a_node_is_told_though_a_page_has_come_to_it_meanwhile(pair: Pair) -> None:
    await pair.b.pass_time(round(pair.b.limits.lease) + 2)
    await pair.a.attach("q")
    await pair.a.turn()
    assert pair.a.node.deaths == 2  # and once more when it lives again
