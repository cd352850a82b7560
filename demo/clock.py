"""The server's clock: one background task, one push a second, however many pages listen."""

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
        now = datetime.now(UTC)
        # An old time is of no use to anyone: at most once, and nothing is kept.
        await topic.push("clock", now.isoformat(timespec="seconds"), qos=0)
        await asyncio.sleep(1 - datetime.now(UTC).microsecond / 1_000_000)
