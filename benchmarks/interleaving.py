"""Servers take turns in short slices, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from benchmarks.goals import Series
from benchmarks.measures import Contender, Measurement
from benchmarks.visits import Visit

_Item = TypeVar("_Item")
# Pages that attach before the next server's.
_ATTACH_SLICE = 100


class Measured(Protocol):
    """What is measured: a server, or several that belong together."""

    contender: Contender

    async def collect(self) -> None:
        """Collect the garbage of every process."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A short piece of work that gives one value of a figure."""

    figure: str
    server: Measurement
    work: Callable[[], Awaitable[float]]


def record(series: Series, figure: str, server: Measured, value: float) -> None:
    """File a value. The n-th values of a figure belong together, whatever the server."""
    series.setdefault(figure, {}).setdefault(server.contender.name, []).append(value)


def rotated(items: Sequence[_Item], by: int) -> Sequence[_Item]:
    """Nobody is always the first: what a slice leaves in the caches, its neighbour finds."""
    by %= len(items)
    return (*items[by:], *items[:by])


async def collect(servers: Sequence[Measured]) -> None:
    """Collect garbage on the servers and here, so that all begin alike. The servers go on collecting as usual."""
    gc.collect()
    for server in servers:
        await server.collect()


async def interleave(series: Series, cycles: int, slices: Sequence[Slice]) -> None:
    """Do every slice once in each cycle, and record its value. The first cycle of all warms up, and is not counted."""
    await collect([piece.server for piece in slices])
    for cycle in range(cycles + 1):
        for piece in rotated(slices, cycle):
            value = await piece.work()
            if cycle:
                record(series, piece.figure, piece.server, value)


async def attach_in_turns(visits: Mapping[Measurement, Sequence[Visit]], cycle: int = 0) -> dict[Measurement, float]:
    """Attach these pages, as many of each server, some at a time. Returns the CPU seconds of each server."""
    cpu = dict.fromkeys(visits, 0.0)
    pages = max(map(len, visits.values()))
    for number, first in enumerate(range(0, pages, _ATTACH_SLICE)):
        for server in rotated(tuple(visits), number + cycle):
            cpu[server] += await server.attach(visits[server][first : first + _ATTACH_SLICE])
    return cpu
