"""Threat 28: whatever stands in Redis, or is published there, is read or refused, and costs nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import pytest
import redis as redis_py
from hypothesis import example, given
from hypothesis import strategies as st

from pagews import BrokerUnavailable, Limits, PageGone, Text
from pagews.broker import Answer, Attach, Position
from pagews.errors import CLOSE_CODES, LimitExceeded, Return, returns
from pagews.page import Owner
from pagews.redis_broker import RedisBroker
from pagews.redis_codec import CLOSE, PUSH, close_body, push_body
from pagews.wire import Draft
from tests.faults import HOST
from tests.fuzz_site import MESSAGES, Bench, authorize, table, tries
from tests.redis_server import RedisServer
from tests.rig import draft
from tests.sites import TestSite
from tests.two_workers import broker_of
from tests.wire_client import PATIENCE, SocketClosed, Wire, new_document

#: What this node calls itself, its log's epoch, and the page: they are known once it runs.
NODE, EPOCH, PAGE = b"<node>", b"<epoch>", b"<page>"

PREFIX: Final = b"pagews:"


class RedisBench(Bench):
    """A worker on Redis with an attached page, and a hand on the server that may do anything to it.

    Attributes:
        hand: commands of bytes. broker: the worker's.
    """

    def __init__(self, server: RedisServer) -> None:
        limits = Limits(callback=0.5, lease=2.0, broker=2.0)
        site = TestSite(broker=server.url, delegates=table, authorize=authorize, limits=limits)
        super().__init__(site)
        self.hand = redis_py.Redis(HOST, server.port)
        self.hand.flushall()
        self._workers = [site]
        self._wire: Wire | None = None
        self._cursor: dict[str, Any] = {}
        self._document = new_document()
        self._attempt = 0
        self._number = 0

    @property
    def broker(self) -> RedisBroker:
        return broker_of(self._workers[0])

    def real(self, text: bytes) -> bytes:
        """With what is known by now."""
        names = {NODE: self.broker._node, EPOCH: self.broker._epoch, PAGE: self.page.encode()}
        for name, value in names.items():
            text = text.replace(name, value)
        return text

    @property
    def page(self) -> str:
        return "nobody" if self._wire is None else self._wire.page

    async def hear(self) -> None:
        """Push something that the page must hear; if it was told that it has lost something, the next push."""
        async with asyncio.timeout(PATIENCE):
            await self._attach()
            await self._push()
            while await self._next() != self._number:
                pass

    def clean(self) -> None:
        """Delete all that `DEEDS` may have made."""
        names = [b"pages:dead", b"channel:topic:x", b"due", b"revoked:session:s", b"revoked:user:u"]
        for key in [*self.hand.keys(PREFIX + b"*:p"), *self.hand.keys(PREFIX + b"here:*")]:
            self.hand.delete(key)
        self.hand.delete(*(PREFIX + name for name in names))
        self.hand.zrem(PREFIX + b"alive", b"dead", b"\xff")

    async def leave(self) -> None:
        """Break the page's connection."""
        if self._wire is not None:
            self._wire.cut()
            self._wire = None
        await self.site.attached(0)

    async def _push(self) -> None:
        self._number += 1
        await self.site.publisher.topic("news").push("show", self._number)

    async def _attach(self) -> None:
        while self._wire is None:
            self._attempt += 1
            wire = await self.visitor.open()
            await wire.hello(self.token, document=self._document, attempt=self._attempt, **self._cursor)
            try:
                kind, wire.welcome = await wire.receive()
            except SocketClosed as end:
                await self._closed(end)
                continue
            assert kind == "welcome"
            self._wire = wire
            self._cursor = {name: wire.welcome[name] for name in ("epoch", "seq")}

    async def _closed(self, end: SocketClosed) -> None:
        assert end.code in CLOSE_CODES
        self._wire = None
        if returns(end.code) is not Return.BACK:
            # It is another page that comes, of the same browser.
            self.token = await self.visitor.token("/?topic=news")
            self._document, self._cursor = new_document(), {}

    async def _next(self) -> object:
        """The next that the page shows; what is no frame of the protocol is a failure."""
        await self._attach()
        assert self._wire is not None
        try:
            frame = await self._wire.receive()
        except SocketClosed as end:
            await self._closed(end)
            await self._attach()
            await self._push()
            return None
        match frame:
            case ["push", seq, _, _, data, *_] if not seq or seq > self._cursor["seq"]:
                self._cursor["seq"] = seq or self._cursor["seq"]
                return data
            case ["ping", seq]:
                self._cursor["seq"] = max(seq, self._cursor["seq"])
                await self._wire.send("pong")
            case ["welcome", fields]:
                self._cursor = {name: fields[name] for name in ("epoch", "seq")}
                await self._push()
        return None

    async def _start(self) -> None:
        await super()._start()
        self.token = await self.visitor.token("/?topic=news")

    async def _check(self) -> None:
        await self.leave()
        await super()._check()

    async def _stop(self) -> None:
        await super()._stop()
        self.hand.close()


@pytest.fixture
def bench(shared_redis: RedisServer) -> Iterator[RedisBench]:
    with RedisBench(shared_redis) as bench:
        yield bench


# --- published --------------------------------------------------------------------------------------------------------

WORDS: Final = st.sampled_from(
    [
        NODE,
        EPOCH,
        PAGE,
        b"0",
        b"1",
        b"-1",
        b"1.5",
        b"x",
        b"\xff",
        b"6a",
        b"6",
        b"9" * 30,
        b"9" * 5000,
        b"",
        b"\r\n",
        b"news",
    ]
)
NOTICES: Final = st.builds(
    lambda kind, words: b" ".join([kind, *words]),
    st.sampled_from([b"position", b"ended", b"gone", b"superseded", b"result", b"answers", b"news", b""]),
    st.lists(WORDS, max_size=5),
)
DRAFTS: Final = st.tuples(
    st.sampled_from(["page", "topic:news", "", "x", 1, None]),
    st.sampled_from(["show", "", "\u2028", "x" * 300, None]),
    MESSAGES | st.just("text"),
    st.booleans() | st.just(2),
    st.integers(-1, 2) | st.just(2**63),
)
BODIES: Final = st.one_of(
    st.binary(max_size=20),
    st.builds(lambda kind, data: kind + data, st.sampled_from([b"p", b"c", b"t", b"r", b"x"]), st.binary(max_size=20)),
    DRAFTS.map(lambda fields: PUSH + msgspec.msgpack.encode(fields)),
    st.tuples(st.integers(-1, 5000) | st.just(2**63), st.text(max_size=5) | st.none()).map(
        lambda fields: CLOSE + msgspec.msgpack.encode(fields)
    ),
)
PUBLISHED: Final = st.builds(
    lambda *parts: b" ".join(parts), st.sampled_from([EPOCH, EPOCH, EPOCH, b"x", b"\xff"]), WORDS, WORDS, BODIES
)
CHANNELS: Final = st.sampled_from([b"node:" + NODE, b"nodes", b"topic:news", b"page:" + PAGE])


def test_threat_28_anything_may_be_published(bench: RedisBench) -> None:
    @given(st.lists(st.tuples(CHANNELS, st.binary(max_size=30) | NOTICES | PUBLISHED), min_size=1, max_size=4))
    @example(
        [(b"node:" + NODE, b"position"), (b"nodes", b"ended"), (b"nodes", b"gone p s zz"), (b"nodes", b"\xff \xff")]
    )
    @example([(b"topic:news", EPOCH + b" 0 0 " + PUSH + msgspec.msgpack.encode(("page", "d", b"{\xff", False, 0)))])
    @example([(b"page:" + PAGE, EPOCH + b" 0 0 " + CLOSE + msgspec.msgpack.encode((999, "x")))])
    @example([(b"topic:news", EPOCH + b" 9007199254740991 0 " + push_body(draft(1)))])
    @example([(b"node:" + NODE, b"position " + EPOCH + b" 9007199254740991")])
    @tries(100)
    def publish(messages: list[tuple[bytes, bytes]]) -> None:
        bench.run(bench.hear())
        calling = bench.broker._calls._line
        for channel, data in messages:
            bench.hand.publish(PREFIX + bench.real(channel), bench.real(data))
        bench.run(bench.hear())
        assert bench.broker._calls._line is calling

    publish()


def test_threat_28_what_nobody_has_filed_is_counted_and_nothing_is_interrupted(bench: RedisBench) -> None:
    bench.run(bench.hear())
    before, generation = bench.refused(), bench.broker._generation
    for body in (b"", b"junk", PUSH, push_body(Draft("page", "show", b"{")), close_body(1005, "")):
        bench.hand.publish(PREFIX + b"topic:news", bench.real(EPOCH + b" 0 0 " + body))
    for data in (b"", b"junk", EPOCH + b" -1 0 t", b"\xff 0 0 t"):
        bench.hand.publish(PREFIX + b"topic:news", bench.real(data))
    bench.run(bench.hear())

    assert bench.refused()["log entry"] == before.get("log entry", 0) + 9
    assert bench.broker._generation == generation


# --- filed ------------------------------------------------------------------------------------------------------------

FIELDS: Final = st.one_of(
    st.dictionaries(st.sampled_from([b"p", b"c", b"d", b"b", b"x"]), st.binary(max_size=5), min_size=1, max_size=5),
    st.builds(
        lambda prev, total, deadline, body: {b"p": prev, b"c": total, b"d": deadline, b"b": body},
        st.sampled_from([b"0", b"1", b"-1", b"nan", b"inf", b"x", b"", b"9" * 30]),
        st.sampled_from([b"0", b"1", b"-1", b"nan", b"inf", b"x", b"", b"9" * 30]),
        st.sampled_from([b"", b"0", b"nan", b"x", b"9" * 30]),
        BODIES,
    ),
)


def test_threat_28_anything_may_be_filed(bench: RedisBench) -> None:
    @given(st.lists(FIELDS, min_size=1, max_size=3), st.sampled_from([0, 1, 2**40]), st.booleans())
    @tries(80)
    def file(entries: list[Mapping[bytes, bytes]], gap: int, is_attached: bool) -> None:
        bench.run(bench.hear())
        if not is_attached:
            bench.run(bench.leave())
        head = int(bench.hand.hget(PREFIX + b"log", "seq") or 0)
        if gap < 2:  # the numbers of these are behind the log's head, which goes on
            bench.hand.hset(PREFIX + b"log", "seq", head + 10)
        for number, fields in enumerate(entries, 1):
            bench.hand.execute_command(
                "XADD", PREFIX + b"channel:topic:news", f"{head + gap + number}-0", *flat(fields)
            )
        bench.run(bench.hear())

    file()


def test_threat_28_a_channel_that_is_something_else_is_told_as_lost(bench: RedisBench) -> None:
    bench.run(bench.hear())
    bench.run(bench.leave())
    bench.hand.set(PREFIX + b"channel:topic:news", "junk")
    lost = bench.site.publisher.statistics().lost.get("trimmed", 0)

    with pytest.raises(BrokerUnavailable):
        bench.run(bench.hear())
    assert bench.site.publisher.statistics().lost["trimmed"] == lost + 1
    bench.hand.delete(PREFIX + b"channel:topic:news")
    bench.run(bench.hear())


def test_threat_28_an_entry_that_nobody_has_filed_is_counted_when_it_is_read(bench: RedisBench) -> None:
    bench.run(bench.hear())
    bench.run(bench.leave())
    head = bench.hand.hincrby(PREFIX + b"log", "seq", 1)
    bench.hand.xadd(PREFIX + b"channel:topic:news", {"p": "0", "c": "0", "d": "", "b": "junk"}, f"{head}-0")
    before = bench.refused()
    bench.run(bench.hear())

    assert bench.refused()["log entry"] == before.get("log entry", 0) + 1


# --- kept -------------------------------------------------------------------------------------------------------------

VALUES: Final = st.sampled_from(
    [
        b"",
        b"0",
        b"1",
        b"-1",
        b"nan",
        b"x",
        b"\xff",
        b"9" * 400,
        b"=",
        b"=x",
        b"=t\xff",
        b"!",
        b"!x/1 y",
        b"d",
        b"s",
        NODE,
    ]
)
NAMES: Final = st.sampled_from(
    [
        *(
            b"document",
            b"attempt",
            b"again",
            b"node",
            b"attached",
            b"left",
            b"gone",
            b"head",
            b"session",
            b"user",
            b"low",
        ),
        *(b"learned", b"topic:news", b"topic:\xff", b"size", b"top", b"1", b"2", b"x", b"\xff"),
    ]
)
HASHES: Final = st.dictionaries(NAMES, VALUES, min_size=1, max_size=8)
#: A record that is whole but for what is put into it.
RECORDS: Final = HASHES.map(
    lambda fields: {b"document": b"d", b"session": b"s", b"attempt": b"1", b"node": b"n", b"head": b"0"} | fields
)
HASH_KEYS: Final = st.sampled_from([b"page:p", b"sends:p", b"variables:p"])
SET_KEYS: Final = st.sampled_from([b"here:topic:news", b"here:session:s", b"pages:dead"])
TEXT_KEYS: Final = st.sampled_from(
    [
        b"page:p",
        b"variables:p",
        b"gone:p",
        b"here:topic:news",
        b"revoked:session:s",
        b"revoked:user:u",
        b"channel:topic:x",
    ]
)

#: What nobody of ours has done: a command, and the key that goes again afterwards.
DEEDS: Final = st.one_of(
    st.builds(lambda key, fields: (b"HSET", key, *flat(fields)), HASH_KEYS, HASHES | RECORDS),
    st.builds(lambda fields: (b"HSET", b"page:p", *flat(fields)), RECORDS | HASHES),
    st.builds(lambda key, value: (b"SET", key, value), TEXT_KEYS, VALUES),
    st.builds(lambda key, members: (b"SADD", key, *members), SET_KEYS, st.lists(VALUES | st.just(b"p"), min_size=1)),
    st.builds(
        lambda members: (b"ZADD", b"due", *members), st.sampled_from([(b"0", b"p"), (b"0", b"\xff"), (b"inf", b"q")])
    ),
    st.builds(lambda members: (b"ZADD", b"alive", *members), st.sampled_from([(b"-inf", b"dead"), (b"0", b"\xff")])),
    st.builds(lambda body: (b"RPUSH", b"answers:" + NODE, body), BODIES),
)


def flat(fields: Mapping[bytes, bytes]) -> list[bytes]:
    return [item for pair in fields.items() for item in pair]


def operations(broker: RedisBroker) -> list[Callable[[], Awaitable[object]]]:
    """Everything that a node asks of Redis for a page."""
    position = Position(broker._epoch.decode(), broker.position.seq)
    hello = Attach("p", "s", "u", "d", 5, position, {"news": 0}, 0.0, 1000)
    return [
        lambda: broker.owner("p"),
        lambda: broker.topics("p"),
        lambda: broker.pages("topic:news"),
        lambda: broker.pages("session:s"),
        lambda: broker.attach(hello),
        lambda: broker.claim_send("p", "d", 1),
        lambda: broker.find_send("p", "d", 2),
        lambda: broker.complete_send("p", "d", 1, Text("[]")),
        lambda: broker.set_topics("p", ["news"], ["x"], ["y"]),
        lambda: broker.read(position.epoch, {"topic:news": 0, "topic:x": 0, "page:p": 0}, 1000),
        lambda: broker.set_variable("p", "x", b"1"),
        lambda: broker.incr_variable("p", "1", 1),
        lambda: broker.append_variable("p", "2", b"1"),
        lambda: broker.get_variable("p", "x"),
        lambda: broker.is_gone("p"),
        lambda: broker.keep("p"),
        lambda: broker.revoked("session:s"),
        lambda: broker.answer(Answer(7, "p", "d", [], True, None)),
        lambda: broker.publish("topic:x", draft(1), key="k"),
        lambda: broker.detach("p", Owner("d", 5), left=True),
        lambda: broker.end("p"),
        broker.probe,
    ]


async def try_all(broker: RedisBroker) -> None:
    for operation in operations(broker):
        try:
            async with asyncio.timeout(PATIENCE):
                await operation()
        except (BrokerUnavailable, PageGone, LimitExceeded):
            pass
        except TypeError as error:  # a variable is not what the caller makes more of
            assert "page's variable" in str(error)


def test_threat_28_anything_may_be_kept(bench: RedisBench) -> None:
    @given(st.lists(DEEDS, min_size=1, max_size=3))
    @example([(b"HSET", b"page:p", b"document", b"d")])
    @example([(b"HSET", b"page:p", *flat({b"learned": b"1", b"topic:\xff": b"1", b"head": b"0"}))])
    @example([(b"HSET", b"sends:p", b"1", b"=t\xff"), (b"HSET", b"sends:p", b"2", b"x")])
    @example(
        [(b"SADD", b"pages:dead", b"p"), (b"ZADD", b"alive", b"-inf", b"dead"), (b"HSET", b"page:p", b"attached", b"1")]
    )
    @tries(100)
    def keep(deeds: list[tuple[bytes, ...]]) -> None:
        for command, key, *values in deeds:
            with suppress(redis_py.ResponseError):  # a key of another type, from the deed before
                bench.hand.execute_command(command, PREFIX + bench.real(key), *map(bench.real, values))
        bench.run(try_all(bench.broker))
        bench.clean()

    keep()
    bench.run(bench.hear())
