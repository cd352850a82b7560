"""The embedded broker. The numbers in names are those of the rules."""

from __future__ import annotations

from typing import Any

import pytest

from pagews import LimitExceeded, Limits, MemoryBroker, PageGone, Push, Text
from pagews.broker import Answer, Attach, Attached, Control, Filed, Position
from pagews.page import Claim, Owner

from .rig import draft


class Node:
    """Keeps what the broker tells it."""

    def __init__(self) -> None:
        self.delivered: list[tuple[str, Filed]] = []
        self.ended_pages: list[str] = []
        self.gone_pages: list[str] = []
        self.answers: list[Answer] = []
        self.results_dropped = 0

    def deliver(self, channel: str, message: Filed) -> None:
        self.delivered.append((channel, message))

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def ended(self, page_id: str) -> None:
        self.ended_pages.append(page_id)

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self.gone_pages.append(page_id)

    def result_dropped(self) -> None:
        self.results_dropped += 1


class Desk:
    """A broker in virtual time."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1000.0
        self.node = Node()
        self.broker = MemoryBroker(
            Limits(**({"retention": 60.0, "grace": 10.0} | limits)), clock=lambda: self.now, wall=lambda: self.now
        )

    async def start(self) -> Desk:
        await self.broker.start(self.node)
        return self

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.broker.tick()

    def pass_days(self, days: int) -> None:
        self.now += days * 86400
        self.broker.tick()

    async def attach(self, page_id: str = "p", **fields: Any) -> Attached:
        hello = Attach(
            page_id=page_id,
            session_id="s",
            user_id="ann",
            document="d",
            attempt=1,
            cursor=self.broker.position,
            topics={"t": 0},
            since=self.now,
            limit=10_000,
        )
        return await self.broker.attach(hello._replace(**fields))


def data_of(attached: Attached) -> list[Any]:
    return [message.data for message in attached.replay.messages if isinstance(message, Push)]


async def test_a_push_is_numbered_filed_and_delivered() -> None:
    desk = await Desk().start()
    start = desk.broker.position
    assert await desk.broker.publish("page:p", draft(1)) == start.seq + 1
    await desk.broker.emit("page:p", draft(2))
    (_, first), (_, second) = desk.node.delivered
    assert isinstance(first, Push)
    assert isinstance(second, Push)
    assert (first.seq, second.seq) == (start.seq + 1, 0)
    replay = await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)
    assert replay.messages == [first]
    assert desk.broker.log_size()[:2] == (1, 1)


async def test_two_brokers_are_two_epochs() -> None:
    assert MemoryBroker().position.epoch != MemoryBroker().position.epoch


async def test_an_idempotency_key_is_filed_once_for_the_retention() -> None:
    desk = await Desk().start()
    first = await desk.broker.publish("user:ann", draft(), key="order-7")
    assert await desk.broker.publish("user:ann", draft(), key="order-7") == first
    assert await desk.broker.publish("user:bob", draft(), key="order-7") != first
    assert len(desk.node.delivered) == 2
    desk.pass_time(61)
    assert await desk.broker.publish("user:ann", draft(), key="order-7") > first


async def test_attach_reads_from_the_cursor() -> None:
    desk = await Desk().start()
    cursor = desk.broker.position
    for channel in ("page:p", "session:s", "user:ann", "topic:t", "page:other", "user:bob"):
        await desk.broker.publish(channel, draft(channel))
    attached = await desk.attach(cursor=cursor)
    assert attached.claim is Claim.GRANTED
    assert attached.topics == {"t": 0}
    assert data_of(attached) == ["page:p", "session:s", "user:ann", "topic:t"]
    assert (await desk.attach("q", cursor=Position("other", 0))).replay.lost == "epoch"


async def test_rules_16_and_17_who_gets_a_page() -> None:
    desk = await Desk().start()
    assert (await desk.attach(attempt=2)).claim is Claim.GRANTED
    assert (await desk.attach(attempt=1)).claim is Claim.SUPERSEDED
    assert (await desk.attach(attempt=3)).claim is Claim.GRANTED
    assert (await desk.attach(document="x")).claim is Claim.FORKED
    await desk.broker.detach("p", Owner("d", 3), left=False)
    assert (await desk.attach(document="x")).claim is Claim.FORKED
    await desk.broker.detach("p", Owner("d", 3), left=True)
    assert (await desk.attach(document="x")).claim is Claim.GRANTED


async def test_rule_27_gone_comes_once_and_only_for_pages_that_attached() -> None:
    desk = await Desk().start()
    await desk.broker.set_topics("rendered", [], ["t"], [])
    await desk.attach("cut")
    await desk.attach("left")
    await desk.attach("back")
    await desk.attach("stays")
    for page_id in ("cut", "left", "back"):
        await desk.broker.detach(page_id, Owner("d", 1), left=page_id != "cut")
    await desk.attach("back", attempt=2)
    desk.pass_time(11)
    assert desk.node.gone_pages == ["left"]
    assert await desk.broker.is_gone("left")
    desk.pass_time(60)
    desk.pass_time(60)
    assert desk.node.gone_pages == ["left", "cut"]
    assert not await desk.broker.is_gone("stays")
    await desk.broker.end("stays")
    await desk.broker.end("stays")
    assert desk.node.gone_pages == ["left", "cut", "stays"]
    assert (await desk.attach("stays", attempt=2)).claim is Claim.GRANTED
    assert not await desk.broker.is_gone("stays")


async def test_an_old_socket_detaches_nobody_else() -> None:
    desk = await Desk().start()
    await desk.attach(attempt=1)
    await desk.attach(attempt=2)
    await desk.broker.detach("p", Owner("d", 1), left=True)
    desk.pass_time(100)
    assert desk.node.gone_pages == []


async def test_rule_16_an_attempt_that_comes_again_is_a_claim_of_its_own() -> None:
    desk = await Desk().start()
    assert [(await desk.attach(attempt=1)).repeat for _ in range(3)] == [0, 1, 2]
    for stale in (Owner("d", 1), Owner("d", 1, repeat=1)):
        await desk.broker.detach("p", stale, left=True)
    assert await desk.broker.owner("p") == Owner("d", 1, repeat=2)
    desk.pass_time(100)
    assert desk.node.gone_pages == []
    assert (await desk.attach(attempt=2)).repeat == 0
    assert (await desk.attach(attempt=2, document="x")).claim is Claim.FORKED
    await desk.broker.detach("p", Owner("d", 2), left=True)
    assert (await desk.attach(attempt=2, document="x")).repeat == 0


async def test_a_later_detach_moves_the_end() -> None:
    desk = await Desk().start()
    await desk.attach(attempt=1)
    await desk.broker.detach("p", Owner("d", 1), left=False)
    desk.pass_time(50)
    await desk.attach(attempt=2)
    await desk.broker.detach("p", Owner("d", 2), left=False)
    desk.pass_time(50)
    assert desk.node.gone_pages == []
    desk.pass_time(12)
    assert desk.node.gone_pages == ["p"]


async def test_rule_6_a_record_outlives_every_cursor_of_its_page() -> None:
    desk = await Desk().start()
    await desk.attach()
    await desk.broker.set_topics("p", [], ["new"], [])
    cursor = desk.broker.position
    await desk.broker.detach("p", Owner("d", 1), left=False)
    desk.now += 30  # the process was stopped: no tick, so no number, lies between the cursor and now
    desk.pass_time(59)
    assert desk.now > 1000 + 60
    attached = await desk.attach(attempt=2, cursor=cursor)
    assert attached.replay.lost is None
    assert "new" in attached.topics
    await desk.broker.detach("p", Owner("d", 2), left=False)
    while await desk.broker.topics("p"):
        desk.pass_time(1)
    assert (await desk.attach(attempt=3, cursor=cursor)).replay.lost == "expired"


async def test_rule_21_topics_are_kept_with_their_since_and_announced() -> None:
    desk = await Desk().start()
    await desk.attach()
    await desk.broker.publish("topic:new", draft("before"))
    head = desk.broker.position.seq
    assert await desk.broker.set_topics("p", ["t"], ["new"], ["t"]) == {"new": head}
    channel, control = desk.node.delivered[-1]
    assert (channel, control) == ("page:p", Control("topics", head + 1))
    await desk.broker.publish("topic:new", draft("after"))
    attached = await desk.attach(attempt=2, cursor=Position(desk.broker.position.epoch, 0))
    assert attached.topics == {"new": head}
    assert data_of(attached) == ["after"]


async def test_topics_of_a_page_that_is_only_rendered() -> None:
    desk = await Desk().start()
    await desk.broker.set_topics("p", ["t"], ["u"], [])
    assert await desk.broker.topics("p") == {"t": 0, "u": 0}
    assert (await desk.attach(topics={"t": 0})).topics == {"t": 0, "u": 0}
    assert await desk.broker.topics("nobody") is None


async def test_revocation_of_a_session() -> None:
    desk = await Desk().start()
    await desk.broker.revoke("session:s")
    assert await desk.broker.revoked("session:s") == desk.now
    assert await desk.broker.revoked("session:other") is None
    attached = await desk.attach()
    assert attached.revoked
    assert not attached.topics
    channel, control = desk.node.delivered[-1]
    assert channel == "session:s"
    assert isinstance(control, Control)
    assert control.kind == "revoked"


async def test_revocation_of_a_user_ends_the_logins_before_it() -> None:
    desk = await Desk().start()
    await desk.broker.revoke("user:ann")
    assert (await desk.attach()).revoked
    desk.now += 1
    assert not (await desk.attach()).revoked
    assert not (await desk.attach("q", user_id="bob", since=0)).revoked


async def test_revocations_are_forgotten_after_their_time() -> None:
    desk = await Desk().start()
    await desk.broker.revoke("session:s")
    desk.pass_days(399)
    assert await desk.broker.revoked("session:s") is not None
    desk.pass_days(2)
    assert await desk.broker.revoked("session:s") is None


async def test_rule_25_a_send_is_claimed_once_and_its_result_kept() -> None:
    desk = await Desk().start()
    await desk.attach()
    broker, result = desk.broker, Text("the result")
    assert (await broker.claim_send("p", "d", 1)).granted
    assert await broker.claim_send("p", "d", 1) == (False, None)
    await broker.complete_send("p", "d", 1, result)
    assert await broker.claim_send("p", "d", 1) == (False, result)
    assert (await broker.claim_send("p", "other", 2)).granted is False
    assert (await broker.claim_send("nobody", "d", 2)).granted is False
    await broker.complete_send("p", "other", 1, Text("not kept"))
    assert (await broker.claim_send("p", "d", 1)).result == result


@pytest.mark.parametrize("limits", [{"results_kept": 3}, {"channel_bytes": 300}])
async def test_results_have_a_bound_and_old_sends_do_not_run_again(limits: dict[str, int]) -> None:
    desk = await Desk(**limits).start()
    await desk.attach()
    for number in range(1, 6):
        assert (await desk.broker.claim_send("p", "d", number)).granted
        await desk.broker.complete_send("p", "d", number, Text("x" * 90))
    assert await desk.broker.claim_send("p", "d", 1) == (False, None)
    assert (await desk.broker.claim_send("p", "d", 5)).result is not None
    assert desk.node.results_dropped == 2


async def test_results_of_all_pages_have_a_bound() -> None:
    desk = await Desk(results_bytes=3 * (200 + 92)).start()
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
    desk = await Desk(results_bytes=250).start()
    await desk.attach()
    assert (await desk.broker.claim_send("p", "d", 1)).granted
    await desk.broker.complete_send("p", "d", 1, Text("x" * 90))
    assert await desk.broker.claim_send("p", "d", 1) == (False, None)
    assert (desk.node.results_dropped, desk.broker._results._size) == (1, 0)


async def test_to_ask_for_a_send_claims_nothing() -> None:
    desk = await Desk().start()
    await desk.attach()
    broker, result = desk.broker, Text("the result")
    assert await broker.find_send("p", "d", 1) is None
    assert (await broker.claim_send("p", "d", 1)).granted
    assert await broker.find_send("p", "d", 1) == (False, None)
    await broker.complete_send("p", "d", 1, result)
    assert await broker.find_send("p", "d", 1) == (False, result)
    assert await broker.find_send("p", "d", 2) is None
    assert (await broker.claim_send("p", "d", 2)).granted
    assert await broker.find_send("p", "another", 3) == (False, None)


async def test_claims_end_with_their_document() -> None:
    desk = await Desk().start()
    await desk.attach()
    await desk.broker.claim_send("p", "d", 1)
    await desk.broker.detach("p", Owner("d", 1), left=True)
    await desk.attach(document="new")
    assert (await desk.broker.claim_send("p", "new", 1)).granted


async def test_answers_go_to_whoever_asked() -> None:
    desk = await Desk().start()
    answer = Answer(7, "p", "d", ["page:p"], True, 1)
    await desk.broker.answer(answer)
    assert desk.node.answers == [answer]


async def test_rule_6_also_after_a_goodbye_a_document_that_could_resume_finds_its_topics() -> None:
    desk = await Desk().start()
    await desk.attach()
    await desk.broker.set_topics("p", [], ["new"], [])
    cursor = desk.broker.position
    await desk.broker.detach("p", Owner("d", 1), left=True)
    desk.pass_time(15)
    assert desk.node.gone_pages == ["p"]
    attached = await desk.attach(attempt=2, cursor=cursor)
    assert attached.replay.lost is None
    assert "new" in attached.topics
    await desk.broker.detach("p", Owner("d", 2), left=True)
    desk.pass_time(15)
    assert (await desk.attach(document="other", cursor=cursor)).topics == {"t": 0}


async def test_a_time_to_live_beyond_the_retention_keeps_nothing_longer() -> None:
    desk = await Desk().start()
    for _ in range(10):
        await desk.broker.publish("page:p", draft(), ttl=1e9)
    desk.pass_time(63)
    assert desk.broker.log_size()[:3] == (0, 0, 0)
    assert not desk.broker._log._deadlines


async def test_the_owner_of_a_page_is_the_newest_attempt_until_the_page_is_gone() -> None:
    desk = await Desk().start()
    assert await desk.broker.owner("p") is None
    await desk.broker.set_topics("p", [], ["t"], [])
    assert await desk.broker.owner("p") is None
    await desk.attach(document="d", attempt=1)
    await desk.attach(document="d", attempt=2)
    assert await desk.broker.owner("p") == Owner("d", 2)
    await desk.broker.detach("p", Owner("d", 2), left=True)
    assert await desk.broker.owner("p") == Owner("d", 2, left=True)
    await desk.broker.end("p")
    assert await desk.broker.owner("p") is None


# --- variables and records --------------------------------------------------------------------------------------------


async def test_variables_are_kept_until_the_page_is_gone() -> None:
    desk = await Desk().start()
    await desk.attach()
    broker = desk.broker
    await broker.set_variable("p", "v", b'"x"')
    assert await broker.incr_variable("p", "n", 2) == 2
    assert await broker.incr_variable("p", "n", -3) == -1
    await broker.append_variable("p", "l", b"1")
    await broker.append_variable("p", "l", b'{"a":2}')
    await broker.detach("p", Owner("d", 1), left=False)
    desk.pass_time(50)
    found = [await broker.get_variable("p", name) for name in ("v", "n", "l", "none")]
    assert found == [b'"x"', b"-1", b'[1,{"a":2}]', None]
    assert await broker.get_variable("other", "v") is None
    await broker.set_variable("p", "v", None)
    assert await broker.get_variable("p", "v") is None
    desk.pass_time(12)
    assert (desk.node.ended_pages, desk.node.gone_pages) == (["p"], ["p"])
    assert await broker.get_variable("p", "n") is None


async def test_variables_are_dropped_with_the_grace_though_the_document_could_still_resume() -> None:
    desk = await Desk().start()
    await desk.attach()
    await desk.broker.set_variable("p", "v", b"1")
    await desk.broker.detach("p", Owner("d", 1), left=True)
    desk.pass_time(9)
    assert await desk.broker.get_variable("p", "v") == b"1"
    desk.pass_time(2)
    assert desk.node.gone_pages == ["p"]
    assert await desk.broker.get_variable("p", "v") is None
    with pytest.raises(PageGone):
        await desk.broker.set_variable("p", "v", b"1")
    await desk.attach(attempt=2)
    assert await desk.broker.get_variable("p", "v") is None
    await desk.broker.set_variable("p", "v", b"2")
    assert await desk.broker.get_variable("p", "v") == b"2"


async def test_variables_outlive_a_take_over_within_the_grace() -> None:
    desk = await Desk().start()
    await desk.attach()
    await desk.broker.set_variable("p", "v", b"1")
    await desk.broker.detach("p", Owner("d", 1), left=True)
    desk.pass_time(5)
    await desk.attach(document="other")
    desk.pass_time(20)
    assert await desk.broker.get_variable("p", "v") == b"1"


async def test_a_page_that_has_ended_keeps_nothing_until_it_comes_back() -> None:
    desk = await Desk().start()
    await desk.attach()
    broker = desk.broker
    await broker.end("p")
    for storing in (
        broker.keep("p"),
        broker.set_variable("p", "v", b"1"),
        broker.set_variable("p", "v", None),
        broker.incr_variable("p", "v", 1),
        broker.append_variable("p", "v", b"1"),
        broker.set_topics("p", [], ["t"], []),
        broker.set_topics("p", ["t"], [], ["t"]),
    ):
        with pytest.raises(PageGone):
            await storing
    assert await broker.get_variable("p", "v") is None
    await desk.attach(document="another")
    await broker.set_variable("p", "v", b"1")
    assert await broker.get_variable("p", "v") == b"1"


async def test_a_page_that_never_attaches_ends_after_the_retention_without_being_told_gone() -> None:
    desk = await Desk().start()
    await desk.broker.keep("runs a task")
    await desk.broker.set_variable("stores", "v", b"1")
    await desk.broker.set_topics("joins", [], ["t"], [])
    desk.pass_time(59)
    assert len(desk.broker._records) == 3
    await desk.broker.set_variable("stores", "v", b"2")  # what is stored later does not prolong its life
    assert await desk.broker.get_variable("stores", "v") == b"2"
    desk.pass_time(3)
    assert desk.node.ended_pages == ["runs a task", "stores", "joins"]
    assert desk.node.gone_pages == []
    assert desk.broker._records == {}
    assert await desk.broker.is_gone("stores")
    with pytest.raises(PageGone):
        await desk.broker.set_variable("stores", "v", b"3")
    desk.pass_time(62)
    assert not await desk.broker.is_gone("stores")


async def test_what_was_stored_before_the_first_attach_is_there_and_the_topics_are_those_of_the_token() -> None:
    desk = await Desk().start()
    await desk.broker.set_variable("p", "v", b"1")
    assert await desk.broker.topics("p") is None
    assert (await desk.attach(topics={"t": 0, "u": 0})).topics == {"t": 0, "u": 0}
    desk.pass_time(200)
    assert await desk.broker.get_variable("p", "v") == b"1"
    assert desk.node.ended_pages == []


async def test_reading_makes_no_record_and_neither_does_what_is_refused() -> None:
    desk = await Desk(variable_bytes=10).start()
    broker = desk.broker
    await broker.get_variable("p", "v")
    await broker.topics("p")
    await broker.set_variable("p", "v", None)
    await broker.is_gone("p")
    await broker.claim_send("p", "d", 1)
    with pytest.raises(LimitExceeded):
        await broker.set_variable("p", "v", b"x" * 11)
    assert broker._records == {}


@pytest.mark.parametrize(
    ("limit", "bound", "page_id", "value", "size"),
    [
        ("variable_bytes", 10, "p", b"x" * 11, 11),
        ("page_bytes", 450, "p", b"1", 3 * (200 + 1 + 1)),
        ("pages_bytes", 450, "q", b"1", 3 * (200 + 1 + 1)),
    ],
)
async def test_bounds_of_variables(limit: str, bound: int, page_id: str, value: bytes, size: int) -> None:
    desk = await Desk(**{limit: bound}).start()
    broker = desk.broker
    for name in ("a", "b"):
        await broker.set_variable("p", name, b"1")
    with pytest.raises(LimitExceeded, match=rf"limits\.{limit} is {bound}") as caught:
        await broker.set_variable(page_id, "c", value)
    assert (caught.value.limit, caught.value.size, caught.value.bound) == (limit, size, bound)
    assert await broker.get_variable(page_id, "c") is None
    # What makes it no larger is taken, and what is forgotten makes room.
    await broker.set_variable("p", "a", b"2")
    await broker.set_variable("p", "b", None)
    await broker.set_variable("p", "c", b"1")


async def test_a_list_and_a_number_grow_only_to_their_bound() -> None:
    desk = await Desk(variable_bytes=9).start()
    await desk.broker.append_variable("p", "l", b"1111")
    with pytest.raises(LimitExceeded):
        await desk.broker.append_variable("p", "l", b"2222")
    assert await desk.broker.get_variable("p", "l") == b"[1111]"
    await desk.broker.set_variable("p", "n", b"999999999")
    with pytest.raises(LimitExceeded):
        await desk.broker.incr_variable("p", "n", 1)
    assert await desk.broker.get_variable("p", "n") == b"999999999"


async def test_pages_that_have_ended_make_room_for_others() -> None:
    desk = await Desk(pages_bytes=202).start()
    await desk.attach("p")
    for other in ("q", "r", "s"):
        await desk.broker.set_variable("p", "v", b"1")
        with pytest.raises(LimitExceeded):
            await desk.broker.set_variable(other, "v", b"1")
        await desk.broker.end("p")
        await desk.broker.set_variable(other, "v", b"1")
        desk.pass_time(62)
        await desk.attach("p")


async def test_gone_comes_once_for_each_life_of_a_page() -> None:
    desk = await Desk().start()
    await desk.attach()
    await desk.broker.detach("p", Owner("d", 1), left=True)
    desk.pass_time(200)
    await desk.broker.end("p")
    assert desk.node.gone_pages == ["p"]
    await desk.attach(attempt=2)
    await desk.broker.detach("p", Owner("d", 2), left=True)
    desk.pass_time(200)
    assert desk.node.gone_pages == ["p", "p"]
    assert desk.node.ended_pages == ["p", "p"]


@pytest.mark.parametrize("grace", [10.0, 200.0])
async def test_a_record_is_looked_at_once_for_each_end_that_it_has(grace: float) -> None:
    desk = await Desk(grace=grace).start()
    for number in range(200):
        page_id = f"p{number}"
        desk.now += 0.01
        await desk.attach(page_id)
        await desk.broker.detach(page_id, Owner("d", 1), left=number % 2 == 0)
    await desk.broker.end("p0")
    desk.pass_time(int(grace) + 70)
    assert desk.broker._records == {}
    # With its grace and with its last cursor; not each second in between.
    assert next(desk.broker._order) <= 2 * 100 + 100 + 1


async def test_records_of_pages_that_have_ended_are_dropped() -> None:
    desk = await Desk().start()
    for number in range(100):
        page_id = f"p{number}"
        await desk.attach(page_id)
        await desk.broker.claim_send(page_id, "d", 1)
        await desk.broker.set_variable(page_id, "v", b"1")
        await desk.broker.detach(page_id, Owner("d", 1), left=number % 2 == 0)
    assert len(desk.broker._records) == 100
    desk.pass_time(63)
    assert desk.broker._records == {}
    assert desk.broker._variables_size == 0
    desk.pass_time(63)
    assert (len(desk.broker._gone), len(desk.broker._due)) == (0, 0)


async def test_rule_25_a_page_that_was_ended_and_comes_back_does_not_run_its_sends_again() -> None:
    desk = await Desk().start()
    cursor = desk.broker.position
    await desk.attach(cursor=cursor)
    await desk.broker.set_topics("p", ["t"], ["joined"], [])
    assert (await desk.broker.claim_send("p", "d", 1)).granted
    await desk.broker.complete_send("p", "d", 1, Text("the result"))
    await desk.broker.end("p")
    # It has not heard of its end, and its cursor is good still.
    again = await desk.attach(attempt=2, cursor=cursor)
    assert again.replay.lost is None
    assert again.topics.keys() == {"t", "joined"}
    # That it has run is known still; what came out of it went with the page.
    assert await desk.broker.claim_send("p", "d", 1) == (False, None)


async def test_what_comes_out_of_a_send_when_its_page_is_gone_is_not_kept() -> None:
    desk = await Desk().start()
    await desk.attach()
    assert (await desk.broker.claim_send("p", "d", 1)).granted
    await desk.broker.end("p")
    await desk.broker.complete_send("p", "d", 1, Text("the result"))
    assert await desk.broker.claim_send("p", "d", 1) == (False, None)
    assert desk.broker._results._size == 0


async def test_rule_6_the_record_of_a_page_that_was_ended_outlives_its_cursors() -> None:
    desk = await Desk().start()
    await desk.attach()
    await desk.broker.set_topics("p", ["t"], ["joined"], [])
    desk.pass_time(200)
    cursor = desk.broker.position
    await desk.broker.end("p")
    # The process stands still, and its first turn takes all numbers up to the cursor, which is good still.
    desk.now += 65
    desk.broker.tick()
    again = await desk.attach(attempt=2, cursor=cursor)
    assert again.replay.lost is None
    assert again.topics.keys() == {"t", "joined"}


async def test_rule_17_a_page_that_was_ended_is_free_for_another_document() -> None:
    desk = await Desk().start()
    await desk.attach()
    assert (await desk.broker.claim_send("p", "d", 1)).granted
    await desk.broker.end("p")
    assert (await desk.attach(document="other")).claim is Claim.GRANTED
    assert (await desk.broker.claim_send("p", "other", 1)).granted


async def test_rule_21_a_page_that_ended_before_anybody_attached_it_begins_with_the_topics_of_its_token() -> None:
    desk = await Desk().start()
    await desk.broker.set_topics("p", ["t"], ["joined"], [])
    await desk.broker.end("p")
    assert (await desk.attach(topics={"t": 0})).topics == {"t": 0}
