"""Places in what passes over all the connections of a page, whatever it is that carries it.

A WebSocket has one connection, and frames. Where messages are text, each may come over another connection: a `Trap`
looks at all of them.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from tests.faults import FaultProxy, Link, Rule, after_frame, before_frame, inside_frame
from tests.wire_client import Transport

Direction = Literal["down", "up"]


def before(transport: Transport, text: bytes) -> Rule:
    """Cut before the next message that contains some bytes: it has been sent, and does not arrive."""
    return before_frame(text) if transport == "websocket" else lambda _, chunk: _found(text, chunk, 0)


def inside(transport: Transport, text: bytes) -> Rule:
    """Cut in the middle of the next message that contains some bytes, where it is text in the middle of these."""
    return inside_frame(text) if transport == "websocket" else lambda _, chunk: _found(text, chunk, len(text) // 2)


def behind(transport: Transport, text: bytes) -> Rule:
    """Cut behind the next message that contains some bytes, and what comes with it: of a request, its whole body."""
    return after_frame(text) if transport == "websocket" else lambda _, chunk: len(chunk) if text in chunk else None


def _found(text: bytes, chunk: bytes, more: int) -> int | None:
    place = chunk.find(text)
    return None if place < 0 else place + more


def after_welcome(transport: Transport) -> Rule:
    """Cut at the end of the next welcome, and before whatever comes with it."""
    return after_frame(b'["welcome"') if transport == "websocket" else _after_welcome_in_text


def _after_welcome_in_text(before: bytearray, chunk: bytes) -> int | None:
    data = before + chunk
    start = data.find(b'["welcome"')
    end = data.find(b"}]", start)
    return None if min(start, end) < 0 else end + 2 - len(before)


class Trap:
    """Waits for a place in what passes in one direction, over whichever connection it is, and cuts that one there."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._rule: Rule | None = None
        self._direction: Direction = "down"
        self._cuts = True
        self._sprung: asyncio.Future[Link]
        for link in proxy.open_links:
            self._watch(link)
        proxy.on_connect = self._watch

    def arm(self, direction: Direction, rule: Rule, *, cuts: bool = True) -> None:
        """Cut at the next place that `rule` names; without `cuts`, only wait for it."""
        self._rule, self._direction, self._cuts = rule, direction, cuts
        self._sprung = asyncio.get_running_loop().create_future()

    async def sprung(self) -> Link:
        """Wait for that place; returns the connection, which has been cut if it was to be."""
        async with asyncio.timeout(10):
            link = await self._sprung
            if self._cuts:
                await link.ended()
        return link

    def _watch(self, link: Link) -> None:
        link.down.cut_when(lambda before, chunk: self._place(link, "down", before, chunk))
        link.up.cut_when(lambda before, chunk: self._place(link, "up", before, chunk))

    def _place(self, link: Link, direction: Direction, before: bytearray, chunk: bytes) -> int | None:
        if self._rule is None or direction != self._direction:
            return None
        place = self._rule(before, chunk)
        if place is None:
            return None
        self._rule = None
        self._sprung.set_result(link)
        return place if self._cuts else None
