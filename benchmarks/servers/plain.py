"""aiohttp alone: a set of WebSockets and ``await ws.send_str()``."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from benchmarks.payload import numbered, timed
from benchmarks.servers.control import Bench, run
from benchmarks.servers.session import session_id, setup_session


class PlainBench(Bench):
    def __init__(self) -> None:
        self._sockets: dict[web.WebSocketResponse, str] = {}

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        session = await session_id(request)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self._sockets[ws] = session
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await ws.send_str(message.data)
        finally:
            del self._sockets[ws]
        return ws

    def attached(self) -> int:
        return len(self._sockets)

    async def broadcast(self, numbers: range) -> None:
        for number in numbers:
            text = numbered(number)
            for ws in self._sockets:
                await ws.send_str(text)

    async def burst(self, numbers: range) -> None:
        texts = [numbered(number) for number in numbers]
        for ws in self._sockets:
            for text in texts:
                await ws.send_str(text)

    async def single(self, numbers: range) -> None:
        ws = next(reversed(self._sockets))
        for number in numbers:
            await ws.send_str(timed(number))


def main() -> None:
    app = web.Application()
    setup_session(app)
    bench = PlainBench()
    app.router.add_get("/socket", bench.socket)
    asyncio.run(run(app, bench))


if __name__ == "__main__":
    main()
