"""Receipts: the answers to a push of qos 2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple

from .broker import Answer


class Ack(NamedTuple):
    """One page's answer: `value` is what its delegate returned, or with `ok` False the `RemoteError` it threw."""

    page_id: str
    ok: bool
    value: Any


class Receipt:
    """The answers to a push of qos 2, as they come: one from each document that got it.

    Let go of the receipt, and answers that come later are confirmed to their pages and forgotten.
    """

    def __init__(self, receipt_id: int, channel: str) -> None:
        self.id = receipt_id
        self.channel = channel
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
