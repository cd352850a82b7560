"""pagews with everything switched on, as its documentation sets it up."""

from __future__ import annotations

import asyncio

from aiohttp import web
from cryptography.fernet import Fernet

import pagews
from benchmarks.payload import numbered, timed
from benchmarks.servers.control import Bench, run

_TOPIC = "bench"

delegates = pagews.DelegateTableDef()


@delegates.on("echo")
async def echo(page: pagews.Page, data: str) -> str:
    return data


async def render(request: web.Request) -> web.Response:
    page = await pagews.open_page(request, topics=[_TOPIC])
    text = f"<!doctype html><title>bench</title>{pagews.script_tag(page)}"
    return web.Response(text=text, content_type="text/html")


class PagewsBench(Bench):
    def __init__(self) -> None:
        self._publisher: pagews.Publisher
        # Ids alone, asked for after attaching: what the application holds on to would count as memory of pagews.
        self._page_ids: list[str] = []

    async def start(self, app: web.Application) -> None:
        self._publisher = pagews.get_publisher(app)

    def attached(self) -> int:
        return self._publisher.statistics().attached

    async def _ids(self) -> list[str]:
        if len(self._page_ids) != self.attached():
            self._page_ids = [page.id for page in await self._publisher.topic(_TOPIC).pages()]
        return self._page_ids

    async def broadcast(self, numbers: range) -> None:
        topic = self._publisher.topic(_TOPIC)
        for number in numbers:
            await topic.push("tick", numbered(number))

    async def burst(self, numbers: range) -> None:
        texts = [numbered(number) for number in numbers]
        for page_id in await self._ids():
            page = self._publisher.page(page_id)
            for text in texts:
                await page.push("tick", text)

    async def single(self, numbers: range) -> None:
        page = self._publisher.page((await self._ids())[-1])
        for number in numbers:
            await page.push("tick", timed(number))


def main() -> None:
    app = web.Application()
    bench = PagewsBench()
    pagews.setup(app, secret_key=Fernet.generate_key(), delegates=delegates)
    app.on_startup.append(bench.start)
    app.router.add_get("/", render)
    asyncio.run(run(app, bench))


if __name__ == "__main__":
    main()
