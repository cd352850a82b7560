"""One wait that many share, and each may give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class SharedWait:
    """Waits for something on behalf of everybody who awaits it.

    aiohttp has one future for all who wait until a connection has drained: one that gives up on it directly would end
    the wait of every other, the next ones included. So one task waits on it, which those who give up leave to others.

    Arguments:
        wait: what to wait for; begun anew when nobody waits yet.
    """

    __slots__ = ("_task", "_wait")

    def __init__(self, wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._wait = wait
        self._task: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Raises what the wait does."""
        if self._task is None:
            self._task = asyncio.create_task(self._wait())
            self._task.add_done_callback(self._done)
        await asyncio.shield(self._task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # whoever waits is told of it; if nobody does any more, asyncio need not complain
