"""What asyncio leaves to its users: whose cancellation it is, and a time limit for many."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


def is_own_end(error: BaseException) -> bool:
    """Whether the running task is being cancelled, and not something that it has waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


class TimeLimit:
    """Ends what runs for too long, as `asyncio.timeout` does, for many short pieces of work with one limit.

    They run out in the order in which they began, so that one timer, for the oldest, serves them all; one that ends in
    time costs an entry in a dict, a tenth of a timer of its own.

        with limit.watch() as watched:
            await work()

    raises TimeoutError out of the `with` when the work is stopped, and `watched.expired` is True then.
    """

    __slots__ = ("_running", "_timer", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: dict[Watched, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> Watched:
        """Watch what the current task does within a `with`."""
        return Watched(self)

    def _begin(self, watched: Watched) -> None:
        loop = asyncio.get_running_loop()
        watched.deadline = loop.time() + self.seconds
        self._running[watched] = None
        if self._timer is None:
            self._timer = loop.call_at(watched.deadline, self._look)

    def _end(self, watched: Watched) -> None:
        self._running.pop(watched, None)

    def _look(self) -> None:
        """Stop what has run out; look again when the oldest of the others does."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._running:
            oldest = next(iter(self._running))
            if oldest.deadline > loop.time():
                self._timer = loop.call_at(oldest.deadline, self._look)
                return
            del self._running[oldest]
            oldest.stop()


class Watched:
    """One piece of work under a time limit."""

    __slots__ = ("_cancelling", "_limit", "_task", "deadline", "expired")

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self.deadline = 0.0
        self.expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # the work is awaited, so a task runs it
        self._task = task
        self._cancelling = task.cancelling()
        self._limit._begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit._end(self)
        # Somebody else may have cancelled the task as well: then it is to end.
        if self.expired and self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def stop(self) -> None:
        """The time is over."""
        self.expired = True
        self._task.cancel()
