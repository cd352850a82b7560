"""The brokers, each behind the same desk: time passes when the test says so, and a node keeps what it hears."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pagews import Limits, MemoryBroker, Push
from pagews.broker import Answer, Attach, Attached, Broker, Filed, Presence
from pagews.page import Owner
from pagews.redis_broker import RedisBroker
from pagews.wire import Message, Text

from .redis_server import RedisServer

#: What the node of a desk listens to: every channel that a test files on.
CHANNELS: Final = (
    *("page:p", "page:q", "session:s", "session:other", "user:ann", "user:bob"),
    *("topic:t", "topic:u", "topic:new", "topic:joined"),
)

#: Seconds that pass, for the log and for every key that Redis lets expire.
_ADVANCE: Final = """
redis.call('HINCRBYFLOAT', ARGV[1] .. 'log', 'offset', ARGV[2])
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
    local rest = redis.call('PTTL', key)
    if rest >= 0 then
        redis.call('PEXPIRE', key, rest - 1000 * ARGV[2])
    end
end
"""

#: How much is kept: the entries of every key, and the fields of every record.
_SIZE: Final = """
local sizes = { hash = 'HLEN', set = 'SCARD', zset = 'ZCARD', stream = 'XLEN', list = 'LLEN', string = 'EXISTS' }
local size = 0
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
    size = size + redis.call(sizes[redis.call('TYPE', key).ok], key)
end
return size
"""

T = TypeVar("T", bound="Desk")


#: Seconds in which what was filed must have come.
PATIENCE: Final = 10.0


class Node:
    """Keeps what the broker tells it."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        self.delivered: list[tuple[str, Filed]] = []
        self.ended_pages: list[str] = []
        self.gone_pages: list[str] = []
        self.answers: list[Answer] = []
        self.detached_pages: list[str] = []
        self.superseded_pages: list[tuple[str, Owner]] = []
        #: The pages that this node has.
        self.here: list[Presence] = []
        self.results_dropped = 0
        self.interruptions = 0
        self.deaths = 0

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true of what was told."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._heard.clear()
                await self._heard.wait()

    def deliver(self, channel: str, message: Filed) -> None:
        self.delivered.append((channel, message))
        self._heard.set()

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)
        self._heard.set()

    def ended(self, page_id: str) -> None:
        self.ended_pages.append(page_id)
        self._heard.set()

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self.gone_pages.append(page_id)
        self._heard.set()

    def result_dropped(self) -> None:
        self.results_dropped += 1
        self._heard.set()

    def detached(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self.detached_pages.append(page_id)
        self._heard.set()

    def superseded(self, page_id: str, owner: Owner) -> None:
        self.superseded_pages.append((page_id, owner))
        self._heard.set()

    def interrupted(self) -> None:
        self.interruptions += 1
        self._heard.set()

    def present(self, channel: str) -> list[Presence]:
        found = []
        for page in self.here:
            topics = {f"topic:{topic}" for topic in page.topics}
            if channel in {f"page:{page.page_id}", f"session:{page.session_id}", f"user:{page.user_id}"} | topics:
                found.append(page)
        return found

    def counted_as_dead(self) -> None:
        self.deaths += 1
        self._heard.set()


class Desk(abc.ABC):
    """A broker whose time passes when the test says so."""

    broker: Broker

    def __init__(self, limits: dict[str, Any]) -> None:
        self.limits = Limits(**({"retention": 60.0, "grace": 10.0} | limits))
        self.node = Node()

    async def start(self: T) -> T:
        await self.broker.start(self.node)
        await self.broker.subscribe(CHANNELS)
        return self

    @abc.abstractmethod
    async def now(self) -> float:
        """In wall-clock seconds."""

    @abc.abstractmethod
    async def jump(self, seconds: float) -> None:
        """Let time pass, in which every process stands still."""

    @abc.abstractmethod
    async def turn(self) -> None:
        """What a node does once a second. All that was filed and told before has come to this node then."""

    @abc.abstractmethod
    async def settle(self) -> None:
        """Wait until all that was filed and told has come to this node."""

    @abc.abstractmethod
    async def size(self) -> int:
        """How much is kept."""

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.jump(1)
            await self.turn()

    async def pass_days(self, days: int) -> None:
        await self.jump(days * 86400)
        await self.turn()

    async def attach(self, page_id: str = "p", **fields: Any) -> Attached:
        hello = Attach(
            page_id=page_id,
            session_id="s",
            user_id="ann",
            document="d",
            attempt=1,
            cursor=self.broker.position,
            topics={"t": 0},
            since=await self.now(),
            limit=10_000,
        )
        return await self.broker.attach(hello._replace(**fields))


class MemoryDesk(Desk):
    """The embedded broker, in virtual time."""

    broker: MemoryBroker

    def __init__(self, **limits: Any) -> None:
        super().__init__(limits)
        self.time = 1000.0
        self.broker = MemoryBroker(self.limits, clock=lambda: self.time, wall=lambda: self.time)

    async def now(self) -> float:
        return self.time

    async def jump(self, seconds: float) -> None:
        self.time += seconds

    async def turn(self) -> None:
        self.broker.tick()

    async def settle(self) -> None:
        """It tells everything at once."""

    async def size(self) -> int:
        broker = self.broker
        kept = (broker._records, broker._due, broker._keys, broker._gone, broker._revoked, broker._results._kept)
        return sum(map(len, kept)) + broker._log.count + broker._variables_size


class RedisDesk(Desk):
    """The broker on a real Redis, whose clock is set on by the test."""

    broker: RedisBroker

    def __init__(self, server: RedisServer, prefix: str = "pagews:", **limits: Any) -> None:
        super().__init__(limits)
        self._server = server
        self._prefix = prefix
        self.broker = RedisBroker(server.url, self.limits, prefix=prefix)

    async def now(self) -> float:
        seconds, microseconds = await self._server.command("TIME")
        offset = await self._server.command("HGET", f"{self._prefix}log", "offset")
        return float(seconds) + float(microseconds) / 1e6 + float(offset or 0)

    async def jump(self, seconds: float) -> None:
        await self._server.command("EVAL", _ADVANCE, 0, self._prefix, seconds)

    async def turn(self) -> None:
        await self.broker.probe()

    async def settle(self) -> None:
        # Its position comes behind everything that was published before (rule 8).
        await self.broker.probe()

    async def size(self) -> int:
        size: int = await self._server.command("EVAL", _SIZE, 0, self._prefix)
        return size


def data_of(messages: list[Filed]) -> list[Any]:
    """What was pushed, of what was read or delivered."""
    return [message.data for message in messages if isinstance(message, Push)]


def text_of(message: Message | None) -> str | None:
    """What stands in a result."""
    assert message is None or isinstance(message, Text)
    return None if message is None else message.payload.decode()
