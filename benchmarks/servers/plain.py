"""aiohttp alone: a set of WebSockets and ``await ws.send_str()``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import WSMsgType, web

from benchmarks.frames import server_frame
from benchmarks.payload import numbered, timed
from benchmarks.servers.control import Action, PageBench, run
from benchmarks.servers.session import session_id, setup_session


class PlainBench(PageBench):
    def __init__(self) -> None:
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        await session_id(request)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self._sockets[ws] = request
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

    async def bare(self, numbers: range) -> None:
        """The least that a broadcast costs on these sockets: each frame is made once, and written past aiohttp."""
        for number in numbers:
            frame = server_frame(numbered(number).encode())
            for request in self._sockets.values():
                assert request.transport is not None
                request.transport.write(frame)

    def actions(self) -> Mapping[str, Action]:
        return {**super().actions(), "bare": self.bare}

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
