"""The server's clock: one push a second, however many pages listen and however many workers tell the time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

from aiohttp import web

import pagews

TOPIC = "clock"


def setup(app: web.Application) -> None:
    app.cleanup_ctx.append(ticking)


async def ticking(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(tick(app))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def tick(app: web.Application) -> None:
    topic = pagews.get_publisher(app).topic(TOPIC)
    while True:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        # Every worker has a clock: of all that push the same second one is heard. An old time is of no use to anyone.
        with suppress(pagews.BrokerUnavailable):
            await topic.push("clock", now, key=now, ttl=1)
        await asyncio.sleep(1 - datetime.now(UTC).microsecond / 1_000_000)
