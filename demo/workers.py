"""Which worker process serves a page, and a button that kills it: the page goes on with the next.

Only with ``python -m demo --workers 3`` or the like.
"""

import asyncio
import os
import signal
import time
from contextlib import suppress

from aiohttp import web
from msgspec import Struct

import pagews

NAME = web.AppKey("worker_name", str)
SERVED_BY = "worker"  # a variable of a page
PACE = 0.5  # seconds between two workers that say so: a page that polls may be with another one each time

delegates = pagews.DelegateTableDef()


class Kill(Struct):
    pid: int


@delegates.on("worker_kill")
async def kill(page: pagews.Page, data: Kill) -> None:
    # Asked once more by the next worker, if it was this one that died: then the page is served by another.
    served_by = await page.get(SERVED_BY)
    if served_by is not None and served_by["pid"] == data.pid:
        with suppress(ProcessLookupError):
            os.kill(data.pid, signal.SIGKILL)


async def attached(page: pagews.Page) -> None:
    page.create_task(tell(page))


async def tell(page: pagews.Page) -> None:
    before = await page.get(SERVED_BY, {"pid": 0, "at": 0.0})
    if before["pid"] == os.getpid():
        return
    await asyncio.sleep(before["at"] + PACE - time.time())
    if page.attached:
        worker = {"name": page.app[NAME], "pid": os.getpid()}
        await page.set(SERVED_BY, {**worker, "at": time.time()})
        await page.push("worker", worker, ttl=10)


def setup(app: web.Application, name: str) -> None:
    app[NAME] = name
    app.on_startup.append(listen)


async def listen(app: web.Application) -> None:
    pagews.get_publisher(app).on_attach.append(attached)
