"""Receipts: the answers to a push of qos 2."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple

from .broker import Answer
from .private import private


@private
class Ack(NamedTuple):
    """One page's answer: `value` is what its delegate returned, or with `ok` False the `RemoteError` it threw."""

    page_id: str
    ok: bool
    value: Any


class Receipt:
    """The answers to a push of qos 2, as they come: one from each document that got it.

    Let go of the receipt, and answers that come later are confirmed to their pages and forgotten.

    Attributes:
        siblings: all receipts of the same channel that are held. Each holds the set, which ends with the last of them.
    """

    def __init__(self, receipt_id: int, channel: str, siblings: weakref.WeakSet[Receipt]) -> None:
        self.id = receipt_id
        self.channel = channel
        self.siblings = siblings
        siblings.add(self)
        self._acks: list[Ack] = []
        self._documents: set[str] = set()
        self._more = asyncio.Event()
        self._gone = False

    async def wait(self, count: int = 1, timeout: float = 10.0) -> list[Ack]:
        """Wait for `count` answers, at most `timeout` seconds; returns those that came in time, in order."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while len(self._acks) < count and not self._gone:
                    self._more.clear()
                    await self._more.wait()
        return self._acks[:count]

    async def __aiter__(self) -> AsyncIterator[Ack]:
        """Every answer, without end: leave the loop, or put a timeout around it."""
        seen = 0
        while True:
            while seen < len(self._acks):
                seen += 1
                yield self._acks[seen - 1]
            self._more.clear()
            await self._more.wait()

    @property
    def gone(self) -> bool:
        """Whether the only page that could answer has ended."""
        return self._gone

    def add(self, answer: Answer) -> bool:
        """Take an answer; False when this document has answered already, or was never asked."""
        if self.channel not in answer.channels or answer.document in self._documents:
            return False
        self._documents.add(answer.document)
        self._acks.append(Ack(answer.page_id, answer.ok, answer.value))
        self._more.set()
        return True

    def give_up(self) -> None:
        """The page that was asked has ended."""
        self._gone = True
        self._more.set()


class Receipts:
    """The receipts that somebody holds still."""

    def __init__(self) -> None:
        self._receipts: weakref.WeakValueDictionary[int, Receipt] = weakref.WeakValueDictionary()
        self._channels: weakref.WeakValueDictionary[str, weakref.WeakSet[Receipt]] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._receipts)

    def get(self, receipt_id: int) -> Receipt | None:
        """The receipt of that id, if it is held."""
        return self._receipts.get(receipt_id)

    def of_channel(self, channel: str) -> list[Receipt]:
        """Those of the pushes to a channel."""
        return list(self._channels.get(channel, ()))

    def make(self, receipt_id: int, channel: str) -> Receipt:
        """The receipt of that id, a new one unless it is held."""
        receipt = self._receipts.get(receipt_id)
        if receipt is None:
            siblings = self._channels.get(channel)
            if siblings is None:
                siblings = self._channels[channel] = weakref.WeakSet()
            receipt = self._receipts[receipt_id] = Receipt(receipt_id, channel, siblings)
        return receipt
