"""A site in a process of its own, which pushes all the time: `python -m tests.served PORT KEY SECONDS`.

It is on 127.0.0.1, writes a line when it listens, and stops on SIGTERM. The topic `news` counts, a number every
`SECONDS`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator

from aiohttp import web

from pagews import Limits
from tests.sites import TestSite

#: A heartbeat that has nothing to say while a test of some seconds lasts, and room for all of its pages in one browser.
LIMITS = Limits(heartbeat=600, held=1000, session_sockets=1000, session_pages=1000)


def make_site(key: str, interval: float) -> TestSite:
    site = TestSite(key=key, limits=LIMITS)

    async def count(app: web.Application) -> AsyncIterator[None]:
        async def push() -> None:
            for number in itertools.count():
                await site.publisher.topic("news").push("count", number)
                await asyncio.sleep(interval)

        counting = asyncio.create_task(push())
        yield
        counting.cancel()

    site.app.cleanup_ctx.append(count)
    return site


def main() -> None:
    port, key, interval = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    app = make_site(key, interval).app
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=lambda _: print("listens", flush=True))


if __name__ == "__main__":
    main()
