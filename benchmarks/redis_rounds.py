"""What pagews costs on Redis: from one process to another, beside others; a page's attach; and how it all grows."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.goals import Series
from benchmarks.interleaving import attach_in_turns, collect, record, rotated
from benchmarks.measures import PAGEWS, measuring
from benchmarks.redis_nodes import RIVALS, batches_of, joined
from benchmarks.redis_server import RedisServer
from benchmarks.settings import Settings

REDIS_NAMES = frozenset({"redis", "redis-attach", "redis-growth"})

WORKERS = (1, 2, 4, 8)

# Messages of one channel, of which it keeps as many.
_KEPT = 1000


async def redis_round(
    series: Series, settings: Settings, names: frozenset[str], core: int | None, program: Path
) -> None:
    """All figures that need a Redis, each server on one of its own."""
    if "redis" in names:
        await _publish(series, settings, core, program)
        await _memory(series, settings, core, program)
    if "redis-attach" in names:
        await _attach(series, settings, core, program)
    if "redis-growth" in names:
        await _workers(series, settings, core, program)
        await _channels(series, settings, core, program)


async def _publish(series: Series, settings: Settings, core: int | None, program: Path) -> None:
    """One node publishes, a page of another receives."""
    async with AsyncExitStack() as stack:
        rivals = [await stack.enter_async_context(joined(contender, program, core)) for contender in RIVALS]
        for command, figure in (("bulk", "redis bulk"), ("broadcast", "redis single")):
            await collect(rivals)
            for cycle in range(settings.redis_cycles + 1):
                for nodes in rotated(rivals, cycle):
                    used = await nodes.publish(command, nodes.take(settings.redis_messages), nodes.listeners)
                    if cycle:
                        record(series, figure, nodes, used.nodes)
                        record(series, f"{figure} publisher", nodes, used.publisher)
                        record(series, f"{figure} in Redis", nodes, used.redis)


async def _memory(series: Series, settings: Settings, core: int | None, program: Path) -> None:
    """What Redis keeps for attached pages, and for messages."""
    async with joined(PAGEWS, program, core) as nodes:
        (listener,) = nodes.listeners
        empty = nodes.redis.memory()
        await listener.attach(await listener.fetch(settings.pages))
        pages = nodes.redis.memory()
        record(series, "redis memory page", nodes, (pages - empty) / settings.pages / 1000)
        await nodes.publish("spread", batches_of(range(_KEPT)))
        channels = nodes.redis.memory()
        record(series, "redis memory channel", nodes, (channels - pages) / _KEPT / 1000)
        await nodes.publish("fill", batches_of(range(_KEPT)))
        record(series, "redis memory message", nodes, (nodes.redis.memory() - channels) / _KEPT / 1000)


async def _attach(series: Series, settings: Settings, core: int | None, program: Path) -> None:
    """Pages attach to a process on Redis, and to one with the embedded broker."""
    async with (
        RedisServer(program) as redis,
        measuring(PAGEWS, core) as embedded,
        measuring(replace(PAGEWS, arguments=(redis.url,)), core) as shared,
    ):
        for cycle in range(settings.attach_cycles):
            await collect([embedded, shared])
            visits = {server: await server.fetch(settings.pages) for server in (embedded, shared)}
            before = redis.cpu_seconds()
            cpu = await attach_in_turns(visits, cycle)
            record(series, "attach embedded", embedded, cpu[embedded] / settings.pages * 1e6)
            record(series, "attach on Redis", shared, cpu[shared] / settings.pages * 1e6)
            record(series, "attach in Redis", shared, (redis.cpu_seconds() - before) / settings.pages * 1e6)
            for server in visits:
                await server.leave()


async def _workers(series: Series, settings: Settings, core: int | None, program: Path) -> None:
    """The same message goes to more and more processes, each of which has a page that listens."""
    topics = [[f"crowd-{count}" for count in WORKERS if number < count] for number in range(max(WORKERS))]
    async with joined(PAGEWS, program, core, topics) as nodes:
        await collect([nodes])
        for cycle in range(settings.redis_cycles + 1):
            for count in rotated(WORKERS, cycle):
                batches = nodes.take(settings.redis_messages)
                used = await nodes.publish(f"bulk-crowd-{count}", batches, nodes.listeners[:count])
                if cycle:
                    record(series, f"redis workers {count}", nodes, used.publisher)
                    record(series, f"redis workers {count} in Redis", nodes, used.redis)


async def _channels(series: Series, settings: Settings, core: int | None, program: Path) -> None:
    """A log with few channels beside logs with many."""
    counts = {"few": settings.few_channels, "some": settings.some_channels, "many": settings.many_channels}
    async with AsyncExitStack() as stack:
        logs = {how: await stack.enter_async_context(joined(PAGEWS, program, core, ())) for how in counts}
        for how, nodes in logs.items():
            await nodes.publish("spread", batches_of(range(counts[how])))
        await collect(list(logs.values()))
        for cycle in range(settings.redis_cycles + 1):
            for how in rotated(tuple(logs), cycle):
                # Other channels each time, if there are others, so that they are not in the caches.
                channels = batches_of(range(counts[how]))
                per_cycle = settings.redis_messages // len(channels[0])
                batches = [channels[(cycle * per_cycle + number) % len(channels)] for number in range(per_cycle)]
                used = await logs[how].publish("spread", batches)
                if cycle:
                    record(series, f"redis {how} channels", logs[how], used.redis)
