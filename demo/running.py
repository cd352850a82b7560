"""Work that goes on behind a page while its delegate has long answered."""

import asyncio
from collections.abc import Coroutine

import pagews


class PageTasks:
    """At most one task a page and ``limit`` in all; none outlives the application or a page that is gone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, page: pagews.Page, work: Coroutine[None, None, None]) -> None:
        """Runs ``work`` in place of what runs for the page; raises `DelegateError` ``busy`` at the limit."""
        self.stop(page.id)
        if len(self._tasks) >= self.limit:
            work.close()
            raise pagews.DelegateError("busy", "Too many others do this just now. Try again in a moment.")
        task = page.create_task(work)
        self._tasks[page.id] = task
        task.add_done_callback(lambda done: self._forget(page.id, done))

    def stop(self, page_id: str) -> bool:
        """Cancels what runs for the page; False when nothing does."""
        task = self._tasks.pop(page_id, None)
        return task is not None and task.cancel()

    def _forget(self, page_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(page_id) is task:
            del self._tasks[page_id]
