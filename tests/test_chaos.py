"""`make chaos` for some seconds, and its checker: it must see every kind of lie, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from tools.chaos import HARMLESS, Chaos
from tools.chaos_check import Checker

Entry = dict[str, Any]

#: Seconds of faults: with the start and the calm a run takes three times as long.
SECONDS: Final = 4.0

# --- the whole --------------------------------------------------------------------------------------------------------


async def test_some_seconds_of_faults_after_which_nothing_may_be_lost(redis_program: Path, tmp_path: Path) -> None:
    checker = await Chaos(7, tmp_path, kinds=HARMLESS).run(SECONDS)
    assert checker.violations == []
    assert checker.counts["shown"] > 100
    assert checker.counts["sends with a result"] > 10
    assert checker.counts["joins"] > 0


async def test_some_seconds_in_which_redis_loses_everything(redis_program: Path, tmp_path: Path) -> None:
    kinds = ("Redis is emptied", "Redis is killed, and comes back empty", "Redis is killed, and a replica takes over")
    checker = await Chaos(8, tmp_path, kinds=kinds).run(SECONDS)
    assert checker.violations == []
    assert checker.counts["lost: epoch"] > 0


@pytest.mark.parametrize("broker", ["SwallowingBroker", "ForgetfulBroker"])
async def test_the_checker_notices_a_broker_that_lies(redis_program: Path, tmp_path: Path, broker: str) -> None:
    checker = await Chaos(9, tmp_path, broker=f"tests.faulty_brokers:{broker}", kinds=HARMLESS[:1], calm=2.0).run(1.0)
    assert any("never shown" in violation for violation in checker.violations), checker.violations


# --- the checker alone ------------------------------------------------------------------------------------------------


def pushed(place: int, *, time: float = 10.0, outcome: str = "accepted", channel: str = "topic:t") -> list[Entry]:
    """What a publisher logs of a push."""
    push = f"x-{place}"
    begun = {"push": push, "publisher": "x", "place": place, "channel": channel, "expires": False, "time": time}
    return [begun, {"pushed": push, "outcome": outcome, "time": time}]


def opened(document: str = "d") -> list[Entry]:
    return [{"document": document, "opened": ["topic:t"], "time": 1.0}, welcomed(document=document)]


def welcomed(
    seq: int = 0, *, lost: str | None = None, epoch: str = "e", time: float = 1.0, document: str = "d"
) -> Entry:
    said = {"page": f"page of {document}", "epoch": epoch, "seq": seq, "lost": lost}
    return {"document": document, "welcome": said, "time": time}


def shown(place: int, seq: int, document: str = "d") -> Entry:
    return {"document": document, "shown": f"x-{place}", "seq": seq, "time": 11.0}


THREE: Final = [*pushed(1), *pushed(2), *pushed(3)]


def violations(publisher: list[Entry], *pages: list[Entry], **options: bool) -> list[str]:
    return Checker([publisher], list(pages), **options).violations


def test_what_is_whole_is_not_complained_of() -> None:
    page = [*opened(), shown(1, 1), shown(2, 2), shown(3, 3)]
    effects: list[Entry] = [{"effect": ["d", 1], "time": 1.0}, {"effect": ["d", 2], "time": 1.0}]
    sends: list[Entry] = [{"document": "d", "sent": 1, "ok": True}, {"document": "d", "sent": 2, "ok": False}]
    unknown = [*pushed(4, outcome="unknown"), *pushed(5, outcome="refused"), *pushed(6, channel="topic:another")]
    assert violations([*THREE, *unknown, *effects], [*page, *sends], may_lose=False) == []
    # One that may have been filed may come late.
    assert violations([*THREE, *unknown], [*opened(), shown(1, 1), shown(2, 2), shown(3, 3), shown(4, 4)]) == []
    # What came before the loss is excused, what comes after it is not.
    lost = welcomed(7, lost="expired", time=10.5)
    assert violations([*THREE, *pushed(4, time=11.0)], [*opened(), shown(1, 1), lost, shown(4, 8)]) == []
    # A page that has ended owes nothing any more.
    assert violations(THREE, [*opened(), shown(1, 1), {"document": "d", "ended": 4503}]) == []
    assert violations(THREE, [*opened(), shown(1, 1)], complete=False) == []


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ([shown(1, 1), shown(3, 3)], "never shown x-2"),
        ([shown(1, 1), shown(2, 2)], "never shown x-3"),
        ([shown(1, 1), shown(2, 2), shown(2, 3), shown(3, 4)], "shown x-2 twice"),
        ([shown(1, 1), shown(2, 3), shown(3, 2)], "as 2, behind 3"),
        ([shown(2, 1), shown(1, 2), shown(3, 3)], "in another order"),
        ([shown(1, 1), shown(2, 2), shown(3, 3), shown(4, 4)], "which was never pushed"),
        ([shown(1, 1), welcomed(3, lost="expired", time=5.0), shown(3, 4)], "never shown x-2"),
        ([shown(1, 1), welcomed(3, epoch="another"), shown(2, 2), shown(3, 3)], "another epoch"),
        ([shown(1, 1), shown(2, 2), shown(3, 3), {"document": "d", "sent": 1, "ok": True}], "has run 0 times"),
    ],
)
def test_a_lie_to_a_page_is_noticed(page: list[Entry], said: str) -> None:
    assert any(said in violation for violation in violations(THREE, [*opened(), *page]))


def joining(*, asks: int = 1, leaves: bool = False) -> list[Entry]:
    """A page joins a topic at 5 s, and leaves it at 20 s, behind what it was shown before."""
    page = [*opened(), *[{"document": "d", "asks": "join", "topic": "j", "time": 4.0}] * asks]
    page.append({"document": "d", "answered": "join", "topic": "j", "ok": True, "time": 5.0})
    if leaves:
        page += [shown(1, 1), {"document": "d", "asks": "leave", "topic": "j", "time": 19.0}]
        page.append({"document": "d", "answered": "leave", "topic": "j", "ok": True, "time": 20.0})
    return page


def test_a_topic_that_was_joined_is_a_channel_from_then_on_until_it_is_left() -> None:
    before, then, later = (pushed(place, time=10.0 * place, channel="topic:j") for place in (0, 1, 3))
    assert violations([*before, *then], [*joining(), shown(1, 1)]) == []
    assert any("never shown x-1" in said for said in violations([*before, *then], joining()))
    assert any("never shown x-3" in said for said in violations([*then, *later], [*joining(), shown(1, 1)]))
    twice = violations(then, [*joining(), shown(1, 1), shown(1, 2)])
    assert any("shown x-1 twice" in said for said in twice)
    # What it was shown last when it left is all that it must have been shown.
    assert violations([*then, *later], joining(leaves=True)) == []
    between = pushed(2, time=19.5, channel="topic:j")
    assert violations([*then, *between], [*joining(leaves=True), shown(2, 2)]) == []
    assert any("which was for topic:j" in said for said in violations(later, [*joining(leaves=True), shown(3, 3)]))
    # It may have joined again behind that, on a worker that was late.
    assert violations([*then, *later], [*joining(asks=2, leaves=True), shown(3, 3)]) == []
    # With the log goes what it has joined.
    lost = welcomed(0, lost="epoch", epoch="another", time=25.0)
    assert violations([*then, *later], [*joining(), shown(1, 1), lost]) == []
    # And that it has left it.
    assert violations([*then, *later], [*joining(leaves=True), lost, shown(3, 3)]) == []


@pytest.mark.parametrize("channel", ["session:s", "user:ann"])
def test_what_is_shown_to_an_identity_that_has_ended_is_noticed(channel: str) -> None:
    page = [{"document": "d", "opened": ["topic:t", "session:s", "user:ann"], "time": 1.0}, welcomed()]
    over: list[Entry] = [{"revoking": channel, "time": 10.5}, {"revoked": channel, "time": 11.0}]
    before, later = pushed(1, time=10.7), pushed(2, time=12.0)
    assert violations([*before, *over], [*page, shown(1, 1)]) == []
    assert any("had ended" in said for said in violations([*over, *later], [*page, shown(2, 2)]))
    # Nobody was told that it has ended, or it was another's, or it was forgotten with the log.
    assert violations([*over[:1], *later], [*page, shown(2, 2)]) == []
    assert violations([*over, *later], [*opened(), shown(2, 2)]) == []
    lost = welcomed(0, lost="epoch", epoch="another", time=11.5)
    assert violations([*over, *later], [*page, lost, shown(2, 2)]) == []
    # But not with a part of it.
    lost = welcomed(1, lost="expired", time=11.5)
    assert any("had ended" in said for said in violations([*over, *later], [*page, lost, shown(2, 2)]))


def test_what_is_shown_after_a_login_is_noticed() -> None:
    rotated = {"document": "d", "rotated": "/logout", "time": 11.0}
    assert violations(pushed(1, time=10.7), [*opened(), rotated, shown(1, 1)]) == []
    assert any("had ended" in said for said in violations(pushed(1, time=12.0), [*opened(), rotated, shown(1, 1)]))


def test_an_upload_runs_once_at_most() -> None:
    effect: Entry = {"effect": ["d", 1], "bytes": 3, "time": 1.0}
    uploaded: Entry = {"document": "d", "uploaded": 1, "ok": True, "time": 2.0}
    assert violations([effect], [*opened(), uploaded]) == []
    assert any("has run 0 times" in said for said in violations([], [*opened(), uploaded]))
    assert any("has run 2 times" in said for said in violations([effect, effect], [*opened(), uploaded]))


@pytest.mark.parametrize(
    ("publisher", "said"),
    [
        ([*pushed(1, outcome="refused")], "which was refused"),
        ([*pushed(1, channel="topic:another")], "which was for topic:another"),
        ([*pushed(1), *[{"effect": ["d", 1], "time": 1.0}] * 2], "has run 2 times"),
        ([*pushed(1), {"asked": "x-1", "answer": "no", "time": 1.0}], "was answered 'no'"),
    ],
)
def test_a_lie_of_a_publisher_is_noticed(publisher: list[Entry], said: str) -> None:
    assert any(said in violation for violation in violations(publisher, [*opened(), shown(1, 1)]))


def test_two_pages_must_be_shown_the_same() -> None:
    first = [*opened(), shown(1, 1), shown(2, 2), shown(3, 3)]
    other = [*opened("o"), shown(1, 1, "o"), shown(2, 5, "o"), shown(3, 6, "o")]
    assert any("not what others were shown" in violation for violation in violations(THREE, first, other))
    # A ping that says too much hides what nobody knows to be accepted.
    unknown = [*pushed(1), *pushed(2, outcome="unknown")]
    whole = [*opened(), shown(1, 1), shown(2, 2)]
    pinged = [*opened("o"), shown(1, 1, "o"), {"document": "o", "ping": 2}]
    assert any("not shown x-2" in violation for violation in violations(unknown, whole, pinged))


def test_a_loss_where_none_may_be_is_noticed() -> None:
    page = [*opened(), shown(1, 1), shown(2, 2), shown(3, 3), welcomed(9, lost="expired", time=20.0)]
    assert violations(THREE, page) == []
    assert any("has lost something" in violation for violation in violations(THREE, page, may_lose=False))
