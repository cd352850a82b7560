"""The embedded broker alone: its bounds over all pages, which on Redis are Redis's own; what it keeps inside; and a
process that stands still together with its log. The numbers in names are those of the rules.
"""

from __future__ import annotations

import pytest

from pagews import LimitExceeded, MemoryBroker, Text
from pagews.page import Owner

from .broker_bench import MemoryDesk
from .rig import draft


async def test_the_log_says_how_much_it_holds() -> None:
    desk = await MemoryDesk().start()
    await desk.broker.publish("page:p", draft(1))
    await desk.broker.emit("page:p", draft(2))
    assert desk.broker.log_size()[:2] == (1, 1)


async def test_numbers_have_no_gaps_between_ticks() -> None:
    desk = await MemoryDesk().start()
    start = desk.broker.position.seq
    assert [await desk.broker.publish("page:p", draft()) for _ in range(3)] == [start + 1, start + 2, start + 3]


async def test_a_page_keeps_variables_only_as_long_as_all_have_room() -> None:
    desk = await MemoryDesk(pages_bytes=450).start()
    for name in ("a", "b"):
        await desk.broker.set_variable("p", name, b"1")
    with pytest.raises(LimitExceeded, match=r"limits\.pages_bytes is 450") as caught:
        await desk.broker.set_variable("q", "c", b"1")
    assert (caught.value.limit, caught.value.size, caught.value.bound) == ("pages_bytes", 3 * (200 + 1 + 1), 450)
    await desk.broker.set_variable("p", "b", None)
    await desk.broker.set_variable("q", "c", b"1")


async def test_two_brokers_are_two_epochs() -> None:
    assert MemoryBroker().position.epoch != MemoryBroker().position.epoch


async def test_rule_6_a_record_outlives_every_cursor_of_its_page() -> None:
    desk = await MemoryDesk().start()
    await desk.attach()
    await desk.broker.set_topics("p", [], ["new"], [])
    cursor = desk.broker.position
    await desk.broker.detach("p", Owner("d", 1), left=False)
    desk.time += 30  # the process was stopped: no tick, so no number, lies between the cursor and now
    await desk.pass_time(59)
    assert desk.time > 1000 + 60
    attached = await desk.attach(attempt=2, cursor=cursor)
    assert attached.replay.lost is None
    assert "new" in attached.topics
    await desk.broker.detach("p", Owner("d", 2), left=False)
    while await desk.broker.topics("p"):
        await desk.pass_time(1)
    assert (await desk.attach(attempt=3, cursor=cursor)).replay.lost == "expired"


async def test_results_of_all_pages_have_a_bound() -> None:
    desk = await MemoryDesk(results_bytes=3 * (200 + 92)).start()
    broker, result = desk.broker, Text("x" * 90)

    async def send(page_id: str, number: int) -> None:
        assert (await broker.claim_send(page_id, "d", number)).granted
        await broker.complete_send(page_id, "d", number, result)

    for page_id in "pqrs":
        await desk.attach(page_id)
    await send("p", 1)
    await send("q", 1)
    await send("p", 2)
    assert desk.node.results_dropped == 0
    await send("r", 1)
    # The oldest is the one to go, and its send does not run again.
    kept = [("p", 2), ("q", 1), ("r", 1)]
    assert await broker.claim_send("p", "d", 1) == (False, None)
    assert [await broker.claim_send(page_id, "d", number) for page_id, number in kept] == [(False, result)] * 3
    assert desk.node.results_dropped == 1
    # A page that has ended makes room, as does a document that is not the page's any more.
    await broker.end("q")
    await broker.detach("r", Owner("d", 1), left=True)
    await desk.attach("r", document="new")
    await send("s", 1)
    await send("s", 2)
    assert await broker.claim_send("p", "d", 2) == (False, result)
    assert desk.node.results_dropped == 1
    await broker.complete_send("s", "d", 3, result)  # one that was never claimed
    for page_id in "prs":
        await broker.end(page_id)
    assert (broker._results._size, len(broker._results._kept)) == (0, 0)


async def test_a_result_that_no_bound_has_room_for_is_not_kept() -> None:
    desk = await MemoryDesk(results_bytes=250).start()
    await desk.attach()
    assert (await desk.broker.claim_send("p", "d", 1)).granted
    await desk.broker.complete_send("p", "d", 1, Text("x" * 90))
    assert await desk.broker.claim_send("p", "d", 1) == (False, None)
    assert (desk.node.results_dropped, desk.broker._results._size) == (1, 0)


async def test_a_time_to_live_beyond_the_retention_keeps_nothing_longer() -> None:
    desk = await MemoryDesk().start()
    for _ in range(10):
        await desk.broker.publish("page:p", draft(), ttl=1e9)
    await desk.pass_time(63)
    assert desk.broker.log_size()[:3] == (0, 0, 0)
    assert not desk.broker._log._deadlines


async def test_reading_makes_no_record_and_neither_does_what_is_refused() -> None:
    desk = await MemoryDesk(variable_bytes=10).start()
    broker = desk.broker
    await broker.get_variable("p", "v")
    await broker.topics("p")
    await broker.set_variable("p", "v", None)
    await broker.is_gone("p")
    await broker.claim_send("p", "d", 1)
    with pytest.raises(LimitExceeded):
        await broker.set_variable("p", "v", b"x" * 11)
    assert broker._records == {}


async def test_pages_that_have_ended_make_room_for_others() -> None:
    desk = await MemoryDesk(pages_bytes=202).start()
    await desk.attach("p")
    for other in ("q", "r", "s"):
        await desk.broker.set_variable("p", "v", b"1")
        with pytest.raises(LimitExceeded):
            await desk.broker.set_variable(other, "v", b"1")
        await desk.broker.end("p")
        await desk.broker.set_variable(other, "v", b"1")
        await desk.pass_time(62)
        await desk.attach("p")


@pytest.mark.parametrize("grace", [10.0, 200.0])
async def test_a_record_is_looked_at_once_for_each_end_that_it_has(grace: float) -> None:
    desk = await MemoryDesk(grace=grace).start()
    for number in range(200):
        page_id = f"p{number}"
        desk.time += 0.01
        await desk.attach(page_id)
        await desk.broker.detach(page_id, Owner("d", 1), left=number % 2 == 0)
    await desk.broker.end("p0")
    await desk.pass_time(int(grace) + 70)
    assert desk.broker._records == {}
    # With its grace and with its last cursor; not each second in between.
    assert next(desk.broker._order) <= 2 * 100 + 100 + 1


async def test_records_of_pages_that_have_ended_are_dropped() -> None:
    desk = await MemoryDesk().start()
    for number in range(100):
        page_id = f"p{number}"
        await desk.attach(page_id)
        await desk.broker.claim_send(page_id, "d", 1)
        await desk.broker.set_variable(page_id, "v", b"1")
        await desk.broker.detach(page_id, Owner("d", 1), left=number % 2 == 0)
    assert len(desk.broker._records) == 100
    await desk.pass_time(63)
    assert desk.broker._records == {}
    assert desk.broker._variables_size == 0
    await desk.pass_time(63)
    assert (len(desk.broker._gone), len(desk.broker._due)) == (0, 0)


async def test_rule_6_the_record_of_a_page_that_was_ended_outlives_its_cursors() -> None:
    desk = await MemoryDesk().start()
    await desk.attach()
    await desk.broker.set_topics("p", ["t"], ["joined"], [])
    await desk.pass_time(200)
    cursor = desk.broker.position
    await desk.broker.end("p")
    # The process stands still, and its first turn takes all numbers up to the cursor, which is good still.
    desk.time += 65
    await desk.turn()
    again = await desk.attach(attempt=2, cursor=cursor)
    assert again.replay.lost is None
    assert again.topics.keys() == {"t", "joined"}
