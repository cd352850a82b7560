"""One worker of `make chaos`: an application with pagews, and publishers that log what they push.

It serves on 127.0.0.1 and writes a line when it listens. `POST /quiet` ends its publishers, `POST /mark` pushes
to every page and says what.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import os
import random
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypedDict

from aiohttp import web

import pagews
from pagews import AskTimeout, BrokerUnavailable, DelegateTableDef, Limits, PageGone, RemoteError
from tests.sites import TestSite
from tools.chaos_log import ChaosLog

#: Short enough that a run of some seconds comes to all of them, long enough for a machine that is busy.
LIMITS: Final = Limits(
    heartbeat=1.0,
    retention=20.0,
    grace=5.0,
    lease=2.0,
    broker=1.0,
    drain_window=0.3,
    drain_grace=1.0,
    channel_entries=5000,
    channel_bytes=4 * 1024 * 1024,
    replay_chunk=2048,
    held=50,
)

#: To this topic all pages listen; to each of the others some.
ALL: Final = "all"
TOPICS: Final = ("north", "south")
#: These a page may join and leave.
JOINED: Final = ("east", "west", "up", "down")
USERS: Final = ("ann", "bob")

#: Seconds between two pushes of one publisher, on average.
PAUSE: Final = 0.02
#: Seconds between two revocations by one worker.
REVOKES: Final = (2.0, 12.0)
#: Seconds that a page has to answer a question.
ANSWER: Final = 2.0


class Sent(TypedDict):
    """What a page sends: its document, and a number of its own."""

    document: str
    number: int


class Sheet(TypedDict):
    """A form with a file: the document of the page, a number of its own, and the file."""

    document: str
    number: int
    file: pagews.Upload


class Publishers:
    """What pushes in this process, until it is told to be quiet."""

    def __init__(self, site: TestSite, log: ChaosLog, chance: random.Random) -> None:
        self._site = site
        self._log = log
        self._chance = chance
        self._numbers = itertools.count()
        self._pages: list[pagews.Page] = []
        self._running: list[asyncio.Task[None]] = []

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """A `cleanup_ctx` of the application."""
        work = [self._push_all("a"), self._push_all("b"), self._ask_all(), self._look_around(), self._revoke_all()]
        self._running = [asyncio.create_task(coroutine) for coroutine in work]
        yield
        await self.end()

    async def end(self) -> None:
        """Nothing is pushed any more when this returns."""
        for task in self._running:
            task.cancel()
        await asyncio.wait(self._running)
        for task in self._running:
            if not task.cancelled():
                task.result()

    async def _look_around(self) -> None:
        while True:
            with suppress(BrokerUnavailable):
                self._pages = await self._site.publisher.topic(ALL).pages()
            await asyncio.sleep(0.5)

    def _target(self) -> tuple[str, pagews.Target]:
        """Somebody to push to, with the name of the channel."""
        publisher, kind = (
            self._site.publisher,
            self._chance.choice(("all", "topic", "topic", "user", "page", "session")),
        )
        if self._pages and kind in ("page", "session"):
            page = self._chance.choice(self._pages)
            return (f"page:{page.id}", page) if kind == "page" else (f"session:{page.session.id}", page.session)
        if kind == "user":
            user = self._chance.choice(USERS)
            return f"user:{user}", publisher.user(user)
        topic = ALL if kind == "all" else self._chance.choice(TOPICS + JOINED)
        return f"topic:{topic}", publisher.topic(topic)

    async def _push_all(self, name: str) -> None:
        publisher = f"{os.getpid()}{name}"
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / PAUSE))
            channel, target = self._target()
            await self.push(publisher, channel, target, again=self._chance.random() < 0.5)

    async def push(self, publisher: str, channel: str, target: pagews.Target, *, again: bool) -> str:
        """Push, and log how it went; `again`: once more with the same key, if that is not known. Returns its name."""
        place = next(self._numbers)
        push = f"{publisher}-{place}"
        self._log.write(push=push, publisher=publisher, place=place, channel=channel, expires=False)
        outcome = await self._try(target, push, key=push if again else None)
        if outcome == "unknown" and again:
            outcome = "accepted" if await self._try(target, push, key=push) == "accepted" else "unknown"
        self._log.write(pushed=push, outcome=outcome)
        return push

    async def _try(self, target: pagews.Target, push: str, key: str | None) -> str:
        try:
            await target.push("show", push, key=key)
        except BrokerUnavailable as error:
            return "unknown" if error.unknown else "refused"
        return "accepted"

    async def _revoke_all(self) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(*REVOKES))
            if not self._pages:
                continue
            session = self._chance.choice(self._pages).session
            channel, target = f"session:{session.id}", self._site.publisher.session(session.id)
            if self._chance.random() < 0.3:
                user = self._chance.choice(USERS)
                channel, target = f"user:{user}", self._site.publisher.user(user)
            self._log.write(revoking=channel)
            with suppress(BrokerUnavailable):
                await target.revoke()
                self._log.write(revoked=channel)

    async def _ask_all(self) -> None:
        publisher = f"{os.getpid()}q"
        while True:
            await asyncio.sleep(self._chance.uniform(0.0, 0.4))
            if not self._pages:
                continue
            page, place = self._chance.choice(self._pages), next(self._numbers)
            push = f"{publisher}-{place}"
            self._log.write(push=push, publisher=publisher, place=place, channel=f"page:{page.id}", expires=True)
            with suppress(BrokerUnavailable, AskTimeout, PageGone, RemoteError):
                self._log.write(asked=push, answer=await page.ask("show", push, timeout=ANSWER))


def make_site(arguments: argparse.Namespace) -> TestSite:
    """The application of a worker."""
    log = ChaosLog(arguments.directory / f"publisher-{arguments.name}-{os.getpid()}.log")
    chance = random.Random(f"{arguments.seed} {arguments.name}")
    table = DelegateTableDef()

    @table.on("effect")
    async def effect(page: pagews.Page, data: Sent) -> int:
        log.write(effect=[data["document"], data["number"]])
        await asyncio.sleep(chance.choice((0.0, 0.0, 0.05, 0.5)))
        return data["number"]

    @table.on("upload")
    async def upload(page: pagews.Page, data: Sheet) -> int:
        content = await data["file"].read()
        log.write(effect=[data["document"], data["number"]], bytes=len(content))
        await asyncio.sleep(chance.choice((0.0, 0.05, 0.5)))
        return len(content)

    async def authorize(page: pagews.Page, topic: str) -> bool:
        return topic in JOINED

    module, _, name = arguments.broker.partition(":")
    broker = getattr(importlib.import_module(module), name)(arguments.redis, LIMITS)
    site = TestSite(key=arguments.key, limits=LIMITS, broker=broker, delegates=table, authorize=authorize)
    publishers = Publishers(site, log, chance)
    site.app.cleanup_ctx.append(publishers.run)

    async def quiet(request: web.Request) -> web.Response:
        await publishers.end()
        return web.Response()

    async def mark(request: web.Request) -> web.Response:
        push = await publishers.push(f"{os.getpid()}m", f"topic:{ALL}", site.publisher.topic(ALL), again=True)
        return web.Response(text=push)

    async def page(request: web.Request) -> web.Response:
        """A page as JSON: its token, and what it listens to, of which a page itself learns little."""
        topics = request.query.getall("topic")
        page = await pagews.open_page(request, topics=topics)
        [token] = re.findall(r'data-page="([^"]+)"', str(pagews.script_tag(page)))
        channels = [*(f"topic:{topic}" for topic in topics), f"session:{page.session.id}"]
        if page.user is not None:
            channels.append(f"user:{page.user.id}")
        return web.json_response({"token": token, "channels": channels})

    site.app.router.add_post("/quiet", quiet)
    site.app.router.add_get("/page", page)
    site.app.router.add_post("/mark", mark)
    return site


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description="One worker of make chaos.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, help="the address of its Redis")
    parser.add_argument("--key", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--directory", type=Path, required=True, help="of the logs")
    parser.add_argument("--broker", required=True, help="MODULE:CLASS of the broker")
    arguments = parser.parse_args()
    app = make_site(arguments).app
    web.run_app(
        app, host="127.0.0.1", port=arguments.port, access_log=None, print=lambda _: print("listens", flush=True)
    )


if __name__ == "__main__":
    main()
