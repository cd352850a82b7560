"""What a cut of all connections at once costs a server, and what it leaves behind."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.measures import PAGEWS, Measurement
from benchmarks.process import Holdings
from benchmarks.visits import Document

# Broadcasts that a page misses while it is away.
_MISSED = 1


@dataclass(frozen=True, slots=True)
class Crowd:
    """All pages come at the same moment."""

    microseconds: float
    """CPU of the server for each of them."""
    milliseconds: float
    """From the first connect until the last page is live: attached, and it has what it missed."""


async def arrive(measurement: Measurement, pages: int) -> Crowd:
    """So many pages that have never been here attach at once."""
    documents = [Document(visit) for visit in await measurement.fetch(pages)]
    return await _come(measurement, documents)


async def come_back(measurement: Measurement) -> Crowd:
    """All pages are cut and come back at once. Those of pagews read on where they were, and get what they missed;
    those of the others just connect anew, and have missed it.
    """
    server, load = measurement.server, measurement.load
    if measurement.contender is not PAGEWS:
        documents = load.cut()
        await server.attached(0)
        return await _come(measurement, documents)
    # Up to here they have read: this names their cursor.
    await measurement.deliveries("broadcast")
    documents = load.cut()
    await server.attached(0)
    first = load.take_numbers(_MISSED)
    server.command("broadcast", first, _MISSED)
    await server.attached(0)  # commands are obeyed in their order: the push has been filed
    return await _come(measurement, documents, first)


async def reset(measurement: Measurement, pages: int) -> tuple[Holdings, Holdings]:
    """What the server holds before so many pages attach, and after they all were reset."""
    server = measurement.server
    before = await server.holdings()
    await measurement.attach(await measurement.fetch(pages))
    measurement.load.cut(reset=True)
    await server.attached(0)
    return before, await server.holdings(at_most=before)


async def _come(measurement: Measurement, documents: list[Document], missed: int | None = None) -> Crowd:
    server, load = measurement.server, measurement.load
    cpu, start = server.cpu_seconds(), time.monotonic()
    if missed is None:
        await load.attach_at_once(documents)
    else:
        await load.resume_at_once(documents, missed, _MISSED)
    seconds = time.monotonic() - start
    await server.attached(len(documents))
    cpu = server.cpu_seconds() - cpu
    return Crowd(microseconds=cpu / len(documents) * 1e6, milliseconds=seconds * 1e3)
