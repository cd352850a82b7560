"""Which sends of a document may run."""

from __future__ import annotations

from pagews.sends import Results, Sends
from pagews.wire import Text


def test_rule_25_what_was_never_claimed_may_run_whatever_came_before_it() -> None:
    results, sends = Results(3, 1000, 1000, lambda: None), Sends()
    # Uploads overlap: the one that began first may come to its end last.
    results.claim(sends, 7)
    assert sends.knows(7)
    assert not sends.knows(6)
    results.claim(sends, 6)
    assert sends.knows(6)
    assert not sends.knows(5)


def test_rule_25_what_may_have_been_forgotten_does_not_run_again() -> None:
    results, sends = Results(2, 1000, 1000, lambda: None), Sends()
    for send_id in (7, 6, 9, 8):
        results.claim(sends, send_id)
    assert list(sends.results) == [9, 8]
    assert [send_id for send_id in range(1, 12) if not sends.knows(send_id)] == [10, 11]


def test_rule_25_a_bound_of_bytes_forgets_as_well() -> None:
    dropped = []
    results, sends = Results(10, 100, 1000, lambda: dropped.append(1)), Sends()
    for send_id in (2, 3):
        results.claim(sends, send_id)
        results.keep(sends, send_id, Text("x" * 90))
    assert [send_id for send_id in range(1, 6) if not sends.knows(send_id)] == [4, 5]
    assert dropped == [1]
