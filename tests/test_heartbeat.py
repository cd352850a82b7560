"""The wheel of pings."""

from __future__ import annotations

from pagews.heartbeat import Heartbeat
from pagews.page import PageSession


def page() -> PageSession:
    return PageSession(
        "p",
        session_id="s",
        user_id=None,
        topics={},
        document="d",
        attempt=1,
        epoch="e",
        position=0,
        since=0.0,
        held_limit=1,
        socket=None,
    )


def test_each_page_is_pinged_once_an_interval() -> None:
    wheel = Heartbeat(10)
    first, second = page(), page()
    wheel.add(first)
    for _ in range(3):
        wheel.turn()
    wheel.add(second)
    pinged = []
    for turn in range(4, 31):
        due, _ = wheel.turn()
        pinged += [(turn, one is first) for one in due]
        wheel.heard(first)
        wheel.heard(second)
    assert pinged == [(10, True), (13, False), (20, True), (23, False), (30, True)]


def test_silence_of_one_and_a_half_intervals() -> None:
    wheel = Heartbeat(10)
    one = page()
    wheel.add(one)
    silent_at = [turn for turn in range(1, 40) if one in wheel.turn()[1]]
    assert silent_at[0] == 15


def test_an_answer_to_each_ping_is_enough() -> None:
    wheel = Heartbeat(10)
    one = page()
    wheel.add(one)
    for _ in range(100):
        due, silent = wheel.turn()
        assert one not in silent
        if one in due:
            wheel.heard(one)


def test_a_page_that_answers_no_more() -> None:
    wheel = Heartbeat(10)
    one = page()
    wheel.add(one)
    silent_at = 0
    for turn in range(1, 100):
        due, silent = wheel.turn()
        if turn <= 20 and one in due:
            wheel.heard(one)
        if one in silent:
            silent_at = turn
            break
    assert silent_at == 35


def test_who_is_removed_is_left_alone() -> None:
    wheel = Heartbeat(4)
    one = page()
    wheel.add(one)
    wheel.remove(one)
    assert all(not due and not silent for due, silent in (wheel.turn() for _ in range(20)))
