"""python-socketio on aiohttp, as its documentation sets it up.

``python -m benchmarks.servers.socketio_peer [REDIS]``: alone, or with others on the same Redis.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import socketio
from aiohttp import web

from benchmarks.payload import numbered, timed
from benchmarks.servers.control import PageBench, run
from benchmarks.servers.session import session_id, setup_session


class SocketIOBench(PageBench):
    def __init__(self, server: socketio.AsyncServer) -> None:
        self._server = server
        self._sessions: dict[str, str] = {}
        server.on("connect", self._connect)
        server.on("disconnect", self._disconnect)
        server.on("echo", self._echo)

    async def _connect(self, sid: str, environ: dict[str, Any]) -> None:
        self._sessions[sid] = await session_id(environ["aiohttp.request"])

    async def _disconnect(self, sid: str, reason: str) -> None:
        del self._sessions[sid]

    async def _echo(self, sid: str, data: str) -> str:
        return data

    def attached(self) -> int:
        return len(self._sessions)

    async def broadcast(self, numbers: range) -> None:
        for number in numbers:
            await self._server.emit("tick", numbered(number))

    async def burst(self, numbers: range) -> None:
        texts = [numbered(number) for number in numbers]
        for sid in self._sessions:
            for text in texts:
                await self._server.emit("tick", text, to=sid)

    async def single(self, numbers: range) -> None:
        sid = next(reversed(self._sessions))
        for number in numbers:
            await self._server.emit("tick", timed(number), to=sid)


async def serve() -> None:
    app = web.Application()
    setup_session(app)
    manager = socketio.AsyncRedisManager(sys.argv[1]) if len(sys.argv) > 1 else None
    server = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)
    server.attach(app)
    await run(app, SocketIOBench(server))


if __name__ == "__main__":
    asyncio.run(serve())
