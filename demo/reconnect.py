"""A running stream of numbered pushes, and a way to cut the socket under it.

Nothing here deals with the cut: a push is in the log whether or not a socket is there to take it, and the
page reads on from its cursor when it is back.
"""

import asyncio
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

import pagews
from demo.running import PageWork, State

RATE = 20.0  # pushes a second
TOTAL = 600  # then the stream stops by itself

STREAMS = web.AppKey("streams", PageWork)

delegates = pagews.DelegateTableDef()


class Start(Struct):
    run: Annotated[int, Meta(ge=1)]


class Cut(Struct):
    seconds: Annotated[float, Meta(ge=0, le=10)]


@delegates.on("stream_start")
async def start(page: pagews.Page, data: Start) -> dict[str, object]:
    await page.app[STREAMS].start(page, {"run": data.run, "sent": 0})
    return {"rate": RATE, "total": TOTAL}


@delegates.on("stream_stop")
async def stop(page: pagews.Page, data: None) -> bool:
    return await page.app[STREAMS].stop(page)


@delegates.on("cut")
async def cut(page: pagews.Page, data: Cut) -> None:
    await page.close(1012, f"cut for the demo; retry={data.seconds:g}")


async def push_next(page: pagews.Page, state: State) -> State | None:
    run, number = state["run"], state["sent"] + 1
    # A worker may be killed when it has pushed a number, and has not kept that it has: the next one pushes it again.
    await page.push("number", {"run": run, "number": number}, key=f"number {run}/{number}")
    # How many there are is told beside the stream, at most once: a lost one is made up for by the next.
    await page.push("sent", {"run": run, "sent": number}, qos=0)
    if number >= TOTAL:
        await page.push("stream_end", {"run": run, "sent": TOTAL}, key=f"end {run}")
        return None
    await asyncio.sleep(1 / RATE)
    return {"run": run, "sent": number}


def setup(app: web.Application) -> None:
    app[STREAMS] = PageWork("stream", push_next, limit=100)
    app.on_startup.append(listen)


async def listen(app: web.Application) -> None:
    pagews.get_publisher(app).on_attach.append(app[STREAMS].go_on)
