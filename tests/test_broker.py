"""What every broker does: each test runs with the embedded one, and with the other on a real Redis and a real Valkey.

The numbers in names are those of the rules. What only the embedded one has is in `test_memory_broker.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from pagews import LimitExceeded, PageGone, Push, RemoteError, Text
from pagews.broker import Answer, Control, Position, Presence, SendClaim
from pagews.page import Claim, Owner
from pagews.wire import Draft

from .broker_bench import CHANNELS, Desk, MemoryDesk, RedisDesk, data_of, text_of
from .redis_server import RedisServer
from .rig import draft

#: Opens a desk with limits of its own.
OpenDesk = Callable[..., Coroutine[Any, Any, Desk]]


@pytest.fixture(params=["memory", "redis", "valkey"])
async def open_desk(request: pytest.FixtureRequest) -> AsyncIterator[OpenDesk]:
    server: RedisServer | None = None
    if request.param != "memory":
        server = request.getfixturevalue(f"shared_{request.param}")
        await server.flush()
    async with contextlib.AsyncExitStack() as desks:

        async def open_desk(**limits: Any) -> Desk:
            desk = RedisDesk(server, **limits) if server else MemoryDesk(**limits)
            desks.push_async_callback(desk.broker.stop)
            return await desk.start()

        yield open_desk


def outcome(claim: SendClaim | None) -> tuple[bool, str | None]:
    assert claim is not None
    return claim.granted, text_of(claim.result)


async def test_a_push_is_numbered_filed_and_delivered(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    seq = await desk.broker.publish("page:p", draft(1))
    assert seq > start.seq
    await desk.broker.emit("page:p", draft(2))
    await desk.settle()
    assert [channel for channel, _ in desk.node.delivered] == ["page:p", "page:p"]
    pushes = [message for _, message in desk.node.delivered if isinstance(message, Push)]
    assert [(push.seq, push.data) for push in pushes] == [(seq, 1), (0, 2)]
    assert desk.broker.position.seq >= seq
    replay = await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)
    assert [(push.seq, push.data) for push in replay.messages if isinstance(push, Push)] == [(seq, 1)]


async def test_pushes_are_delivered_by_number_and_as_they_were_made(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    drafts = [
        *(draft(number) for number in range(50)),
        Draft("topic:t", "news", b'{"a":"\xc3\xa9\\n"}', receipt=12),
        Draft("user", "blob", bytes(range(256)), binary=True),
    ]
    filed = await asyncio.gather(*(desk.broker.publish(CHANNELS[n % 5], d) for n, d in enumerate(drafts)))
    await desk.settle()
    pushes = [message for _, message in desk.node.delivered if isinstance(message, Push)]
    numbers = [push.seq for push in pushes]
    assert numbers == sorted(numbers) == sorted(filed)
    by_number = {push.seq: push for push in pushes}
    for made, seq in zip(drafts, filed, strict=True):
        expected, push = Push(seq, made), by_number[seq]
        assert (push.to, push.delegate, push.receipt, push.data) == (
            made.to,
            made.delegate,
            made.receipt,
            expected.data,
        )


async def test_an_idempotency_key_is_filed_once_for_the_retention(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    first = await desk.broker.publish("user:ann", draft(), key="order-7")
    assert await desk.broker.publish("user:ann", draft(), key="order-7") == first
    assert await desk.broker.publish("user:bob", draft(), key="order-7") != first
    await desk.settle()
    assert len(desk.node.delivered) == 2
    await desk.pass_time(61)
    assert await desk.broker.publish("user:ann", draft(), key="order-7") > first


async def test_attach_reads_from_the_cursor(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    cursor = desk.broker.position
    for channel in ("page:p", "session:s", "user:ann", "topic:t", "page:other", "user:bob"):
        await desk.broker.publish(channel, draft(channel))
    attached = await desk.attach(cursor=cursor)
    assert attached.claim is Claim.GRANTED
    assert attached.topics == {"t": 0}
    assert data_of(attached.replay.messages) == ["page:p", "session:s", "user:ann", "topic:t"]
    assert (await desk.attach("q", cursor=Position("other", 0))).replay.lost == "epoch"


async def test_rules_16_and_17_who_gets_a_page(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    assert (await desk.attach(attempt=2)).claim is Claim.GRANTED
    assert (await desk.attach(attempt=1)).claim is Claim.SUPERSEDED
    assert (await desk.attach(attempt=3)).claim is Claim.GRANTED
    assert (await desk.attach(document="x")).claim is Claim.FORKED
    await desk.broker.detach("p", Owner("d", 3), left=False)
    assert (await desk.attach(document="x")).claim is Claim.FORKED
    await desk.broker.detach("p", Owner("d", 3), left=True)
    assert (await desk.attach(document="x")).claim is Claim.GRANTED


async def test_rule_27_gone_comes_once_and_only_for_pages_that_attached(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.broker.set_topics("rendered", [], ["t"], [])
    await desk.attach("cut")
    await desk.attach("left")
    await desk.attach("back")
    await desk.attach("stays")
    for page_id in ("cut", "left", "back"):
        await desk.broker.detach(page_id, Owner("d", 1), left=page_id != "cut")
    await desk.attach("back", attempt=2)
    await desk.pass_time(11)
    assert desk.node.gone_pages == ["left"]
    assert await desk.broker.is_gone("left")
    await desk.pass_time(60)
    await desk.pass_time(60)
    assert desk.node.gone_pages == ["left", "cut"]
    assert not await desk.broker.is_gone("stays")
    await desk.broker.end("stays")
    await desk.broker.end("stays")
    assert desk.node.gone_pages == ["left", "cut", "stays"]
    assert (await desk.attach("stays", attempt=2)).claim is Claim.GRANTED
    assert not await desk.broker.is_gone("stays")


async def test_an_old_socket_detaches_nobody_else(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach(attempt=1)
    await desk.attach(attempt=2)
    await desk.broker.detach("p", Owner("d", 1), left=True)
    await desk.pass_time(100)
    assert desk.node.gone_pages == []


async def test_rule_16_an_attempt_that_comes_again_is_a_claim_of_its_own(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    assert [(await desk.attach(attempt=1)).repeat for _ in range(3)] == [0, 1, 2]
    for stale in (Owner("d", 1), Owner("d", 1, repeat=1)):
        await desk.broker.detach("p", stale, left=True)
    assert await desk.broker.owner("p") == Owner("d", 1, repeat=2)
    await desk.pass_time(100)
    assert desk.node.gone_pages == []
    assert (await desk.attach(attempt=2)).repeat == 0
    assert (await desk.attach(attempt=2, document="x")).claim is Claim.FORKED
    await desk.broker.detach("p", Owner("d", 2), left=True)
    assert (await desk.attach(attempt=2, document="x")).repeat == 0


async def test_a_later_detach_moves_the_end(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach(attempt=1)
    await desk.broker.detach("p", Owner("d", 1), left=False)
    await desk.pass_time(50)
    await desk.attach(attempt=2)
    await desk.broker.detach("p", Owner("d", 2), left=False)
    await desk.pass_time(50)
    assert desk.node.gone_pages == []
    await desk.pass_time(12)
    assert desk.node.gone_pages == ["p"]


async def test_rule_21_topics_are_kept_with_their_since_and_announced(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    await desk.attach()
    before = await desk.broker.publish("topic:new", draft("before"))
    topics = await desk.broker.set_topics("p", ["t"], ["new"], ["t"])
    await desk.settle()
    channel, control = desk.node.delivered[-1]
    assert (channel, control) == ("page:p", Control("topics", control.seq))
    assert topics.keys() == {"new"}
    assert before <= topics["new"] < control.seq
    assert await desk.broker.topics("p") == topics
    await desk.broker.publish("topic:new", draft("after"))
    attached = await desk.attach(attempt=2, cursor=start)
    assert attached.topics == topics
    assert data_of(attached.replay.messages) == ["after"]


async def test_rule_21_who_joins_again_misses_nothing_in_between(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    await desk.attach()
    first = await desk.broker.set_topics("p", [], ["new"], [])
    await desk.broker.publish("topic:new", draft("in between"))
    assert await desk.broker.set_topics("p", [], ["new", "t"], []) == first
    assert data_of((await desk.attach(attempt=2, cursor=start)).replay.messages) == ["in between"]


async def test_topics_of_a_page_that_is_only_rendered(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    topics = await desk.broker.set_topics("p", ["t"], ["u"], [])
    assert topics.keys() == {"t", "u"}
    assert topics["t"] == 0
    assert topics["u"] >= start.seq
    assert await desk.broker.topics("p") == topics
    assert (await desk.attach(topics={"t": 0})).topics == topics
    assert await desk.broker.topics("nobody") is None


async def test_revocation_of_a_session(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    before = await desk.now()
    await desk.broker.revoke("session:s")
    revoked = await desk.broker.revoked("session:s")
    assert revoked is not None
    assert before <= revoked <= await desk.now()
    assert await desk.broker.revoked("session:other") is None
    attached = await desk.attach()
    assert attached.revoked
    assert not attached.topics
    await desk.settle()
    channel, control = desk.node.delivered[-1]
    assert channel == "session:s"
    assert isinstance(control, Control)
    assert control.kind == "revoked"


async def test_revocation_of_a_user_ends_the_logins_before_it(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    login = await desk.now()
    await desk.broker.revoke("user:ann")
    assert (await desk.attach(since=login)).revoked
    await desk.jump(1)
    assert not (await desk.attach()).revoked
    assert not (await desk.attach("q", user_id="bob", since=0)).revoked


async def test_revocations_are_forgotten_after_their_time(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.broker.revoke("session:s")
    await desk.pass_days(399)
    assert await desk.broker.revoked("session:s") is not None
    await desk.pass_days(2)
    assert await desk.broker.revoked("session:s") is None


async def test_rule_25_a_send_is_claimed_once_and_its_result_kept(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    broker = desk.broker
    assert (await broker.claim_send("p", "d", 1)).granted
    assert await broker.claim_send("p", "d", 1) == (False, None)
    await broker.complete_send("p", "d", 1, Text("the result"))
    assert outcome(await broker.claim_send("p", "d", 1)) == (False, "the result")
    assert (await broker.claim_send("p", "other", 2)).granted is False
    assert (await broker.claim_send("nobody", "d", 2)).granted is False
    await broker.complete_send("p", "other", 1, Text("not kept"))
    assert outcome(await broker.claim_send("p", "d", 1)) == (False, "the result")


@pytest.mark.parametrize("limits", [{"results_kept": 3}, {"channel_bytes": 300}])
async def test_results_have_a_bound_and_old_sends_do_not_run_again(open_desk: OpenDesk, limits: dict[str, int]) -> None:
    desk = await open_desk(**limits)
    await desk.attach()
    for number in range(1, 6):
        assert (await desk.broker.claim_send("p", "d", number)).granted
        await desk.broker.complete_send("p", "d", number, Text("x" * 90))
    assert await desk.broker.claim_send("p", "d", 1) == (False, None)
    assert (await desk.broker.claim_send("p", "d", 5)).result is not None
    assert desk.node.results_dropped == 2


async def test_to_ask_for_a_send_claims_nothing(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    broker = desk.broker
    assert await broker.find_send("p", "d", 1) is None
    assert (await broker.claim_send("p", "d", 1)).granted
    assert await broker.find_send("p", "d", 1) == (False, None)
    await broker.complete_send("p", "d", 1, Text("the result"))
    assert outcome(await broker.find_send("p", "d", 1)) == (False, "the result")
    assert await broker.find_send("p", "d", 2) is None
    assert (await broker.claim_send("p", "d", 2)).granted
    assert await broker.find_send("p", "another", 3) == (False, None)


async def test_claims_end_with_their_document(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    await desk.broker.claim_send("p", "d", 1)
    await desk.broker.detach("p", Owner("d", 1), left=True)
    await desk.attach(document="new")
    assert (await desk.broker.claim_send("p", "new", 1)).granted


async def test_answers_go_to_whoever_asked(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.broker.publish("page:p", draft(receipt=7))
    answers = [
        Answer(7, "p", "d", ["page:p", "topic:t"], True, {"a": [1, None, "é"]}),
        Answer(7, "q", "e", [], False, RemoteError("busy", "later")),
    ]
    for answer in answers:
        await desk.broker.answer(answer)
    await desk.node.until(lambda: len(desk.node.answers) >= 2)
    for answer, heard in zip(answers, desk.node.answers, strict=True):
        assert heard[:5] == answer[:5]
    value, error = (answer.value for answer in desk.node.answers)
    assert value == {"a": [1, None, "é"]}
    assert isinstance(error, RemoteError)
    assert (error.code, error.message) == ("busy", "later")


async def test_answers_that_come_at_once_come_once_each(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.broker.publish("topic:t", draft(receipt=7))
    documents = [f"d{number}" for number in range(300)]
    for hundred in range(0, 300, 100):
        some = documents[hundred : hundred + 100]
        await asyncio.gather(*(desk.broker.answer(Answer(7, "p", name, [], True, None)) for name in some))
    await desk.node.until(lambda: len(desk.node.answers) >= 300)
    await desk.settle()
    assert [answer.document for answer in desk.node.answers] == documents


async def test_rule_6_a_record_outlives_every_cursor_of_its_page(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    await desk.broker.set_topics("p", [], ["new"], [])
    await desk.settle()
    cursor = desk.broker.position
    await desk.broker.detach("p", Owner("d", 1), left=False)
    await desk.pass_time(55)
    attached = await desk.attach(attempt=2, cursor=cursor)
    assert attached.replay.lost is None
    assert "new" in attached.topics
    await desk.broker.detach("p", Owner("d", 2), left=False)
    while await desk.broker.topics("p"):
        await desk.pass_time(1)
    assert (await desk.attach(attempt=3, cursor=cursor)).replay.lost == "expired"


async def test_rule_6_no_cursor_outlives_its_record_when_everything_stood_still(open_desk: OpenDesk) -> None:
    for seconds in range(1, 4):
        desk = await open_desk()
        await desk.attach(document=f"d{seconds}")
        await desk.broker.set_topics("p", [], ["new"], [])
        await desk.settle()
        cursor = desk.broker.position
        await desk.broker.detach("p", Owner(f"d{seconds}", 1), left=True)
        await desk.jump(30 * seconds)
        await desk.pass_time(30)
        attached = await desk.attach(document=f"d{seconds}", attempt=2, cursor=cursor)
        assert attached.replay.lost == "expired" or "new" in attached.topics
        await desk.broker.detach("p", Owner(f"d{seconds}", 2), left=True)


async def test_rule_6_nor_that_of_a_page_that_was_ended_while_it_was_attached(open_desk: OpenDesk) -> None:
    for seconds in range(1, 4):
        desk = await open_desk()
        await desk.attach(document=f"d{seconds}")
        assert (await desk.broker.claim_send("p", f"d{seconds}", 1)).granted
        await desk.pass_time(100)
        await desk.settle()
        cursor = desk.broker.position
        await desk.broker.end("p")
        await desk.jump(30 * seconds)
        await desk.pass_time(30)
        attached = await desk.attach(document=f"d{seconds}", attempt=2, cursor=cursor)
        claim = await desk.broker.claim_send("p", f"d{seconds}", 1)
        assert attached.replay.lost == "expired" or not claim.granted
        await desk.broker.detach("p", Owner(f"d{seconds}", 2), left=True)


async def test_rule_6_also_after_a_goodbye_a_document_that_could_resume_finds_its_topics(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    await desk.broker.set_topics("p", [], ["new"], [])
    await desk.settle()
    cursor = desk.broker.position
    await desk.broker.detach("p", Owner("d", 1), left=True)
    await desk.pass_time(15)
    assert desk.node.gone_pages == ["p"]
    attached = await desk.attach(attempt=2, cursor=cursor)
    assert attached.replay.lost is None
    assert "new" in attached.topics
    await desk.broker.detach("p", Owner("d", 2), left=True)
    await desk.pass_time(15)
    assert (await desk.attach(document="other", cursor=cursor)).topics == {"t": 0}


async def test_the_owner_of_a_page_is_the_newest_attempt_until_the_page_is_gone(open_desk: OpenDesk) -> None:
    desk = await open_desk()
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


async def test_variables_are_kept_until_the_page_is_gone(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    broker = desk.broker
    await broker.set_variable("p", "v", b'"x"')
    assert await broker.incr_variable("p", "n", 2) == 2
    assert await broker.incr_variable("p", "n", -3) == -1
    await broker.append_variable("p", "l", b"1")
    await broker.append_variable("p", "l", b'{"a":2}')
    await broker.detach("p", Owner("d", 1), left=False)
    await desk.pass_time(50)
    found = [await broker.get_variable("p", name) for name in ("v", "n", "l", "none")]
    assert found == [b'"x"', b"-1", b'[1,{"a":2}]', None]
    assert await broker.get_variable("other", "v") is None
    await broker.set_variable("p", "v", None)
    assert await broker.get_variable("p", "v") is None
    await desk.pass_time(12)
    assert (desk.node.ended_pages, desk.node.gone_pages) == (["p"], ["p"])
    assert await broker.get_variable("p", "n") is None


async def test_variables_are_dropped_with_the_grace_though_the_document_could_still_resume(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    await desk.broker.set_variable("p", "v", b"1")
    await desk.broker.detach("p", Owner("d", 1), left=True)
    await desk.pass_time(9)
    assert await desk.broker.get_variable("p", "v") == b"1"
    await desk.pass_time(2)
    assert desk.node.gone_pages == ["p"]
    assert await desk.broker.get_variable("p", "v") is None
    with pytest.raises(PageGone):
        await desk.broker.set_variable("p", "v", b"1")
    await desk.attach(attempt=2)
    assert await desk.broker.get_variable("p", "v") is None
    await desk.broker.set_variable("p", "v", b"2")
    assert await desk.broker.get_variable("p", "v") == b"2"


async def test_variables_outlive_a_take_over_within_the_grace(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    await desk.broker.set_variable("p", "v", b"1")
    await desk.broker.detach("p", Owner("d", 1), left=True)
    await desk.pass_time(5)
    await desk.attach(document="other")
    await desk.pass_time(20)
    assert await desk.broker.get_variable("p", "v") == b"1"


async def test_a_page_that_has_ended_keeps_nothing_until_it_comes_back(open_desk: OpenDesk) -> None:
    desk = await open_desk()
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


async def test_a_page_that_never_attaches_ends_after_the_retention_without_being_told_gone(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.broker.keep("works")
    await desk.broker.set_variable("stores", "v", b"1")
    await desk.broker.set_topics("joins", [], ["t"], [])
    await desk.pass_time(55)
    assert desk.node.ended_pages == []
    await desk.broker.set_variable("stores", "v", b"2")  # what is stored later does not prolong its life
    assert await desk.broker.get_variable("stores", "v") == b"2"
    await desk.pass_time(8)
    assert desk.node.ended_pages == ["works", "stores", "joins"]
    assert desk.node.gone_pages == []
    assert await desk.broker.is_gone("stores")
    with pytest.raises(PageGone):
        await desk.broker.set_variable("stores", "v", b"3")
    await desk.pass_time(62)
    assert not await desk.broker.is_gone("stores")


async def test_what_was_stored_before_the_first_attach_is_there_and_the_topics_are_those_of_the_token(
    open_desk: OpenDesk,
) -> None:
    desk = await open_desk()
    await desk.broker.set_variable("p", "v", b"1")
    assert await desk.broker.topics("p") is None
    assert (await desk.attach(topics={"t": 0, "u": 0})).topics == {"t": 0, "u": 0}
    await desk.pass_time(200)
    assert await desk.broker.get_variable("p", "v") == b"1"
    assert desk.node.ended_pages == []


@pytest.mark.parametrize(
    ("limit", "bound", "value", "size"),
    [
        ("variable_bytes", 10, b"x" * 11, 11),
        ("page_bytes", 450, b"1", 3 * (200 + 1 + 1)),
    ],
)
async def test_bounds_of_variables(open_desk: OpenDesk, limit: str, bound: int, value: bytes, size: int) -> None:
    desk = await open_desk(**{limit: bound})
    broker = desk.broker
    for name in ("a", "b"):
        await broker.set_variable("p", name, b"1")
    with pytest.raises(LimitExceeded, match=rf"limits\.{limit} is {bound}") as caught:
        await broker.set_variable("p", "c", value)
    assert (caught.value.limit, caught.value.size, caught.value.bound) == (limit, size, bound)
    assert await broker.get_variable("p", "c") is None
    # What makes it no larger is taken, and what is forgotten makes room.
    await broker.set_variable("p", "a", b"2")
    await broker.set_variable("p", "b", None)
    await broker.set_variable("p", "c", b"1")


async def test_a_list_and_a_number_grow_only_to_their_bound(open_desk: OpenDesk) -> None:
    desk = await open_desk(variable_bytes=9)
    await desk.broker.append_variable("p", "l", b"1111")
    with pytest.raises(LimitExceeded):
        await desk.broker.append_variable("p", "l", b"2222")
    assert await desk.broker.get_variable("p", "l") == b"[1111]"
    await desk.broker.set_variable("p", "n", b"999999999")
    with pytest.raises(LimitExceeded):
        await desk.broker.incr_variable("p", "n", 1)
    assert await desk.broker.get_variable("p", "n") == b"999999999"


async def test_gone_comes_once_for_each_life_of_a_page(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    await desk.broker.detach("p", Owner("d", 1), left=True)
    await desk.pass_time(200)
    await desk.broker.end("p")
    assert desk.node.gone_pages == ["p"]
    await desk.attach(attempt=2)
    await desk.broker.detach("p", Owner("d", 2), left=True)
    await desk.pass_time(200)
    assert desk.node.gone_pages == ["p", "p"]
    assert desk.node.ended_pages == ["p", "p"]


async def test_rule_25_a_page_that_was_ended_and_comes_back_does_not_run_its_sends_again(open_desk: OpenDesk) -> None:
    desk = await open_desk()
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


async def test_what_comes_out_of_a_send_when_its_page_is_gone_is_not_kept(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    assert (await desk.broker.claim_send("p", "d", 1)).granted
    await desk.broker.end("p")
    await desk.broker.complete_send("p", "d", 1, Text("the result"))
    assert await desk.broker.claim_send("p", "d", 1) == (False, None)


async def test_rule_17_a_page_that_was_ended_is_free_for_another_document(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    assert (await desk.broker.claim_send("p", "d", 1)).granted
    await desk.broker.end("p")
    assert (await desk.attach(document="other")).claim is Claim.GRANTED
    assert (await desk.broker.claim_send("p", "other", 1)).granted


async def test_rule_21_a_page_that_ended_before_anybody_attached_it_begins_with_the_topics_of_its_token(
    open_desk: OpenDesk,
) -> None:
    desk = await open_desk()
    await desk.broker.set_topics("p", ["t"], ["joined"], [])
    await desk.broker.end("p")
    assert (await desk.attach(topics={"t": 0})).topics == {"t": 0}


async def test_a_page_is_closed_by_whoever_has_it(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    for code in (4999, 1012):
        await desk.broker.close_page("p", code, "enough: ä")
    await desk.settle()
    # The numbers are those of the log, in which one that may not be missed is filed, where it could be.
    told = [message for _, message in desk.node.delivered if isinstance(message, Control)]
    assert [(message.kind, message.code, message.reason) for message in told] == [
        ("close", code, "enough: ä") for code in (4999, 1012)
    ]


async def test_who_is_attached(open_desk: OpenDesk) -> None:
    desk = await open_desk()

    async def here(channel: str) -> list[Presence]:
        return sorted(await desk.broker.pages(channel))

    p, q = Presence("p", "s", "ann", {"t": 0}), Presence("q", "s", None, {"t": 0, "u": 0})
    desk.node.here = [p, q]
    await desk.attach()
    await desk.attach("q", user_id=None, topics=q.topics)
    await desk.attach("r", session_id="other", document="d", topics={})
    await desk.broker.set_topics("rendered", ["t"], ["u"], [])
    await desk.broker.detach("r", Owner("d", 1), left=False)
    assert [await here(channel) for channel in ("page:p", "page:q")] == [[p], [q]]
    assert [await here(channel) for channel in ("session:s", "user:ann", "topic:t", "topic:u")] == [
        [p, q],
        [p],
        [p, q],
        [q],
    ]
    assert [await here(channel) for channel in ("page:r", "session:other", "user:bob", "topic:new")] == [[]] * 4
    # Who joins, leaves or comes back as somebody else is found there alone.
    p = p._replace(topics=await desk.broker.set_topics("p", [], ["u"], ["t"]))
    await desk.attach("q", attempt=2, user_id="bob", topics={})
    q = q._replace(user_id="bob")
    desk.node.here = [p, q]
    assert [await here(channel) for channel in ("topic:t", "topic:u", "user:bob")] == [[q], [p, q], [q]]
    await desk.broker.end("q")
    desk.node.here = [p]
    assert [await here(channel) for channel in ("page:q", "session:s", "topic:u")] == [[], [p], [p]]


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_rule_1_a_cursor_of_another_log_or_from_the_future_proves_nothing(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    seq = await desk.broker.publish("page:p", draft())
    assert (await desk.broker.read("another", {"page:p": start.seq}, 1000)).lost == "epoch"
    ahead = await desk.broker.read(start.epoch, {"page:p": start.seq, "user:ann": seq + 1000}, 1000)
    assert (ahead.lost, ahead.messages) == ("epoch", [])
    assert (await desk.broker.read(start.epoch, {"page:p": ahead.upto}, 1000)).lost is None


async def test_rule_1_the_watermark_comes_before_the_chain(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    await desk.broker.publish("page:p", draft("old"))
    await desk.pass_time(130)
    # Age has taken the channel with all that it had: the next entry has no predecessor again.
    cursor = desk.broker.position.seq
    await desk.broker.publish("page:p", draft("new"))
    expired = await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)
    assert (expired.lost, expired.messages) == ("expired", [])
    assert data_of((await desk.broker.read(start.epoch, {"page:p": cursor}, 1000)).messages) == ["new"]


async def test_rule_6_a_quiet_log_says_how_long_a_page_was_away(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    await desk.pass_time(55)
    assert (await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)).lost is None
    await desk.pass_time(8)
    assert (await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)).lost == "expired"
    assert desk.broker.position.seq > start.seq


@pytest.mark.parametrize("bound", [{"channel_entries": 2}, {"channel_bytes": 300}])
async def test_rules_1_and_2_a_gap_in_the_chain_is_trimmed(open_desk: OpenDesk, bound: dict[str, int]) -> None:
    desk = await open_desk(**bound)
    start = desk.broker.position
    first, second, _, _ = [await desk.broker.publish("page:p", draft(f"{n}" * 100)) for n in range(1, 5)]

    async def read(cursor: int) -> tuple[str | None, list[str]]:
        replay = await desk.broker.read(start.epoch, {"page:p": cursor, "user:ann": cursor}, 1000)
        return replay.lost, [data[0] for data in data_of(replay.messages)]

    assert await read(start.seq) == ("trimmed", [])
    assert await read(first) == ("trimmed", [])
    assert await read(second) == (None, ["3", "4"])


async def test_rule_2_a_channel_keeps_its_last_entry(open_desk: OpenDesk) -> None:
    desk = await open_desk(channel_bytes=300)

    async def read(cursor: int) -> tuple[str | None, list[str]]:
        replay = await desk.broker.read(desk.broker.position.epoch, {"page:p": cursor}, 10_000)
        return replay.lost, data_of(replay.messages)

    small = await desk.broker.publish("page:p", draft("a"))
    large = await desk.broker.publish("page:p", draft("b" * 1000))
    assert await read(small) == (None, ["b" * 1000])
    assert await read(small - 1) == ("trimmed", [])
    await desk.broker.publish("page:p", draft("c"))
    assert await read(large) == (None, ["c"])
    assert await read(small) == ("trimmed", [])


async def test_rule_3_what_is_younger_than_the_retention_stays(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    cursors = []
    for number in range(8):
        cursors.append(desk.broker.position)
        await desk.broker.publish("page:p", draft(number))
        await desk.pass_time(20)
    for number, cursor in enumerate(cursors):
        replay = await desk.broker.read(cursor.epoch, {"page:p": cursor.seq}, 10_000)
        if number < 5:
            assert (replay.lost, replay.messages) == ("expired", [])
        elif number > 5:  # that one is 60 seconds old
            assert (replay.lost, data_of(replay.messages)) == (None, list(range(number, 8)))


async def test_rule_5_a_read_that_is_limited_ends_at_one_number_for_all_channels(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    channels = ("page:p", "user:ann", "topic:t")
    for number in range(60):
        await desk.broker.publish(channels[0 if number < 30 else number % 3], draft(number))
    found: list[Any] = []
    reads, cursor, more = 0, start.seq, True
    while more:
        lost, messages, upto, more = await desk.broker.read(start.epoch, dict.fromkeys(channels, cursor), 200)
        assert lost is None
        assert upto > cursor or not more
        assert all(cursor < message.seq <= upto for message in messages)
        found += data_of(messages)
        reads, cursor = reads + 1, upto
    assert found == list(range(60))
    assert reads > 3


async def test_rule_5_a_read_is_whole_however_many_entries_a_channel_has(open_desk: OpenDesk) -> None:
    desk = await open_desk(channel_entries=2000)
    start = desk.broker.position
    for number in range(1100):
        await desk.broker.publish("topic:t" if number % 11 else "page:p", draft(number))
    found: list[Any] = []
    cursors, more = {"topic:t": start.seq, "page:p": start.seq}, True
    while more:
        lost, messages, upto, more = await desk.broker.read(start.epoch, cursors, 10**9)
        assert lost is None
        found += data_of(messages)
        cursors = dict.fromkeys(cursors, upto)
    assert found == list(range(1100))


async def test_rule_5_a_read_that_is_limited_passes_over_no_channel(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    pushes: dict[str, list[Any]] = {"topic:t": [0, 1], "user:ann": [2], "page:p": ["x" * 1000]}
    for channel, many in pushes.items():
        for data in many:
            await desk.broker.publish(channel, draft(data))
    found: list[Any] = []
    cursors, more = dict.fromkeys(pushes, start.seq), True
    while more:
        lost, messages, upto, more = await desk.broker.read(start.epoch, cursors, 500)
        assert lost is None
        found += data_of(messages)
        cursors = dict.fromkeys(cursors, upto)
    assert found == [0, 1, 2, "x" * 1000]


async def test_rule_5_a_read_moves_on_even_when_one_entry_is_above_the_limit(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    first = await desk.broker.publish("page:p", draft("x" * 1000))
    await desk.broker.publish("page:p", draft("y" * 1000))
    replay = await desk.broker.read(start.epoch, {"page:p": start.seq}, 1)
    assert (replay.lost, [message.seq for message in replay.messages], replay.upto, replay.more) == (
        None,
        [first],
        first,
        True,
    )


async def test_a_time_to_live_leaves_a_message_out_and_is_no_loss(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    start = desk.broker.position
    await desk.broker.publish("page:p", draft("short"), ttl=20.0)
    await desk.broker.publish("page:p", draft("long"), ttl=1e9)

    async def read() -> tuple[str | None, list[Any]]:
        replay = await desk.broker.read(start.epoch, {"page:p": start.seq}, 1000)
        return replay.lost, data_of(replay.messages)

    assert await read() == (None, ["short", "long"])
    await desk.pass_time(25)
    assert await read() == (None, ["long"])
    await desk.pass_time(40)
    assert await read() == ("expired", [])


# --- what is left -----------------------------------------------------------------------------------------------------


async def test_nothing_of_a_page_outlives_it(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.pass_time(63)  # the log has as many ticks as it ever has
    before = await desk.size()
    for number in range(40):
        page_id = f"page-{number}"
        await desk.attach(page_id, topics={"t": 0, "u": 0})
        await desk.broker.set_topics(page_id, [], ["new"], ["u"])
        await desk.broker.set_variable(page_id, "v", b"1")
        await desk.broker.claim_send(page_id, "d", 1)
        await desk.broker.complete_send(page_id, "d", 1, Text("the result"))
        await desk.broker.claim_send(page_id, "d", 2)
        await desk.broker.publish(f"page:{page_id}", draft(receipt=number + 1), key="once", ttl=5.0)
        await desk.broker.answer(Answer(number + 1, page_id, "d", [], True, 1))
        if number % 4:
            await desk.broker.detach(page_id, Owner("d", 1), left=number % 4 == 1)
        else:
            await desk.broker.end(page_id)
    await desk.broker.set_topics("rendered", [], ["t"], [])
    await desk.broker.set_variable("stores", "v", b"1")
    await desk.broker.end("stores")
    await desk.node.until(lambda: len(desk.node.answers) >= 40)
    await desk.pass_time(200)
    assert sorted(desk.node.gone_pages) == sorted(f"page-{number}" for number in range(40))
    assert await desk.size() == before


async def test_what_is_refused_keeps_nothing(open_desk: OpenDesk) -> None:
    desk = await open_desk(variable_bytes=10, page_bytes=300)
    broker, before = desk.broker, await desk.size()
    await broker.get_variable("p", "v")
    await broker.topics("p")
    await broker.set_variable("p", "v", None)
    await broker.is_gone("p")
    await broker.claim_send("p", "d", 1)
    await broker.complete_send("p", "d", 1, Text("the result"))
    await broker.detach("p", Owner("d", 1), left=True)
    await broker.end("p")
    with pytest.raises(LimitExceeded):
        await broker.set_variable("p", "v", b"x" * 11)
    with pytest.raises(LimitExceeded):
        await broker.set_variable("p", "v" * 200, b"1")
    assert await desk.size() == before


async def test_variables_that_change_at_the_same_time(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    sums = await asyncio.gather(*(desk.broker.incr_variable("p", "n", 1) for _ in range(20)))
    await asyncio.gather(*(desk.broker.append_variable("p", "l", b"%d" % number) for number in range(20)))
    assert sorted(sums) == list(range(1, 21))
    items = await desk.broker.get_variable("p", "l")
    assert items is not None
    assert sorted(json.loads(items)) == list(range(20))
    with pytest.raises(TypeError):
        await desk.broker.incr_variable("p", "l", 1)
    with pytest.raises(TypeError):
        await desk.broker.append_variable("p", "n", b"1")


async def test_rule_25_of_many_who_claim_a_send_one_may_run_it(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    claims = await asyncio.gather(*(desk.broker.claim_send("p", "d", 1) for _ in range(20)))
    assert [claim.granted for claim in claims].count(True) == 1


async def test_rule_25_a_send_that_came_in_another_log_is_not_granted(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    await desk.attach()
    epoch = desk.broker.position.epoch
    # It may have run there: its claim, if there was one, is lost with that log.
    assert await desk.broker.claim_send("p", "d", 1, epoch="another") == (False, None)
    assert (await desk.broker.claim_send("p", "d", 1, epoch=epoch)).granted
    assert await desk.broker.claim_send("p", "d", 1, epoch=epoch) == (False, None)
