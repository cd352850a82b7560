"""The servers' turns: each a fresh process, measured from its first page to its last."""

from __future__ import annotations

import statistics
from collections.abc import Collection

from benchmarks.measures import PAGEWS, PLAIN, SOCKETIO, Contender, measuring
from benchmarks.settings import Settings

Figures = dict[str, float]

TURN_NAMES = frozenset({"broadcast", "burst", "memory", "attach", "latency", "echo"})
GROWTH_NAMES = frozenset({"growth", "idle"})
TURNS = (PLAIN, PAGEWS, SOCKETIO)
GROWTH_TURNS = (PLAIN, PAGEWS)


async def turn(contender: Contender, settings: Settings, names: Collection[str]) -> Figures:
    """All figures of one server with a usual number of pages."""
    figures: Figures = {}
    async with measuring(contender) as measurement:
        cost = await measurement.attach(settings.pages)
        if "attach" in names:
            figures["attach"] = cost.attach_microseconds
        if "memory" in names:
            figures["memory"] = cost.attached_kilobytes
            figures["rendered"] = cost.rendered_kilobytes
        if "broadcast" in names:
            figures["broadcast"] = await measurement.broadcast(settings.messages)
        if "burst" in names:
            figures["burst"] = await measurement.burst(settings.messages)
            figures["broadcast burst"] = await measurement.broadcast_burst(settings.messages)
        if "latency" in names:
            latencies = await measurement.latency(settings.singles)
            figures["latency p50"] = statistics.median(latencies)
            figures["latency p99"] = statistics.quantiles(latencies, n=100)[98]
        if "echo" in names:
            figures["echo"] = await measurement.echo()
    return figures


async def growth_turn(contender: Contender, settings: Settings, names: Collection[str]) -> Figures:
    """The figures of one server that grows from a few pages to many."""
    figures: Figures = {}
    async with measuring(contender) as measurement:
        if "growth" in names:
            await measurement.attach(settings.few_pages)
            figures["broadcast few"] = await measurement.broadcast(settings.messages)
        if "idle" in names and contender is PAGEWS and settings.idle_pages:
            await measurement.attach(settings.idle_pages)
            figures["idle"] = await measurement.idle(settings.idle_seconds)
        if "growth" in names:
            await measurement.attach(settings.many_pages)
            figures["broadcast many"] = await measurement.broadcast(settings.messages)
    return figures
