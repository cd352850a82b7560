"""pagews with everything switched on, as its documentation sets it up.

``python -m benchmarks.servers.pagews_app [BROKER [TOPIC...]]``: its pages listen to these topics, too.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from aiohttp import web
from cryptography.fernet import Fernet

import pagews
from benchmarks.payload import numbered, timed
from benchmarks.servers.control import Action, PageBench, run
from pagews.site import Site, get_site

_TOPIC = "bench"
# No page listens to it, nor to those whose names begin with it.
_QUIET = "quiet"

delegates = pagews.DelegateTableDef()


@delegates.on("echo")
async def echo(page: pagews.Page, data: str) -> str:
    return data


class PagewsBench(PageBench):
    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics
        self._publisher: pagews.Publisher
        self._site: Site
        # Ids alone, asked for after attaching: what the application holds on to would count as memory of pagews.
        self._page_ids: list[str] = []

    async def start(self, app: web.Application) -> None:
        self._publisher = pagews.get_publisher(app)
        self._site = get_site(app)

    async def render(self, request: web.Request) -> web.Response:
        page = await pagews.open_page(request, topics=[_TOPIC, *self._topics])
        text = f"<!doctype html><title>bench</title>{pagews.script_tag(page)}"
        return web.Response(text=text, content_type="text/html")

    def attached(self) -> int:
        return self._publisher.statistics().attached

    def waiting(self) -> int:
        return sum(self._site.held.values())

    async def look(self) -> None:
        self._page_ids = [page.id for page in await self._publisher.topic(_TOPIC).pages()]

    def actions(self) -> Mapping[str, Action]:
        qos: dict[str, Action] = {}
        levels: tuple[Literal[0, 1, 2], ...] = (0, 1, 2)
        for level in levels:
            qos[f"broadcast-qos-{level}"] = partial(self._broadcast_qos, level)
            qos[f"push-qos-{level}"] = partial(self._push_qos, level)
        bulk: dict[str, Action] = {f"bulk-{topic}": partial(self._bulk, topic) for topic in self._topics}
        return {**super().actions(), **qos, **bulk, "fill": partial(self._bulk, _QUIET), "spread": self._spread}

    async def broadcast(self, numbers: range) -> None:
        topic = self._publisher.topic(_TOPIC)
        for number in numbers:
            await topic.push("tick", numbered(number))

    async def burst(self, numbers: range) -> None:
        texts = [numbered(number) for number in numbers]
        for page_id in self._page_ids:
            page = self._publisher.page(page_id)
            for text in texts:
                await page.push("tick", text)

    async def single(self, numbers: range) -> None:
        page = self._publisher.page(self._page_ids[-1])
        for number in numbers:
            await page.push("tick", timed(number))

    async def bulk(self, numbers: range) -> None:
        await self._bulk(_TOPIC, numbers)

    async def _bulk(self, topic: str, numbers: range) -> None:
        """Send all pages of a topic each of these numbers, and wait for the broker once."""
        target = self._publisher.topic(topic)
        await asyncio.gather(*(target.push("tick", numbered(number)) for number in numbers))

    async def _spread(self, numbers: range) -> None:
        """File each number in a topic of its own that no page listens to, and wait for the broker once."""
        topic = self._publisher.topic
        await asyncio.gather(*(topic(f"{_QUIET}-{number}").push("tick", numbered(number)) for number in numbers))

    async def _broadcast_qos(self, qos: Literal[0, 1, 2], numbers: range) -> None:
        """As `broadcast`; with qos 2, all answers are waited for."""
        topic = self._publisher.topic(_TOPIC)
        for number in numbers:
            if qos == 2:
                receipt = await topic.push("tick", numbered(number), qos=2)
                await receipt.wait(len(self._page_ids))
            else:
                await topic.push("tick", numbered(number), qos=qos)

    async def _push_qos(self, qos: Literal[0, 1, 2], numbers: range) -> None:
        """Send each page these numbers, addressed to that page; with qos 2, all answers are waited for."""
        pages = [self._publisher.page(page_id) for page_id in self._page_ids]
        for number in numbers:
            text = numbered(number)
            if qos == 2:
                receipts = [await page.push("tick", text, qos=2) for page in pages]
                for receipt in receipts:
                    await receipt.wait()
            else:
                for page in pages:
                    await page.push("tick", text, qos=qos)


def main() -> None:
    broker, *topics = sys.argv[1:] or ["memory://"]
    app = web.Application()
    bench = PagewsBench(topics)
    pagews.setup(app, secret_key=Fernet.generate_key(), broker=broker, delegates=delegates)
    app.on_startup.append(bench.start)
    app.router.add_get("/", bench.render)
    asyncio.run(run(app, bench))


if __name__ == "__main__":
    main()
