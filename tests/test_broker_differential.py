"""Random histories of what a node asks of its broker: the embedded one and the one on Redis must say the same.

There are two nodes, and every question goes to one of them at random; the embedded broker is shared as in
`shared_broker.py`, on which the histories of `test_machine.py` run.
Numbers are compared from where a history begins. Time passes for both alike, and never comes close to a bound: what is
due at a whole second with one of them might be a microsecond late with the other.

Left out is what the two keep differently on purpose: which results are dropped when there are too many, the bytes of a
message, and bounds for a whole process, which Redis does not have.
"""

from __future__ import annotations

import abc
import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from pagews import LimitExceeded, Limits, PageGone, Push, RemoteError, Text
from pagews.broker import Answer, Attach, Broker, Filed, Position, Presence
from pagews.log import Replay
from pagews.page import Claim, Owner, cursors
from pagews.redis_broker import RedisBroker
from pagews.wire import Draft

from .broker_bench import CHANNELS, PATIENCE, Node, text_of
from .redis_server import RedisServer
from .rig import draft
from .shared_broker import Bus, NodeBroker

T = TypeVar("T")

#: No sum of steps, and of what the brokers add by themselves, comes close to one of these.
STEP: Final = 1.4
LIMITS: Final = Limits(
    retention=6.3, grace=2.5, channel_entries=4, channel_bytes=10_000, variable_bytes=60, page_bytes=500
)
TTL: Final = 2.5
#: More than half of what a channel keeps, while all that is small fits in.
LARGE: Final = 6000
#: Seconds that a step may take in real time: Redis lets time take a number a second, so behind a step that took longer
#: than `STEP` less that, there would be none in the next.
HASTE: Final = 0.35

PAGES: Final = ("p", "q")
SESSION_OF: Final = {"p": "s", "q": "other"}
TOPICS: Final = ("t", "u", "joined")
VARIABLES: Final = ("v", "w")
#: From how many steps ago all is read after each change of a page.
LOOKS: Final = (2, 7, 12)

_SET_CLOCK: Final = """
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'offset', string.format('%.6f', ARGV[1] - time[1] - time[2] / 1000000))
"""

#: Seconds that pass for the keys that Redis lets expire.
_AGE: Final = """
for _, key in ipairs(redis.call('KEYS', '*')) do
    local rest = redis.call('PTTL', key)
    if rest >= 0 then
        redis.call('PEXPIRE', key, string.format('%.0f', rest - 1000 * ARGV[1]))
    end
end
"""


class Told(NamedTuple):
    """What the nodes of a broker have heard since they were asked before."""

    delivered: list[object]
    ended: list[str]
    gone: list[str]
    answers: list[tuple[int, str, bool, str]]
    superseded: list[list[tuple[str, Owner]]]


class Side(abc.ABC):
    """A broker with its nodes. `base`: the number from where a history begins."""

    def __init__(self, brokers: list[Broker]) -> None:
        self.brokers = brokers
        self.nodes = [self._make_node(broker) for broker in brokers]
        self.base = 0

    def _make_node(self, broker: Broker) -> Node:
        return Node()

    async def start(self, now: float) -> None:
        for broker, node in zip(self.brokers, self.nodes, strict=True):
            await broker.start(node)
            await broker.subscribe(CHANNELS)
        await self.set_clock(now)
        await self.pass_time(now + STEP)
        self.told()
        self.base = self.brokers[0].position.seq

    async def stop(self) -> None:
        for broker in self.brokers:
            await broker.stop()

    @abc.abstractmethod
    async def set_clock(self, now: float) -> None:
        """A step begins."""

    @abc.abstractmethod
    async def pass_time(self, now: float) -> None:
        """`STEP` seconds have passed, and it is `now`; a node does what it does once a second."""

    @abc.abstractmethod
    async def settle(self, answers: int) -> None:
        """Wait until all that was told has come, and so many answers."""

    def number(self, seq: int) -> int:
        """A number as all have it; 0 is none."""
        return seq - self.base if seq else 0

    def cursor(self, number: int) -> int:
        return self.base + number

    def position(self, number: int) -> Position:
        return Position(self.brokers[0].position.epoch, self.cursor(number))

    def topics(self, topics: Mapping[str, int] | None) -> dict[str, int] | None:
        return None if topics is None else {topic: self.number(since) for topic, since in sorted(topics.items())}

    def messages(self, messages: Collection[Filed]) -> list[object]:
        return [self.message(message) for message in messages]

    def message(self, message: Filed) -> object:
        if isinstance(message, Push):
            return (self.number(message.seq), message.to, message.delegate, message.data, message.receipt)
        return message._replace(seq=self.number(message.seq))

    def told(self) -> Told:
        """What has come since: every node must have been told, or one of them of what is told once."""
        delivered: list[list[object]] = []
        ended: list[list[str]] = []
        gone: list[str] = []
        answers: list[tuple[int, str, bool, str]] = []
        superseded: list[list[tuple[str, Owner]]] = []
        for node in self.nodes:
            delivered.append([(channel, self.message(message)) for channel, message in node.delivered])
            ended.append(sorted(node.ended_pages))
            gone += node.gone_pages
            answers += [(answer.receipt, answer.page_id, answer.ok, repr(answer.value)) for answer in node.answers]
            superseded.append(node.superseded_pages)
            node.delivered, node.ended_pages, node.gone_pages, node.answers = [], [], [], []
            node.superseded_pages = []
            assert (node.interruptions, node.deaths, node.detached_pages, node.results_dropped) == (0, 0, [], 0)
        assert all(heard == delivered[0] for heard in delivered)
        assert all(heard == ended[0] for heard in ended)
        return Told(delivered[0], ended[0], sorted(gone), sorted(answers), superseded)


class _Present(Node):
    """A node that says who is attached by the records of its broker, for in these histories there are no sockets."""

    def __init__(self, broker: NodeBroker) -> None:
        super().__init__()
        self._broker = broker

    def present(self, channel: str) -> list[Presence]:
        found = []
        for page_id, record in self._broker._records.items():
            topics = record.topics or {}
            is_here = record.attached and self._broker.bus.where[page_id] is self._broker
            if is_here and channel in cursors(page_id, record.session_id, record.user_id, topics, 0):
                found.append(Presence(page_id, record.session_id, record.user_id, topics))
        return found


class MemorySide(Side):
    """Two nodes on the embedded broker."""

    def __init__(self) -> None:
        self._now = 0.0
        bus = Bus(LIMITS, lambda: self._now)
        bus.joined = lambda page_id, owner: None
        super().__init__([NodeBroker(bus) for _ in range(2)])

    def _make_node(self, broker: Broker) -> Node:
        assert isinstance(broker, NodeBroker)
        return _Present(broker)

    async def set_clock(self, now: float) -> None:
        self._now = now

    async def pass_time(self, now: float) -> None:
        self._now = now
        for broker in self.brokers:
            broker.tick()

    async def settle(self, answers: int) -> None:
        """It tells everything at once."""


class RedisSide(Side):
    """Two nodes on a real Redis."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        super().__init__([RedisBroker(server.url, LIMITS) for _ in range(2)])

    async def set_clock(self, now: float) -> None:
        await self._evaluate(_SET_CLOCK, now)

    async def pass_time(self, now: float) -> None:
        await self.set_clock(now)
        await self._evaluate(_AGE, STEP)
        await self.settle(0)

    async def _evaluate(self, script: str, number: float) -> None:
        broker = self.brokers[0]
        assert isinstance(broker, RedisBroker)
        await broker._calls(b"EVAL", script.encode(), b"1", b"pagews:log", b"%r" % number)

    async def settle(self, answers: int) -> None:
        await self._probe()
        async with asyncio.timeout(PATIENCE):
            # A node is told that there are some, and fetches them.
            while sum(len(node.answers) for node in self.nodes) < answers:
                await self._probe()

    async def _probe(self) -> None:
        # A node's position comes behind everything that was published before (rule 8).
        await asyncio.gather(*(broker.probe() for broker in self.brokers if isinstance(broker, RedisBroker)))


class Pair:
    """Both brokers, asked the same."""

    def __init__(self, server: RedisServer) -> None:
        self._runner = asyncio.Runner()
        self._server = server
        self._now = 0.0
        #: When the clocks were set.
        self._began = 0.0
        #: A machine that has stood still for a while proves nothing from then on.
        self.is_proof = True
        self.memory = MemorySide()
        self.redis: RedisSide
        self._runner.run(self._start())

    async def _start(self) -> None:
        await self._server.flush()
        # Redis began a moment ago, and its clock does not go back.
        self._now = time.time() + STEP
        self.redis = RedisSide(self._server)
        for side in self.sides:
            await side.start(self._now)
        self._now += STEP

    def close(self) -> None:
        for side in self.sides:
            self._runner.run(side.stop())
        self._runner.close()

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.memory, self.redis

    def ask(self, node: int, question: Callable[[Side, Broker], Coroutine[Any, Any, T]]) -> T | None:
        """Ask both, and compare what they answer, and what the nodes are told; returns the answer, None if that is an
        error.
        """
        return self._runner.run(self._ask(node, question))

    def look(self, question: Callable[[Side, Broker], Coroutine[Any, Any, object]]) -> None:
        """Ask both what changes nothing, right behind what may have changed something."""
        self._runner.run(self._look(question))

    def pass_time(self) -> None:
        self._runner.run(self._pass_time())

    async def _look(self, question: Callable[[Side, Broker], Coroutine[Any, Any, object]]) -> None:
        expected, found = [await question(side, side.brokers[-1]) for side in self.sides]
        # Since the clocks were set, by the question before it.
        self._check_haste(self._began)
        assert not self.is_proof or found == expected

    async def _ask(self, node: int, question: Callable[[Side, Broker], Coroutine[Any, Any, T]]) -> T | None:
        began = self._began = time.monotonic()
        answers = []
        for side in self.sides:
            await side.set_clock(self._now)
            answers.append(await _outcome(question(side, side.brokers[node % len(side.brokers)])))
        expected, found = answers
        await self._compare(began, expected, found)
        return None if isinstance(expected, Failed) else expected

    async def _pass_time(self) -> None:
        began = self._began = time.monotonic()
        self._now += STEP
        for side in self.sides:
            await side.pass_time(self._now)
        await self._compare(began, None, None)

    async def _compare(self, began: float, expected: object, found: object) -> None:
        told = self.memory.told()
        await self.redis.settle(len(told.answers))
        heard = self.redis.told()
        self._check_haste(began)
        if not self.is_proof:
            return
        assert found == expected
        assert heard == told
        assert {side.number(broker.position.seq) for side in self.sides for broker in side.brokers} == {self.head}

    def _check_haste(self, began: float) -> None:
        if time.monotonic() - began > HASTE:
            self.is_proof = False

    @property
    def head(self) -> int:
        return self.memory.number(self.memory.brokers[0].position.seq)


class Failed(NamedTuple):
    """An error that a broker has raised."""

    kind: type[Exception]


async def _outcome(answer: Awaitable[T]) -> T | Failed:
    try:
        return await answer
    except (PageGone, LimitExceeded, TypeError, ValueError) as error:
        return Failed(type(error))


async def _read_all(
    side: Side, broker: Broker, replay: Replay[Filed], channels: Mapping[str, int], epoch: str, limit: int
) -> tuple[str | None, list[object], int]:
    """What is found from a first read to the present: what is lost, the messages, and up to where."""
    messages: list[object] = []
    while True:
        assert not (replay.lost and replay.messages)
        messages += side.messages(replay.messages)
        if not replay.more:
            return replay.lost, messages, side.number(replay.upto)
        channels = {channel: max(cursor, replay.upto) for channel, cursor in channels.items()}
        replay = await broker.read(epoch, channels, limit)


class _Grant(NamedTuple):
    """A claim that was granted."""

    page: str
    owner: Owner


nodes = st.integers(0, 1)
#: One of them more often, so that more happens to it.
pages = st.sampled_from((*PAGES, PAGES[0], PAGES[0]))
users = st.sampled_from(("ann", "ann", None))
documents = st.sampled_from(("d", "d", "d", "e"))
channels = st.sampled_from(CHANNELS)
topics = st.sets(st.sampled_from(TOPICS), max_size=2).map(sorted)
numbers = st.integers(0, 1000)
limits = st.sampled_from((1, 200, 10**9))


class Histories(RuleBasedStateMachine):
    """Each rule is a question of a node, or time that passes."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(self.server)
        self.cursors = [self.pair.head]
        self.grants: list[_Grant] = []
        self.receipts: list[int] = []
        #: How many sends each document of a page has had run.
        self.sends: dict[tuple[str, str], int] = {}
        self.count = 0

    def teardown(self) -> None:
        try:
            for page in PAGES:
                self.observe(page)
        finally:
            self.pair.close()

    def cursor(self, back: int) -> int:
        """A number where the log stood before, most often a moment ago; a few are in the future."""
        back = back % (len(self.cursors) + 1)
        return self.pair.head + 50 if back == len(self.cursors) else self.cursors[-1 - back]

    def note(self) -> None:
        self.cursors.append(self.pair.head)

    def observe(self, page: str) -> None:
        """Ask all that can be asked of a page without a change."""

        async def ask(side: Side, broker: Broker) -> object:
            known = asyncio.gather(broker.owner(page), broker.topics(page), broker.is_gone(page))
            values = asyncio.gather(*(broker.get_variable(page, name) for name in VARIABLES))
            found = await asyncio.gather(*(broker.pages(channel) for channel in CHANNELS))
            owner, topics, is_gone = await known
            present = [sorted([(*page[:3], side.topics(page.topics)) for page in at], key=repr) for at in found]
            replays = [await self.read_from(side, broker, self.cursors[-back:][0]) for back in LOOKS]
            return owner, side.topics(topics), is_gone, await values, present, replays

        self.pair.look(ask)
        self.note()

    async def read_from(self, side: Side, broker: Broker, at: int) -> object:
        replay = await broker.read(broker.position.epoch, dict.fromkeys(CHANNELS, side.cursor(at)), 10**9)
        return replay.lost, side.messages(replay.messages), side.number(replay.upto), replay.more

    # --- pushes -------------------------------------------------------------------------------------------------------

    @rule(
        node=nodes,
        channel=channels,
        large=st.sampled_from((False, False, False, True)),
        ttl=st.sampled_from((None, None, TTL, 1e6)),
        key=st.sampled_from((None, None, "a", "b")),
        asks=st.booleans(),
        count=st.sampled_from((1, 1, 1, 1, 2, 5)),
    )
    def publish(
        self, node: int, channel: str, large: bool, ttl: float | None, key: str | None, asks: bool, count: int
    ) -> None:
        drafts = []
        for _ in range(count):
            self.count += 1
            receipt = self.count if asks else 0
            if asks:
                self.receipts.append(receipt)
            drafts.append(draft([self.count, LARGE * large * "x"], receipt=receipt))

        async def ask(side: Side, broker: Broker) -> list[int]:
            return [side.number(await broker.publish(channel, made, ttl=ttl, key=key)) for made in drafts]

        self.pair.ask(node, ask)
        self.note()

    @rule(node=nodes, channel=channels, page=pages, closes=st.booleans())
    def tell(self, node: int, channel: str, page: str, closes: bool) -> None:
        blob = Draft("topic:t", "blob", b"\0 \xff", binary=True)
        if closes:
            self.pair.ask(node, lambda side, broker: broker.close_page(page, 4000, "why not"))
        else:
            self.pair.ask(node, lambda side, broker: broker.emit(channel, blob))

    @rule(
        node=nodes,
        names=st.sets(channels, min_size=1, max_size=4).map(sorted),
        back=numbers,
        further=st.lists(numbers, max_size=1),
        foreign=st.sampled_from((False,) * 9 + (True,)),
        limit=limits,
    )
    def read(self, node: int, names: list[str], back: int, further: list[int], foreign: bool, limit: int) -> None:
        ats = dict.fromkeys(names, self.cursor(back)) | dict.fromkeys(names[:1], self.cursor((further or [back])[0]))

        async def ask(side: Side, broker: Broker) -> object:
            cursors = {name: side.cursor(at) for name, at in ats.items()}
            epoch = "another" if foreign else broker.position.epoch
            return await _read_all(side, broker, await broker.read(epoch, cursors, limit), cursors, epoch, limit)

        self.pair.ask(node, ask)

    # --- pages --------------------------------------------------------------------------------------------------------

    @rule(
        node=nodes,
        page=pages,
        user=users,
        document=documents,
        attempt=st.sampled_from((1, 2, 2, 3)),
        back=numbers,
        topics=topics,
        late=st.booleans(),
        limit=limits,
    )
    def attach(
        self,
        node: int,
        page: str,
        user: str | None,
        document: str,
        attempt: int,
        back: int,
        topics: list[str],
        late: bool,
        limit: int,
    ) -> None:
        at = self.cursor(back)

        async def ask(side: Side, broker: Broker) -> object:
            position = side.position(at)
            hello = Attach(
                page_id=page,
                session_id=SESSION_OF[page],
                user_id=user,
                document=document,
                attempt=attempt,
                cursor=position,
                topics=dict.fromkeys(topics, 0),
                # Long before any revocation, or long after.
                since=1e12 if late else 1.0,
                limit=limit,
            )
            said = await broker.attach(hello)
            read = cursors(page, SESSION_OF[page], user, said.topics, position.seq)
            found = await _read_all(side, broker, said.replay, read, position.epoch, limit)
            # Who is revoked is sent away, whoever has the page.
            return None if said.revoked else said.claim, side.topics(said.topics), said.repeat, found

        answer = self.pair.ask(node, ask)
        assert isinstance(answer, tuple)
        claim, _, repeat, _ = answer
        if claim is Claim.GRANTED:
            self.grants.append(_Grant(page, Owner(document, attempt, repeat=repeat)))
        self.observe(page)

    @precondition(lambda self: self.grants)
    @rule(node=nodes, user=users, later=st.sampled_from((0, 0, 1)), back=numbers, limit=limits)
    def come_again(self, node: int, user: str | None, later: int, back: int, limit: int) -> None:
        page, (document, attempt, _, _) = self.grants[-1]
        self.attach(node, page, user, document, attempt + later, back, [], True, limit)

    @precondition(lambda self: self.grants)
    @rule(node=nodes, back=st.integers(0, 3), left=st.booleans())
    def detach(self, node: int, back: int, left: bool) -> None:
        page, owner = self.grants[-1 - back % len(self.grants)]
        self.pair.ask(node, lambda side, broker: broker.detach(page, owner, left=left))
        self.observe(page)

    @rule(node=nodes, page=pages, rendered=topics, add=topics, remove=topics)
    def set_topics(self, node: int, page: str, rendered: list[str], add: list[str], remove: list[str]) -> None:
        async def ask(side: Side, broker: Broker) -> object:
            return side.topics(await broker.set_topics(page, rendered, add, remove))

        self.pair.ask(node, ask)
        self.observe(page)

    @rule(node=nodes, page=pages)
    def end(self, node: int, page: str) -> None:
        self.pair.ask(node, lambda side, broker: broker.end(page))
        self.observe(page)

    # --- variables ----------------------------------------------------------------------------------------------------

    @rule(
        node=nodes,
        page=pages,
        name=st.sampled_from(VARIABLES),
        how=st.sampled_from(("set", "incr", "append", "keep")),
        value=st.sampled_from((None, b"null", b"[]", b"7", b"-9007199254740991", b'"' + b"x" * 58 + b'"', b"1" * 61)),
    )
    def change_variable(self, node: int, page: str, name: str, how: str, value: bytes | None) -> None:
        async def ask(side: Side, broker: Broker) -> object:
            if how == "incr":
                return await broker.incr_variable(page, name, -1 if value is None else 1)
            if how == "append":
                await broker.append_variable(page, name, value or b"5")
            elif how == "keep":
                await broker.keep(page)
            else:
                await broker.set_variable(page, name, value)
            return None

        self.pair.ask(node, ask)
        self.observe(page)

    # --- identity -----------------------------------------------------------------------------------------------------

    @rule(node=nodes, channel=st.sampled_from(("session:s", "user:ann", "user:ann", "user:bob")))
    def revoke(self, node: int, channel: str) -> None:
        async def ask(side: Side, broker: Broker) -> bool:
            before = await broker.revoked(channel)
            await broker.revoke(channel)
            assert await broker.revoked(channel) is not None
            return before is not None

        self.pair.ask(node, ask)
        self.note()

    # --- sends and answers --------------------------------------------------------------------------------------------

    @rule(page=pages, document=documents, old=st.sampled_from((0, 0, 0, 1, 2)))
    def claim_send(self, page: str, document: str, old: int) -> None:
        count = self.sends.get((page, document), 0)
        send = max(1, count + 1 - old)

        async def find(side: Side, broker: Broker) -> object:
            found = await broker.find_send(page, document, send)
            return found and (found.granted, text_of(found.result))

        async def claim(side: Side, broker: Broker) -> object:
            claimed = await broker.claim_send(page, document, send)
            return claimed.granted, text_of(claimed.result)

        # All sends of a page run on one node, for another would wait until the first has a result.
        node = PAGES.index(page)
        found = self.pair.ask(node, find)
        granted = self.pair.ask(node, claim)
        assert granted == (found or (True, None))
        if found is None:
            self.sends[page, document] = max(count, send)

    @rule(page=pages, document=documents, old=st.integers(0, 2), result=st.sampled_from(("one", "another")))
    def complete_send(self, page: str, document: str, old: int, result: str) -> None:
        send = max(1, self.sends.get((page, document), 0) - old)
        node = PAGES.index(page)
        self.pair.ask(node, lambda side, broker: broker.complete_send(page, document, send, Text(result)))

    @precondition(lambda self: self.receipts)
    @rule(node=nodes, page=pages, back=numbers, ok=st.booleans())
    def answer(self, node: int, page: str, back: int, ok: bool) -> None:
        receipt = self.receipts[-1 - back % len(self.receipts)]
        answer = Answer(receipt, page, "d", [f"page:{page}"], ok, [1, "two"] if ok else RemoteError("no", "never"))
        self.pair.ask(node, lambda side, broker: broker.answer(answer))

    # --- time ---------------------------------------------------------------------------------------------------------

    @rule(steps=st.sampled_from((1, 1, 2, 3, 6)))
    def pass_time(self, steps: int) -> None:
        for _ in range(steps):
            self.pair.pass_time()
            self.note()
        self.observe(PAGES[0])


def test_both_brokers_say_the_same(shared_redis: RedisServer) -> None:
    histories = type("HistoriesOnThisServer", (Histories,), {"server": shared_redis})
    run_state_machine_as_test(histories, settings=SETTINGS)


SETTINGS: Final = settings(
    max_examples=int(os.environ.get("PAGEWS_PAIRS", "50")),
    print_blob=False,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
