"""Two processes as Django Channels joins them: the pub/sub layer of channels_redis, under plain aiohttp WebSockets.

What Django and its ASGI server cost comes on top of it, and is not measured.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web
from channels_redis.pubsub import RedisPubSubChannelLayer

from benchmarks.payload import numbered
from benchmarks.servers.control import Bench, run
from benchmarks.servers.session import session_id, setup_session

_GROUP = "bench"


class ChannelsBench(Bench):
    def __init__(self, url: str) -> None:
        self._layer = RedisPubSubChannelLayer(hosts=[url])
        self._channels: list[str] = []

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        await session_id(request)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        channel = await self._layer.new_channel()
        await self._layer.group_add(_GROUP, channel)
        self._channels.append(channel)
        forwarding = asyncio.create_task(self._forward(channel, ws))
        try:
            await ws.receive()
        finally:
            self._channels.remove(channel)
            forwarding.cancel()
            await self._layer.group_discard(_GROUP, channel)
        return ws

    async def _forward(self, channel: str, ws: web.WebSocketResponse) -> None:
        while True:
            message = await self._layer.receive(channel)
            await ws.send_str(message["text"])

    def attached(self) -> int:
        return len(self._channels)

    async def broadcast(self, numbers: range) -> None:
        for number in numbers:
            await self._layer.group_send(_GROUP, {"type": "tick", "text": numbered(number)})


def main() -> None:
    app = web.Application()
    setup_session(app)
    bench = ChannelsBench(sys.argv[1])
    app.router.add_get("/socket", bench.socket)
    asyncio.run(run(app, bench))


if __name__ == "__main__":
    main()
