"""The log: numbers, retention, and proofs. The numbers in names are those of the rules."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from pagews.log import Log


class Item(NamedTuple):
    """Something to file."""

    seq: int
    size: int = 10


class Filing(Log[Item]):
    """A log with short bounds, to which tests write by channel."""

    def __init__(self, **bounds: int) -> None:
        limits = {"channel_entries": 100, "channel_bytes": 10_000, "total_bytes": 100_000} | bounds
        super().__init__(
            "e",
            retention=10.0,
            channel_entries=limits["channel_entries"],
            channel_bytes=limits["channel_bytes"],
            total_bytes=limits["total_bytes"],
        )

    def put(self, channel: str, *, now: float = 0.0, size: int = 10, ttl: float | None = None) -> int:
        return self.append(channel, lambda seq: Item(seq, size), now, ttl).seq

    def after(self, cursor: int, *channels: str, now: float = 0.0, limit: int = 10**9) -> list[int] | str:
        replay = self.read("e", dict.fromkeys(channels, cursor), now, limit)
        return replay.lost or [message.seq for message in replay.messages]


def test_numbers_rise_by_acceptance_over_all_channels() -> None:
    log = Filing()
    assert [log.put(channel) for channel in "abab"] == [1, 2, 3, 4]
    assert log.head == 4
    assert (len(log), log.count, log.size) == (2, 4, 40)


def test_reading_on_from_a_cursor() -> None:
    log = Filing()
    for channel in "abcab":
        log.put(channel)
    assert log.after(0, "a", "b") == [1, 2, 4, 5]
    assert log.after(2, "a", "b") == [4, 5]
    assert log.after(5, "a", "b") == []
    assert log.after(0, "nobody") == []
    assert log.read("e", {"a": 0, "b": 4}, 0.0, 10**9).upto == 5


def test_what_cannot_be_numbered_takes_no_number() -> None:
    log = Filing()

    def fail(seq: int) -> Item:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        log.append("a", fail, 0.0)
    assert (log.head, log.count) == (0, 0)


def test_rule_1_another_epoch_or_a_cursor_above_the_head() -> None:
    log = Filing()
    log.put("a")
    assert log.read("other", {"a": 0}, 0.0, 100).lost == "epoch"
    assert log.after(2, "a") == "epoch"
    assert log.read("other", {"a": 0}, 0.0, 100).upto == 1


def test_rule_1_the_watermark_comes_before_the_chain() -> None:
    log = Filing()
    log.put("a", now=0.0)
    log.tick(0.0)
    log.tick(10.0)  # age takes the entry, and with it the channel: the next entry has prev 0 again
    log.put("a", now=10.0)
    assert log.watermark == 2
    assert log.after(0, "a", now=10.0) == "expired"
    assert log.after(1, "a", now=10.0) == "expired"
    assert log.after(2, "a", now=10.0) == [4]


def test_rule_1_a_gap_in_the_chain_is_trimmed() -> None:
    log = Filing(channel_entries=2)
    for _ in range(4):
        log.put("a")
    assert log.after(0, "a") == "trimmed"
    assert log.after(1, "a") == "trimmed"
    assert log.after(2, "a") == [3, 4]
    assert log.after(0, "b") == []
    assert log.trimmed == 2


def test_rule_2_a_channel_keeps_its_last_entry() -> None:
    log = Filing(channel_bytes=50)
    log.put("a")
    log.put("a", size=1000)
    assert log.after(1, "a") == [2]
    assert log.after(0, "a") == "trimmed"
    log.put("a")
    assert log.after(2, "a") == [3]


def test_rule_2_the_bound_of_all_raises_the_watermark() -> None:
    log = Filing(total_bytes=100)
    for second in range(12):
        log.put(f"c{second}", now=second)
        log.tick(second)
    assert log.size <= 100
    assert log.watermark > 0
    assert log.after(0, "c0", now=12.0) == "expired"
    assert log.after(log.watermark, "c11", now=12.0) == [23]
    assert log.trimmed == 2


def test_rule_2_one_message_above_the_bound_of_all_goes_at_once() -> None:
    log = Filing(total_bytes=100)
    log.put("a", size=101)
    assert (log.size, log.count, len(log)) == (0, 0, 0)
    assert log.after(0, "a") == "expired"


def test_rule_3_age_takes_the_oldest_first_and_nothing_younger() -> None:
    log = Filing()
    log.put("a", now=0.0)
    log.tick(1.0)
    log.put("a", now=1.0)
    log.tick(2.0)
    log.tick(11.0)
    assert log.watermark == 2
    assert log.after(2, "a", now=11.0) == [3]
    log.tick(12.0)
    assert log.watermark == 4
    assert len(log) == 0


def test_rule_5_a_read_that_is_limited_ends_at_one_number_for_all_channels() -> None:
    log = Filing()
    for channel in "aaabbb":
        log.put(channel)
    replay = log.read("e", {"a": 0, "b": 0}, 0.0, 40)
    assert ([message.seq for message in replay.messages], replay.upto, replay.more) == ([1, 2, 3, 4], 4, True)
    replay = log.read("e", {"a": 4, "b": 4}, 0.0, 40)
    assert ([message.seq for message in replay.messages], replay.upto, replay.more) == ([5, 6], 6, False)


def test_rule_5_a_read_moves_on_even_when_one_entry_is_above_the_limit() -> None:
    log = Filing()
    log.put("a", size=1000)
    log.put("a", size=1000)
    replay = log.read("e", {"a": 0}, 0.0, 1)
    assert ([message.seq for message in replay.messages], replay.upto, replay.more) == ([1], 1, True)


def test_rule_6_time_takes_numbers_on_a_quiet_log() -> None:
    log = Filing()
    for second in range(30):
        log.tick(second)
    assert log.head == 30
    assert log.after(log.head, "a", now=30.0) == []
    assert log.after(5, "a", now=30.0) == "expired"


def test_ttl_leaves_a_message_out_and_is_no_loss() -> None:
    log = Filing()
    log.put("a", ttl=2.0)
    log.put("a")
    assert log.after(0, "a", now=1.0) == [1, 2]
    assert log.after(0, "a", now=2.0) == [2]
    size = log.size
    log.tick(2.0)
    assert log.size == size - 10
    assert log.count == 2
    assert log.after(0, "a", now=2.0) == [2]


def test_ttl_of_a_message_that_is_gone_already() -> None:
    log = Filing(channel_entries=1)
    log.put("a", ttl=2.0)
    log.put("a")
    log.tick(5.0)
    log.tick(50.0)
    log.put("a", now=50.0)
    log.tick(50.0)
    assert (log.size, log.count) == (10, 1)
