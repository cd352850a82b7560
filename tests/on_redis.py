"""Two workers behind one address, between which everything hops: `async with serving(TwoWorkers(redis.url)) as site:`

They are applications of their own in this process, each with its own node and its own connections to Redis.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterator
from typing import Any

from aiohttp import web

import pagews
from pagews import Limits
from pagews.redis_broker import RedisBroker
from pagews.tokens import new_key
from tests.sites import Served, TestSite


class TwoWorkers(Served):
    """Each connection goes to the other worker than the one before, and carries one request: so do each attempt, each
    poll and each post. Pushes are made by turns.

    Arguments:
        url: of their Redis, which may hold what others have left there.
        setup: what both are made with, as `TestSite` takes it.
    """

    def __init__(self, url: str, **setup: Any) -> None:
        setup = {"key": new_key(), "limits": Limits(), **setup}
        prefix = f"{secrets.token_hex(8)}:"
        self.workers = [TestSite(broker=RedisBroker(url, setup["limits"], prefix=prefix), **setup) for _ in range(2)]
        for worker in self.workers:
            worker.app.on_response_prepare.append(_end_connection)
        self._accepting: Iterator[TestSite] = itertools.cycle(self.workers)
        self._pushing: Iterator[TestSite] = itertools.cycle(self.workers)
        self._server: asyncio.Server

    @property
    def publisher(self) -> pagews.Publisher:
        return next(self._pushing).publisher

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        for worker in self.workers:
            await worker.runner.setup()
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        self._server.close()
        for worker in self.workers:
            await worker.stop()

    def _accept(self) -> asyncio.Protocol:
        server = next(self._accepting).runner.server
        assert server is not None
        return server()


async def _end_connection(request: web.Request, response: web.StreamResponse) -> None:
    if not isinstance(response, web.WebSocketResponse):
        response.force_close()
        response.headers["Connection"] = "close"
