"""Sends of qos 2: which a document has claimed, and what came out of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .wire import Message

#: Bytes that a result counts among those of all pages beside its message, so that many small ones have a bound too.
RESULT_SIZE: Final = 200


class Sends:
    """The sends that one document has claimed, in that order. What is kept of them changes by `Results` alone.

    Attributes:
        results: each with its result, None while there is none or once it is not kept any more.
        size: bytes of the results that are kept.
        forgotten: the highest of those that were claimed and are in `results` no more; 0 if there is none.
    """

    __slots__ = ("forgotten", "results", "size")

    def __init__(self) -> None:
        self.results: OrderedDict[int, Message | None] = OrderedDict()
        self.size = 0
        self.forgotten = 0

    def knows(self, send_id: int) -> bool:
        """Whether a send was claimed, or may have been."""
        # One from before the newest that was forgotten may have been forgotten too: it must not run again.
        return send_id in self.results or send_id <= self.forgotten


class Results:
    """Keeps the results of all documents within bounds: the oldest goes first.

    Arguments:
        count, document_bytes: claims of one document, and bytes of its results. Beyond that the claim is forgotten too.
        total_bytes: of the results of all documents, and `RESULT_SIZE` for each. Beyond that the claim stays.
        dropped: called for each result that a bound has cost.
    """

    def __init__(self, count: int, document_bytes: int, total_bytes: int, dropped: Callable[[], object]) -> None:
        self._count = count
        self._document_bytes = document_bytes
        self._total_bytes = total_bytes
        self._dropped = dropped
        self._kept: OrderedDict[tuple[Sends, int], None] = OrderedDict()
        self._size = 0

    def claim(self, sends: Sends, send_id: int) -> None:
        """A send that `sends` does not know is about to run."""
        if len(sends.results) >= self._count:
            self._forget_oldest(sends)
        sends.results[send_id] = None

    def keep(self, sends: Sends, send_id: int, result: Message) -> None:
        """Keep what came out of a send that was claimed; one that is forgotten already stays so."""
        if send_id not in sends.results:
            return
        size = len(result.frame)
        sends.results[send_id] = result
        sends.size += size
        self._kept[sends, send_id] = None
        self._size += RESULT_SIZE + size
        while sends.size > self._document_bytes and len(sends.results) > 1:
            self._forget_oldest(sends)
        while self._size > self._total_bytes:
            self._let_go(*next(iter(self._kept)))
            self._dropped()

    def let_go(self, sends: Sends) -> None:
        """Nobody will ask for the results of a document any more: what was claimed stays so, without them."""
        for send_id in sends.results:
            self._let_go(sends, send_id)

    def _forget_oldest(self, sends: Sends) -> None:
        send_id = next(iter(sends.results))
        if self._let_go(sends, send_id):
            self._dropped()
        del sends.results[send_id]
        sends.forgotten = max(sends.forgotten, send_id)

    def _let_go(self, sends: Sends, send_id: int) -> bool:
        """Whether there was a result."""
        result = sends.results[send_id]
        if result is None:
            return False
        size = len(result.frame)
        sends.results[send_id] = None
        sends.size -= size
        del self._kept[sends, send_id]
        self._size -= RESULT_SIZE + size
        return True
