"""How fast a page may speak: token buckets, each kept as one number."""

from __future__ import annotations

from typing import Final

#: Buckets that may be kept before those that are full are let go for the first time.
FEW: Final = 1000


class Bucket:
    """A token bucket as its generic cell rate algorithm (ITU-T I.371, annex A): when it will be full again says all.

    Attributes:
        full_at: the time by which every token will have come back.
    """

    __slots__ = ("full_at",)

    def __init__(self) -> None:
        self.full_at = 0.0

    def take(self, now: float, rate: float, burst: int) -> bool:
        """Take one token; False when there is none.

        Arguments:
            now: seconds of a clock that does not go back.
            rate: tokens that come back each second.
            burst: tokens that a full bucket has.
        """
        full_at = max(self.full_at, now) + 1 / rate
        if full_at > now + burst / rate:
            return False
        self.full_at = full_at
        return True


class Buckets:
    """The buckets of all pages, by their ids: a page that comes on another connection has its bucket with it.

    A bucket that is full again is as good as a new one, so those are let go, whenever there are twice as many as were
    left the time before.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._most = FEW

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, page_id: str, now: float) -> Bucket:
        """The bucket of a page."""
        bucket = self._buckets.get(page_id)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._let_go(now)
            bucket = self._buckets[page_id] = Bucket()
        return bucket

    def _let_go(self, now: float) -> None:
        self._buckets = {page_id: bucket for page_id, bucket in self._buckets.items() if bucket.full_at > now}
        self._most = max(FEW, 2 * len(self._buckets))
