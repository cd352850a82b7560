"""Tasks that run for a page: they end when it is gone, or when the process stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from .broker import Broker
from .counters import Counters
from .errors import BrokerUnavailable, PageGone
from .tasks import is_own_end

logger = logging.getLogger("pagews")

T = TypeVar("T")


class PageTasks:
    """The tasks of one process, by page.

    Arguments:
        grace: seconds that they have to end when the process stops.
    """

    def __init__(self, broker: Broker, counters: Counters, grace: float) -> None:
        self._broker = broker
        self._counters = counters
        self._grace = grace
        self._tasks: dict[str, set[asyncio.Task[Any]]] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._closed = False

    def create(self, page_id: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` for a page.

        Raises:
            TypeError: `work` is no coroutine.
        """
        if not asyncio.iscoroutine(work):
            raise TypeError(f"create_task() takes a coroutine, such as work(page), not {type(work).__name__}")
        name = getattr(work, "__qualname__", type(work).__name__)
        task = asyncio.create_task(self._run(page_id, name, work), name=name)
        self._tasks.setdefault(page_id, set()).add(task)
        task.add_done_callback(partial(self._done, page_id, work))
        if self._closed:
            task.cancel()
        return task

    def end(self, page_id: str) -> None:
        """The page has ended: cancel what runs for it."""
        for task in self._tasks.get(page_id, ()):
            task.cancel()

    def look_again(self) -> None:
        """It may have been missed that pages have ended."""
        for page_id in self._tasks:
            looking = asyncio.create_task(self._end_if_gone(page_id))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    async def _end_if_gone(self, page_id: str) -> None:
        with suppress(BrokerUnavailable):  # then it looks again when the broker is back
            # What ended before this node hears again is known to the broker, what ends later it is told.
            await self._broker.current()
            if await self._broker.is_gone(page_id):
                self.end(page_id)

    def close(self) -> None:
        """The process is about to stop: cancel everything, and what is created from now on at once."""
        self._closed = True
        for page_id in self._tasks:
            self.end(page_id)

    async def wait_closed(self) -> None:
        """Wait until all have ended, for at most the grace."""
        running = {task for tasks in self._tasks.values() for task in tasks}
        if not running:
            return
        _, stuck = await asyncio.wait(running, timeout=self._grace)
        if stuck:
            logger.warning("tasks of pages still run %g s after they were cancelled: left alone", self._grace)
            self._counters.dropped["tasks at drain"] += len(stuck)

    async def _run(self, page_id: str, name: str, work: Coroutine[Any, Any, T]) -> T:
        begun = False
        try:
            # The record is what says when the page has ended, so that a task for a page nobody ever opens ends too.
            await self._broker.keep(page_id)
            begun = True
            return await work
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, PageGone) and not begun:
                self._counters.refused["task"] += 1
            elif not is_own_end(error):
                self._counters.failed["task"] += 1
                logger.error("task %r of a page failed", name, exc_info=error)
            raise

    def _done(self, page_id: str, work: Coroutine[Any, Any, Any], task: asyncio.Task[Any]) -> None:
        tasks = self._tasks[page_id]
        tasks.discard(task)
        if not tasks:
            del self._tasks[page_id]
        work.close()  # it may not have begun
        if not task.cancelled():
            task.exception()  # it has been logged, and asyncio need not do it again
