"""Token buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagews.rate import FEW, Bucket, Buckets

RATE = 10.0
BURST = 5


def test_a_full_bucket_has_its_burst() -> None:
    bucket = Bucket()

    assert [bucket.take(100.0, RATE, BURST) for _ in range(BURST + 1)] == [True] * BURST + [False]


def test_tokens_come_back_with_time() -> None:
    bucket = Bucket()
    while bucket.take(100.0, RATE, BURST):
        pass

    assert not bucket.take(100.05, RATE, BURST)
    assert bucket.take(100.11, RATE, BURST)
    assert not bucket.take(100.11, RATE, BURST)
    assert [bucket.take(200.0, RATE, BURST) for _ in range(BURST + 1)] == [True] * BURST + [False]


def test_what_was_refused_costs_nothing() -> None:
    bucket = Bucket()
    while bucket.take(100.0, RATE, BURST):
        pass
    for _ in range(1000):
        bucket.take(100.0, RATE, BURST)

    assert bucket.take(100.11, RATE, BURST)


@given(st.lists(st.floats(0.0, 1.0), max_size=200))
def test_never_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    bucket, now, taken = Bucket(), 100.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now, RATE, BURST)

    assert taken <= BURST + RATE * (now - 100.0) + 1e-6


def test_a_page_has_its_bucket_on_every_connection() -> None:
    buckets = Buckets()
    bucket = buckets.of("page", 100.0)
    bucket.take(100.0, RATE, BURST)

    assert buckets.of("page", 100.0) is bucket
    assert buckets.of("other", 100.0) is not bucket


@pytest.mark.parametrize(("later", "kept"), [(0.05, FEW), (0.2, 0)])
def test_full_buckets_are_let_go(later: float, kept: int) -> None:
    buckets = Buckets()
    for number in range(FEW):
        buckets.of(f"page-{number}", 100.0).take(100.0, RATE, BURST)

    buckets.of("one more", 100.0 + later)

    assert len(buckets) == kept + 1
