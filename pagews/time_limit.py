"""Time limits that a loop which stood still does not make shorter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

#: Seconds by which a timer may be late before the loop is held to have stood still.
LATE: Final = 0.05
#: Seconds that are given once to what ran out while the loop stood still.
RESPITE: Final = 1.0


def _last_look(deadline: float) -> float:
    """When to judge what has run out, at the earliest after one more pass of the loop: what it waits for may have come
    already, and lie where the loop has not looked yet.
    """
    now = asyncio.get_running_loop().time()
    return now + RESPITE if now - deadline > LATE else now


class Countdown:
    """Calls back after a time, unless it is cancelled before. For one thing that waits in no task of its own."""

    __slots__ = ("_callback", "_timer")

    def __init__(self, seconds: float, callback: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        self._callback = callback
        deadline = loop.time() + seconds
        self._timer = loop.call_at(deadline, self._ran_out, deadline)

    def cancel(self) -> None:
        """It need not call back any more."""
        self._timer.cancel()

    def _ran_out(self, deadline: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(_last_look(deadline), self._callback)


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
        """Judge what has run out, a pass of the loop later; look again when the oldest of the others does."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for oldest in self._running:
            if oldest.deadline > loop.time():
                self._timer = loop.call_at(oldest.deadline, self._look)
            else:
                self._timer = loop.call_at(_last_look(oldest.deadline), self._stop, loop.time())
            return

    def _stop(self, expired: float) -> None:
        """Stop what had run out by the time `expired`."""
        for watched in tuple(self._running):
            if watched.deadline > expired:
                break
            del self._running[watched]
            watched.stop()
        self._look()


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
