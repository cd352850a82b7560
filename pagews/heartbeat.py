"""One wheel of pings for all pages of a process.

Pages are spread over the slots of the wheel; each turn pings one slot. Silence is counted in turns of the wheel and not
in seconds: while the event loop is blocked the wheel stands still, and nobody is silent when it wakes.
"""

from __future__ import annotations

from collections.abc import Iterable

from .page import PageSession


class Heartbeat:
    """Who is to be pinged, and who has been silent for one and a half intervals.

    Arguments:
        slots: turns of the wheel in one interval.
    """

    __slots__ = ("_slots", "_turn")

    def __init__(self, slots: int) -> None:
        self._slots: list[set[PageSession]] = [set() for _ in range(max(2, slots))]
        self._turn = 0

    def add(self, page: PageSession) -> None:
        """`page` will be pinged one interval from now."""
        page.slot = self._turn % len(self._slots)
        page.heard = self._turn
        self._slots[page.slot].add(page)

    def remove(self, page: PageSession) -> None:
        """`page` is not pinged any more."""
        self._slots[page.slot].discard(page)

    def heard(self, page: PageSession) -> None:
        """The script of `page` has given a sign of life."""
        page.heard = self._turn

    def turn(self) -> tuple[Iterable[PageSession], Iterable[PageSession]]:
        """Turn the wheel by one slot: the pages to ping now, and the pages that have been silent for too long."""
        self._turn += 1
        interval = len(self._slots)
        half = interval // 2
        due = self._slots[self._turn % interval]
        # Pinged half an interval ago, and the whole interval before that: it has answered neither.
        unheard = self._turn - half - interval
        silent = [page for page in self._slots[(self._turn - half) % interval] if page.heard <= unheard]
        return tuple(due), silent
