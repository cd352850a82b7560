"""What is measured in a round: fresh processes of all servers, up at the same time, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from benchmarks.goals import Series
from benchmarks.interleaving import Slice, attach_in_turns, collect, interleave, record, rotated
from benchmarks.measures import PAGEWS, PLAIN, SOCKETIO, Measurement, measuring
from benchmarks.recovery import arrive, come_back, reset
from benchmarks.settings import Settings

ROUND_NAMES = frozenset({"broadcast", "burst", "memory", "attach", "latency", "echo", "qos", "resume", "resets"})
GROWTH_NAMES = frozenset({"growth", "idle"})

_CONTENDERS = (PLAIN, PAGEWS, SOCKETIO)
_GROWING = (PLAIN, PAGEWS)
# Figures for which pages stay attached.
_ATTACHED_NAMES = frozenset({"broadcast", "burst", "latency", "echo", "qos"})
# Messages of latency before the next server's: short against the machine's moods.
_LATENCY_SLICE = 20


async def usual_round(series: Series, settings: Settings, names: frozenset[str], core: int | None) -> None:
    """All figures with a usual number of pages."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(measuring(contender, core)) for contender in _CONTENDERS]
        if not names.isdisjoint(_ATTACHED_NAMES | {"memory", "attach"}):
            await _attach(series, servers, settings, names)
            await _attached(series, servers, settings, names)
            for server in servers:
                await server.leave()
        if "resume" in names:
            await _resume(series, servers, settings)
        if "resets" in names:
            await _resets(series, servers, settings)


async def growth_round(
    series: Series, settings: Settings, names: frozenset[str], core: int | None, *, idle: bool
) -> None:
    """The figures of servers with few pages beside servers with many."""
    for contender in _GROWING:
        async with measuring(contender, core) as few, measuring(contender, core) as many:
            if idle and contender is PAGEWS and settings.idle_pages:
                await many.attach(await many.fetch(settings.idle_pages))
                record(series, "idle", many, await many.idle(settings.idle_seconds))
            if "growth" in names:
                await few.attach(await few.fetch(settings.few_pages))
                await many.attach(await many.fetch(settings.many_pages - len(many.load.connections)))
                slices = [
                    Slice("broadcast few", few, partial(few.broadcast, settings.many_pages)),
                    Slice("broadcast many", many, partial(many.broadcast, settings.many_pages)),
                ]
                await interleave(series, settings.growth_cycles, slices)


async def _attach(series: Series, servers: Sequence[Measurement], settings: Settings, names: frozenset[str]) -> None:
    """Attach all pages, and again; memory is measured the first time, while the processes are fresh."""
    for cycle in range(settings.attach_cycles if "attach" in names else 1):
        if cycle:
            for server in servers:
                await server.leave()
        await collect(servers)
        empty = {server: await server.server.resident_bytes() for server in servers}
        visits = {server: await server.fetch(settings.pages) for server in servers}
        rendered = {server: await server.server.resident_bytes() for server in servers}
        cpu = await attach_in_turns(visits, cycle)
        for server in servers:
            if "attach" in names:
                record(series, "attach", server, cpu[server] / settings.pages * 1e6)
            if "memory" in names and not cycle:
                attached = await server.server.resident_bytes()
                record(series, "rendered", server, (rendered[server] - empty[server]) / settings.pages / 1000)
                record(series, "memory", server, (attached - rendered[server]) / settings.pages / 1000)


async def _attached(series: Series, servers: Sequence[Measurement], settings: Settings, names: frozenset[str]) -> None:
    """The figures of pages that stay attached."""
    for server in servers:
        await server.server.look()
    if "broadcast" in names:
        slices = [Slice("broadcast", server, partial(server.broadcast, settings.messages)) for server in servers]
        plain = next(server for server in servers if server.contender is PLAIN)
        slices.append(Slice("bare", plain, partial(plain.deliveries, "bare", settings.messages)))
        await interleave(series, settings.cycles, slices)
    if "burst" in names:
        slices = [Slice("burst", server, server.burst) for server in servers]
        await interleave(series, settings.burst_cycles, slices)
        slices = [Slice("broadcast burst", server, server.broadcast_burst) for server in servers]
        await interleave(series, settings.burst_cycles, slices)
    if "latency" in names:
        await _latency(series, servers, settings)
    if "echo" in names:
        slices = [Slice("echo", server, partial(server.echo, settings.echoes, 1)) for server in servers]
        await interleave(series, settings.echo_cycles, slices)
    if "qos" in names:
        await _qos(series, next(server for server in servers if server.contender is PAGEWS), settings)


async def _latency(series: Series, servers: Sequence[Measurement], settings: Settings) -> None:
    for _ in range(settings.latency_cycles):
        await collect(servers)
        latencies: dict[Measurement, list[float]] = {server: [] for server in servers}
        for number in range(settings.singles // _LATENCY_SLICE):
            for server in rotated(servers, number):
                latencies[server] += await server.latencies(_LATENCY_SLICE)
        for server, found in latencies.items():
            record(series, "latency p50", server, statistics.median(found))
            record(series, "latency p99", server, statistics.quantiles(found, n=100)[98])


async def _qos(series: Series, server: Measurement, settings: Settings) -> None:
    for kind in ("broadcast", "push"):
        slices = [
            Slice(f"{kind} qos {qos}", server, partial(server.deliveries, f"{kind}-qos-{qos}", settings.qos_messages))
            for qos in (0, 1, 2)
        ]
        await interleave(series, settings.qos_cycles, slices)
    slices = [Slice(f"send qos {qos}", server, partial(server.echo, settings.echoes, qos)) for qos in (1, 2)]
    await interleave(series, settings.qos_cycles, slices)


async def _resume(series: Series, servers: Sequence[Measurement], settings: Settings) -> None:
    for cycle in range(settings.attach_cycles):
        await collect(servers)
        for server in rotated(servers, cycle):
            for figure, crowd in (
                ("arrive", await arrive(server, settings.pages)),
                ("resume", await come_back(server)),
            ):
                record(series, figure, server, crowd.microseconds)
                record(series, f"{figure} time", server, crowd.milliseconds)
            await server.leave()


async def _resets(series: Series, servers: Sequence[Measurement], settings: Settings) -> None:
    for server in servers:
        before, after = await reset(server, settings.pages)
        for what, had, has in zip(before._fields, before, after, strict=True):
            record(series, f"{what} before resets", server, had)
            record(series, f"{what} after resets", server, has)
        left = sum(max(0, has - had) for had, has in zip(before, after, strict=True))
        record(series, "left by resets", server, left)
