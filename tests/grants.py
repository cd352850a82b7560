"""What pages were let listen to, noted beside the broker when it is asked: nothing here is read from its records."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass
class Grant:
    """A page listens to a topic: to numbers above `since`, up to `until` if it has ended."""

    topic: str
    since: int
    until: int | None = None


class Grants:
    """By page, every grant that it has had."""

    def __init__(self) -> None:
        self._pages: dict[str, list[Grant]] = {}

    def __contains__(self, page_id: str) -> bool:
        return page_id in self._pages

    def begin(self, page_id: str, rendered: Collection[str], head: int) -> None:
        """A page begins, or begins anew: with the topics that it was rendered with."""
        self._end(page_id, self.listens(page_id), head)
        self._pages.setdefault(page_id, []).extend(Grant(topic, 0) for topic in rendered)

    def change(self, page_id: str, add: Collection[str], remove: Collection[str], head: int) -> None:
        """A page joins and leaves topics: what is above `head` is for it, or not any more."""
        self._pages[page_id] += [Grant(topic, head) for topic in set(add) - self.listens(page_id).keys()]
        self._end(page_id, remove, head)

    def fork(self, page_id: str, other: str, topics: Collection[str], asked: int) -> None:
        """A page is made from another one, with topics that the other has had at some time above `asked`."""
        self._pages[page_id] = [
            Grant(grant.topic, grant.since)
            for grant in self._pages[other]
            if grant.topic in topics and (grant.until is None or grant.until >= asked)
        ]

    def listens(self, page_id: str) -> dict[str, int]:
        """What a page listens to now, each with the number since when."""
        return {grant.topic: grant.since for grant in self._pages.get(page_id, ()) if grant.until is None}

    def has(self, page_id: str, topic: str, seq: int) -> bool:
        """Whether what has that number on a topic is for a page."""
        return any(
            grant.topic == topic and grant.since < seq and (grant.until is None or seq <= grant.until)
            for grant in self._pages.get(page_id, ())
        )

    def _end(self, page_id: str, topics: Collection[str], head: int) -> None:
        for grant in self._pages.get(page_id, ()):
            if grant.until is None and grant.topic in topics:
                grant.until = head
