"""Server processes that one Redis joins: one publishes, pages of the others receive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import Load
from benchmarks.measures import CHANNELS, PAGEWS, SOCKETIO, Contender, Measurement
from benchmarks.process import ServerProcess
from benchmarks.redis_server import RedisServer

RIVALS = (PAGEWS, SOCKETIO, CHANNELS)

# What a node of each server listens to once it has a page.
_CHANNELS = {PAGEWS: "pagews:topic:bench", SOCKETIO: "socketio", CHANNELS: "asgi__group__bench"}
# Messages that are published at a time.
_BATCH = 100


class Used(NamedTuple):
    """CPU microseconds a message that was published."""

    publisher: float
    listeners: float
    redis: float

    @property
    def nodes(self) -> float:
        return self.publisher + self.listeners


class Nodes:
    """The processes, of which each but the publisher has a page."""

    def __init__(
        self, contender: Contender, redis: RedisServer, publisher: ServerProcess, listeners: Sequence[Measurement]
    ) -> None:
        self.contender = contender
        self.redis = redis
        self.publisher = publisher
        self.listeners = listeners
        self._next_number = 0

    async def collect(self) -> None:
        """Collect the garbage of every process."""
        for server in self._servers():
            await server.collect()

    def take(self, messages: int) -> list[range]:
        """Numbers that no message has had, in batches."""
        batches = batches_of(range(self._next_number, self._next_number + messages))
        self._next_number += messages
        return batches

    async def publish(self, command: str, batches: Sequence[range], listeners: Sequence[Measurement] = ()) -> Used:
        """Publish these numbers, a batch at a time, each of which the pages of `listeners` receive."""
        before = self._cpu_seconds()
        for batch in batches:
            for listener in listeners:
                listener.load.expect(listener.load.connections, batch.start, len(batch))
            self.publisher.command(command, batch.start, len(batch))
            for listener in listeners:
                await listener.load.complete(listener.load.connections)
            await self.publisher.settle()
        messages = sum(map(len, batches))
        used = (after - was for was, after in zip(before, self._cpu_seconds(), strict=True))
        return Used(*(seconds / messages * 1e6 for seconds in used))

    def _servers(self) -> list[ServerProcess]:
        return [self.publisher, *(listener.server for listener in self.listeners)]

    def _cpu_seconds(self) -> tuple[float, float, float]:
        publisher, *listeners = (server.cpu_seconds() for server in self._servers())
        return publisher, sum(listeners), self.redis.cpu_seconds()


def batches_of(numbers: range) -> list[range]:
    """These numbers, as many at a time as are published together."""
    return [numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH)]


@asynccontextmanager
async def joined(
    contender: Contender, program: Path, core: int | None, topics: Sequence[Sequence[str]] = ((),)
) -> AsyncIterator[Nodes]:
    """A fresh Redis with a publisher and, for each of `topics`, a node with a page that listens to these, too."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer(program))
        all_topics = dict.fromkeys(topic for some in topics for topic in some)
        publisher = await stack.enter_async_context(ServerProcess(contender.module, core, (redis.url, *all_topics)))
        listeners = []
        for some in topics:
            server = await stack.enter_async_context(ServerProcess(contender.module, core, (redis.url, *some)))
            load = stack.enter_context(closing(Load(contender.dialect(), server.port)))
            listener = Measurement(contender, server, load)
            await listener.attach(await listener.fetch(1))
            listeners.append(listener)
        if listeners:
            await redis.until_listening(_CHANNELS[contender], len(listeners))
        nodes = Nodes(contender, redis, publisher, listeners)
        for command in ("bulk", "broadcast"):
            await nodes.publish(command, nodes.take(_BATCH), listeners)
        yield nodes
        for listener in listeners:
            listener.load.check()
