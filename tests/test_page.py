"""The page session: its table, and what it lets through."""

from __future__ import annotations

import itertools

import pytest

from pagews.page import ATTACHED, TRANSITIONS, Claim, Event, Owner, PageSession, State, contend, cursors, receive


def session(position: int = 0, *, held_limit: int = 100) -> PageSession:
    return PageSession(
        "p",
        session_id="s",
        user_id="u",
        topics={"t": 0},
        document="d",
        attempt=1,
        epoch="e",
        position=position,
        since=0.0,
        held_limit=held_limit,
        socket="its socket",
    )


def arrives(page: PageSession, seq: int, message: str, size: int = 1) -> bool:
    """A message comes on its channels: whether it is written now."""
    return receive([page], seq, message, size) == [page.socket]


def live(position: int = 0) -> PageSession:
    page = session(position)
    page.happened(Event.WELCOMED)
    page.release()
    return page


def test_the_table_reaches_every_state_and_gone_is_the_end() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.GONE}
    assert set(TRANSITIONS.values()) == set(State) - {State.RENDERED}


def test_whoever_has_a_socket_can_be_cut_leave_end_and_come_anew() -> None:
    for state, (event, then) in itertools.product(
        ATTACHED,
        [
            (Event.CUT, State.DETACHED),
            (Event.BYE, State.LEFT),
            (Event.ENDED, State.GONE),
            (Event.HELLO, State.HOLDING),
        ],
    ):
        assert TRANSITIONS[state, event] is then


def test_what_the_table_does_not_have_is_a_bug() -> None:
    page = live()
    with pytest.raises(KeyError):
        page.happened(Event.DRAINED)
    assert page.attached
    assert page.stands(State.LIVE)


def test_rule_11_nothing_is_written_before_the_page_is_live() -> None:
    page = session(position=3)
    assert not arrives(page, 4, "four")
    assert not arrives(page, 0, "qos 0")
    page.happened(Event.WELCOMED)
    assert not arrives(page, 6, "six")
    assert page.replayed(4)
    assert not page.replayed(4)
    assert page.replayed(5)
    assert page.release() == ["six"]
    assert page.position == 6


def test_a_live_page_is_written_each_number_once_and_in_order() -> None:
    page = live(position=3)
    assert [arrives(page, seq, "x") for seq in (3, 4, 4, 2, 6, 5)] == [False, True, False, False, True, False]
    assert arrives(page, 0, "qos 0")
    assert page.position == 6


def test_a_page_that_lags_holds_nothing() -> None:
    page = live()
    page.happened(Event.LAGGED)
    assert not arrives(page, 1, "one")
    assert not arrives(page, 0, "qos 0")
    assert page.position == 0
    page.happened(Event.DRAINED)
    assert page.release() == []


def test_what_is_held_has_a_bound() -> None:
    page = session(held_limit=10)
    arrives(page, 1, "one", 6)
    arrives(page, 2, "two", 6)
    assert page.overflowed
    arrives(page, 3, "three")
    assert page.clear_held() == []
    assert not page.overflowed
    page.happened(Event.WELCOMED)
    arrives(page, 4, "four")
    assert page.release() == ["four"]


def test_rule_21_a_topic_is_read_from_the_later_of_cursor_and_since() -> None:
    assert cursors("p", "s", None, {"old": 2, "new": 9}, 5) == {
        "page:p": 5,
        "session:s": 5,
        "topic:old": 5,
        "topic:new": 9,
    }
    assert session(4).cursors() == {"page:p": 4, "session:s": 4, "user:u": 4, "topic:t": 4}


@pytest.mark.parametrize(
    ("owner", "document", "attempt", "claim"),
    [
        (None, "d", 1, Claim.GRANTED),
        (Owner("d", 1), "d", 2, Claim.GRANTED),
        (Owner("d", 2), "d", 1, Claim.SUPERSEDED),
        (Owner("d", 2), "d", 2, Claim.GRANTED),
        (Owner("d", 2, left=True), "d", 1, Claim.SUPERSEDED),
        (Owner("d", 1, left=True), "d", 2, Claim.GRANTED),
        (Owner("d", 1), "other", 9, Claim.FORKED),
        (Owner("d", 1, left=True), "other", 1, Claim.GRANTED),
    ],
)
def test_rules_16_and_17_who_wins(owner: Owner | None, document: str, attempt: int, claim: Claim) -> None:
    assert contend(owner, document, attempt) is claim
