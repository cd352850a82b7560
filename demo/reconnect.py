"""A running stream of numbered pushes, and a way to cut the socket under it.

Nothing here deals with the cut: a push is in the log whether or not a socket is there to take it, and the
page reads on from its cursor when it is back.
"""

import asyncio
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

import pagews
from demo.running import PageTasks

RATE = 20.0  # pushes a second
TOTAL = 600  # then the stream stops by itself

STREAMS = web.AppKey("streams", PageTasks)

delegates = pagews.DelegateTableDef()


class Start(Struct):
    run: Annotated[int, Meta(ge=1)]


class Cut(Struct):
    seconds: Annotated[float, Meta(ge=0, le=10)]


@delegates.on("stream_start")
async def start(page: pagews.Page, data: Start) -> dict[str, object]:
    page.app[STREAMS].start(page, stream(page, data.run))
    return {"rate": RATE, "total": TOTAL}


@delegates.on("stream_stop")
async def stop(page: pagews.Page, data: None) -> bool:
    return page.app[STREAMS].stop(page.id)


@delegates.on("cut")
async def cut(page: pagews.Page, data: Cut) -> None:
    await page.close(1012, f"cut for the demo; retry={data.seconds:g}")


async def stream(page: pagews.Page, run: int) -> None:
    for number in range(1, TOTAL + 1):
        await page.push("number", {"run": run, "number": number})
        # How many there are is told beside the stream, at most once: a lost one is made up for by the next.
        await page.push("sent", {"run": run, "sent": number}, qos=0)
        await asyncio.sleep(1 / RATE)
    await page.push("stream_end", {"run": run, "sent": TOTAL})


def setup(app: web.Application) -> None:
    app[STREAMS] = PageTasks(limit=100)
