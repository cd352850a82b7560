"""What the transports of pagews cost that need no WebSocket, beside its WebSocket."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from benchmarks.goals import Series
from benchmarks.interleaving import Slice, attach_in_turns, collect, interleave, record
from benchmarks.measures import PAGEWS, POLL, STREAM, measuring
from benchmarks.settings import Settings

TRANSPORT_NAMES = frozenset({"stream", "poll"})

_CONTENDERS = {"websocket": PAGEWS, "stream": STREAM, "poll": POLL}
# A message to every page that polls is longer than a slice should be; less than one there cannot be.
_ONE_EACH = 0


async def transports_round(series: Series, settings: Settings, names: frozenset[str], core: int | None) -> None:
    """Broadcasts to pages of each transport, and their memory; a process for each."""
    async with AsyncExitStack() as stack:
        servers = {
            transport: await stack.enter_async_context(measuring(contender, core))
            for transport, contender in _CONTENDERS.items()
            if transport in names | {"websocket"}
        }
        await collect(list(servers.values()))
        visits = {server: await server.fetch(settings.pages) for server in servers.values()}
        rendered = {server: await server.server.resident_bytes() for server in servers.values()}
        await attach_in_turns(visits)
        for transport, server in servers.items():
            attached = await server.server.resident_bytes()
            memory = (attached - rendered[server]) / settings.pages / 1000
            record(series, f"{transport} memory", server, memory)
        slices = [
            Slice(transport, server, partial(server.broadcast, _ONE_EACH if transport == "poll" else settings.messages))
            for transport, server in servers.items()
        ]
        await interleave(series, settings.transport_cycles, slices)
