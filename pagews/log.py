"""The log: numbering, retention, and reading on from a cursor.

The rules are those of `docs/explanation/delivery.md`; their numbers stand in the comments. No clock in here: `now` is
an argument, in seconds of a clock that never goes back.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from .private import private


class Fileable(Protocol):
    """What can be filed: it knows its number and its bytes."""

    @property
    def seq(self) -> int: ...

    @property
    def size(self) -> int: ...


M = TypeVar("M", bound=Fileable)

Lost = Literal["epoch", "expired", "trimmed"]


@private
class Entry(Struct, Generic[M], eq=False, gc=False):
    """A number with its message. `prev` is the number before it on the same channel, 0 when there was none.

    `message` is None once its own time to live has run out: the number stays until its age takes it. (Entries refer to
    nothing that refers back, so the garbage collector need not look at them, and there are many.)
    """

    seq: int
    prev: int
    channel: str
    message: M | None
    size: int
    deadline: float | None

    def expired(self, now: float) -> bool:
        """Whether its own time to live has run out."""
        return self.deadline is not None and self.deadline <= now


class Replay(NamedTuple, Generic[M]):
    """What a read found, by number. With `lost` there are no messages, and `upto` is where to go on from.

    `more`: the read was cut short at `upto`; read on from there.
    """

    lost: Lost | None
    messages: list[M]
    upto: int
    more: bool


@private
class Tick(NamedTuple):
    """A number that time took. `channels` had entries since the tick before."""

    seq: int
    time: float
    channels: set[str]


@dataclass(slots=True)
class _Channel(Generic[M]):
    entries: deque[Entry[M]] = field(default_factory=deque)
    size: int = 0


class Log(Generic[M]):
    """One totally ordered log of messages, filed by channel.

    Arguments:
        epoch: the identity of this log; a cursor of another one proves nothing.
        retention: seconds that an entry is kept.
        channel_entries, channel_bytes: what one channel keeps at most; its last entry always stays (rule 2).
        total_bytes: what all channels keep at most; the oldest goes first, and takes the watermark along (rule 2).

    Attributes:
        head: the highest number that was given out.
        watermark: the highest number that age has taken; it only rises.
        size: bytes filed now. `count`: entries filed now. `trimmed`: entries that a bound has removed, ever.
    """

    def __init__(
        self, epoch: str, *, retention: float, channel_entries: int, channel_bytes: int, total_bytes: int
    ) -> None:
        self.epoch = epoch
        self.head = 0
        self.watermark = 0
        self.size = 0
        self.count = 0
        self.trimmed = 0
        self._retention = retention
        self._channel_entries = channel_entries
        self._channel_bytes = channel_bytes
        self._total_bytes = total_bytes
        self._channels: dict[str, _Channel[M]] = {}
        self._ticks: deque[Tick] = deque()
        self._touched: set[str] = set()
        self._deadlines: list[tuple[float, int, Entry[M]]] = []

    def __len__(self) -> int:
        """How many channels have entries."""
        return len(self._channels)

    def append(self, channel: str, make: Callable[[int], M], now: float, ttl: float | None = None) -> M:
        """Number and file a message: `make` gets the number. `ttl` is its own time to live, in seconds.

        Returns the message, which is to be handed out even if the bounds have taken it out of the log at once.
        """
        seq = self.head + 1
        message = make(seq)
        size = message.size
        self.head = seq
        filed = self._channels.get(channel)
        if filed is None:
            filed = self._channels[channel] = _Channel()
        prev = filed.entries[-1].seq if filed.entries else 0
        deadline = None if ttl is None or ttl >= self._retention else now + ttl
        entry = Entry(seq, prev, channel, message, size, deadline)
        filed.entries.append(entry)
        filed.size += size
        self.size += size
        self.count += 1
        self._touched.add(channel)
        if entry.deadline is not None:
            heapq.heappush(self._deadlines, (entry.deadline, seq, entry))
        self._trim(filed)
        if self.size > self._total_bytes:
            self._shrink(now)
        return message

    def tick(self, now: float) -> int:
        """Let time take a number (rule 6), and age take what is older than the retention. Call it at a steady pace."""
        self._mark(now)
        self._empty_deadlines(now)
        while self._ticks and self._ticks[0].time <= now - self._retention:
            self._take_oldest_tick()
        return self.head

    def read(self, epoch: str, cursors: Mapping[str, int], now: float, limit: int) -> Replay[M]:
        """Everything on the channels after their cursors, by number, of about `limit` bytes at most.

        `resumed` is a proof: with `lost` None, nothing that was filed after the cursors is missing up to `upto`.
        """
        if epoch != self.epoch or any(cursor > self.head for cursor in cursors.values()):
            return Replay("epoch", [], self.head, False)
        # Rule 1: first the watermark; only above it does the chain of predecessors prove anything.
        if any(cursor < self.watermark for cursor in cursors.values()):
            return Replay("expired", [], self.head, False)
        found: list[Entry[M]] = []
        for channel, cursor in cursors.items():
            filed = self._channels.get(channel)
            if filed is None:
                continue
            first = None
            for entry in reversed(filed.entries):
                if entry.seq <= cursor:
                    break
                found.append(entry)
                first = entry
            if first is not None and first.prev > cursor:
                return Replay("trimmed", [], self.head, False)
        found.sort(key=lambda entry: entry.seq)
        # Rule 5: sorted by number before it is cut, so that the cut is at one number for all channels.
        size = 0
        for index, entry in enumerate(found):
            size += entry.size
            if size > limit and index > 0:
                return Replay(None, _unexpired(found[:index], now), found[index - 1].seq, True)
        return Replay(None, _unexpired(found, now), self.head, False)

    def _mark(self, now: float) -> None:
        self.head += 1
        self._ticks.append(Tick(self.head, now, self._touched))
        self._touched = set()

    def _trim(self, filed: _Channel[M]) -> None:
        entries = filed.entries
        while len(entries) > 1 and (len(entries) > self._channel_entries or filed.size > self._channel_bytes):
            self._remove_first(filed)
            self.trimmed += 1

    def _shrink(self, now: float) -> None:
        before = self.count
        while self.size > self._total_bytes:
            if not self._ticks:
                self._mark(now)
            self._take_oldest_tick()
        self.trimmed += before - self.count

    def _take_oldest_tick(self) -> None:
        tick = self._ticks.popleft()
        # Rule 3: the watermark rises before anything goes.
        self.watermark = tick.seq
        for channel in tick.channels:
            filed = self._channels.get(channel)
            if filed is None:
                continue
            while filed.entries and filed.entries[0].seq <= self.watermark:
                self._remove_first(filed)
            if not filed.entries:
                del self._channels[channel]

    def _remove_first(self, filed: _Channel[M]) -> None:
        entry = filed.entries.popleft()
        self.count -= 1
        self._release(filed, entry)

    def _empty_deadlines(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            entry = heapq.heappop(self._deadlines)[2]
            filed = self._channels.get(entry.channel)
            if filed is not None and entry.size:
                self._release(filed, entry)

    def _release(self, filed: _Channel[M], entry: Entry[M]) -> None:
        filed.size -= entry.size
        self.size -= entry.size
        entry.size = 0
        entry.message = None


def _unexpired(entries: list[Entry[M]], now: float) -> list[M]:
    return [entry.message for entry in entries if entry.message is not None and not entry.expired(now)]
