"""What a page asks of the server, done one after the other in a task of its own: never in the receive loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from .socket import Socket
from .wire import Message

Job = Callable[[], Awaitable[Message | None]]


class Inbox:
    """The jobs of one document, by the ids that it gave them.

    A job that is waiting or running is not taken again: the browser repeats it after a cut, and its answer goes to
    whichever socket the document has by then.

    Attributes:
        asker: the socket that has asked last.

    Arguments:
        answer: writes a message to the socket that the document has now, if any; True: no other job waits behind it.
        bound, size_bound: how many jobs may wait, and of how many bytes.
        idle: called when nothing is left to do.
    """

    __slots__ = ("_answer", "_bound", "_bytes", "_idle", "_jobs", "_size", "_task", "_waiting", "asker")

    def __init__(
        self, answer: Callable[[Message, bool], None], bound: int, size_bound: int, idle: Callable[[], object]
    ) -> None:
        self._answer = answer
        self._bound = bound
        self._bytes = size_bound
        self._size = 0
        self._idle = idle
        self._waiting: set[int] = set()
        self._jobs: deque[tuple[int, int, Job]] = deque()
        self._task: asyncio.Task[None] | None = None
        self.asker: Socket | None = None

    def submit(self, job_id: int, job: Job, size: int = 0) -> bool:
        """Take a job; False when too many wait. `size`: the bytes that it keeps while it waits."""
        if job_id in self._waiting:
            return True
        if len(self._jobs) >= self._bound or (self._jobs and self._size + size > self._bytes):
            return False
        self._waiting.add(job_id)
        self._size += size
        self._jobs.append((job_id, size, job))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return True

    async def _run(self) -> None:
        try:
            while self._jobs:
                job_id, size, job = self._jobs.popleft()
                self._size -= size
                message = await job()
                self._waiting.discard(job_id)
                if message is not None:
                    self._answer(message, not self._jobs)
        finally:
            self._task = None
            self._idle()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call `callback` once nothing is left to do."""
        if self._task is None:
            callback()
        else:
            self._task.add_done_callback(lambda task: callback())

    async def done(self) -> None:
        """Wait until nothing is left to do."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Cancel what runs and forget what waits."""
        self._jobs.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
