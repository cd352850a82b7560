"""What happened, counted: one counter for every refusal and every bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple


class Statistics(NamedTuple):
    """A snapshot of one process, from `publisher.statistics()`. Counters count from the start of the process.

    Attributes:
        attached: pages that have a socket now.
        sockets: sockets open now, bare ones included.
        channels, entries, bytes: what the log holds now.
        trimmed: entries that a bound of the log has removed before their age did.
        pushed: pushes accepted. `delivered`: messages handed to sockets, replays included.
        replayed: messages that a page read from the log. `lost`: pages told `lost`, by reason.
        sent: messages received from browsers.
        refused: what was turned away, by reason. `dropped`: what a bound has cost, by reason.
        failed: exceptions in the application's code, by the place. `closed`: sockets closed by the server, by code.
    """

    attached: int
    sockets: int
    channels: int
    entries: int
    bytes: int
    trimmed: int
    pushed: int
    delivered: int
    replayed: int
    lost: Mapping[str, int]
    sent: int
    refused: Mapping[str, int]
    dropped: Mapping[str, int]
    failed: Mapping[str, int]
    closed: Mapping[int, int]


class Counters:
    """The counters of one process. They only rise, but for `sockets`."""

    __slots__ = ("closed", "delivered", "dropped", "failed", "lost", "pushed", "refused", "replayed", "sent", "sockets")

    def __init__(self) -> None:
        self.sockets = 0
        self.pushed = 0
        self.delivered = 0
        self.replayed = 0
        self.sent = 0
        self.lost: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()
