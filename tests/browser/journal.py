"""What has happened, in order, for tests that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

#: Seconds to wait for something that takes milliseconds when all is well.
PATIENCE: Final = 10.0


class Journal:
    """Notes under names; whoever waits for one is woken by it."""

    def __init__(self) -> None:
        self._notes: dict[str, list[Any]] = {}
        self._changed = asyncio.Event()

    def note(self, name: str, value: Any = None) -> None:
        """Write down that something has happened."""
        self._notes.setdefault(name, []).append(value)
        self._changed.set()

    def __getitem__(self, name: str) -> list[Any]:
        """All values that have been noted under a name, oldest first."""
        return self._notes.get(name, [])

    async def wait(self, name: str, count: int = 1, timeout: float = PATIENCE) -> list[Any]:
        """Wait until there are `count` notes under a name; returns all there are.

        Raises:
            AssertionError: there are not in time.
        """
        await self.until(lambda: len(self[name]) >= count, f"{count} of {name!r}", timeout)
        return self[name]

    async def until(self, true: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
        """Wait until something is true; it is looked at whenever something has been noted.

        Raises:
            AssertionError: it is not in time; with `what` in the text.
        """
        try:
            async with asyncio.timeout(timeout):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            last = {name: (len(values), values[-1]) for name, values in self._notes.items()}
            raise AssertionError(f"no {what} in {timeout:g} s; noted (how many, the last): {last!r:.2000}") from None
