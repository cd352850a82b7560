"""A page that comes back: from its cursor, as another document, through a proxy that stalls, or to a loss.

What takes `house` is the same between two workers, of which each socket, poll and post reaches the other one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

import pagews
from pagews import DelegateTableDef, Limits, MemoryBroker
from pagews.site import get_site
from tests.faults import HOST, FaultProxy
from tests.sites import ByTurns, Detached, House, Served, TestSite, serving
from tests.wire_client import Closed, Document, Transport, Visitor, Wire, new_document

table = DelegateTableDef()


@table.on("echo")
async def echo(page: pagews.Page, data: Any) -> Any:
    return data


@pytest.fixture
async def site(house: House) -> AsyncIterator[Served]:
    async with serving(house(delegates=table)) as site:
        yield site


@pytest.fixture
async def visitor(site: Served, transport: Transport) -> AsyncIterator[Visitor]:
    async with Visitor(site.url, transport) as visitor:
        yield visitor


async def lives(wire: Wire) -> bool:
    """Whether a page is still served, and nothing else comes to it before the answer."""
    return await wire.ask("send", 1000, 1, "echo", "here") == ["result", 1000, True, "here"]


async def numbers(wire: Wire, count: int) -> list[Any]:
    """The data of the next pushes."""
    return [(await wire.receive())[4] for _ in range(count)]


async def push_numbers(target: ByTurns, *data: int) -> None:
    for number in data:
        await target.push("count", number)


# --- from render to attach --------------------------------------------------------------------------------------------


async def test_nothing_is_lost_between_render_and_attach(house: House, transport: Transport) -> None:
    async def view(request: web.Request) -> None:
        page = await pagews.open_page(request)
        await page.push("count", 1)
        await page.session.push("count", 2)

    async with serving(house(view=view)) as site, Visitor(site.url, transport) as visitor:
        token = await visitor.token("/?topic=news")
        await push_numbers(site.topic("news"), 3)
        wire = await visitor.attach(token)
        await push_numbers(site.topic("news"), 4)

        assert wire.welcome["resumed"] is True
        assert await numbers(wire, 4) == [1, 2, 3, 4]


async def test_what_was_pushed_before_the_request_is_not_for_its_page(site: Served, visitor: Visitor) -> None:
    # By the worker that renders it; the other ones' pushes of the last second it may be shown.
    await push_numbers(site.topic("news"), 1)
    wire = await visitor.attach(await visitor.token("/?topic=news"))
    await push_numbers(site.topic("news"), 2)

    assert await numbers(wire, 1) == [2]


async def test_a_push_of_qos_0_is_for_attached_pages_alone(site: Served, visitor: Visitor) -> None:
    token = await visitor.token("/?topic=news")
    await site.publisher.topic("news").push("count", 1, qos=0)
    wire = await visitor.attach(token)
    receiving = asyncio.create_task(wire.receive())
    if wire.transport == "poll":
        await site.waiting()
    await site.publisher.topic("news").push("count", 2, qos=0)

    kind, seq, *rest = await receiving
    assert (kind, seq, rest) == ("push", 0, ["topic:news", "count", 2])


# --- from a cursor ----------------------------------------------------------------------------------------------------


async def test_a_page_resumes_from_its_cursor(site: Served, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    wire = await visitor.attach(token, document=document)
    page = site.page(wire.page)
    await push_numbers(page, 1, 2, 3)
    frames = [await wire.receive() for _ in range(3)]
    wire.cut()
    await push_numbers(page, 4, 5)
    # It says that it has only seen the second one.
    again = await visitor.attach(token, document=document, attempt=2, epoch=wire.welcome["epoch"], seq=frames[1][1])
    await push_numbers(page, 6)

    assert (again.welcome["resumed"], again.welcome["lost"]) == (True, None)
    assert (again.page, again.welcome["forked"]) == (wire.page, False)
    replay = [await again.receive() for _ in range(4)]
    assert [frame[4] for frame in replay] == [3, 4, 5, 6]
    assert replay[0] == frames[2]
    assert [frame[1] for frame in replay] == sorted({frame[1] for frame in replay})


async def test_a_cursor_that_a_ping_has_moved_is_as_good(house: House, transport: Transport) -> None:
    async with (
        serving(house(delegates=table, limits=Limits(heartbeat=0.2))) as site,
        Visitor(site.url, transport) as visitor,
    ):
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        await push_numbers(site.page(wire.page), 1)
        assert await numbers(wire, 1) == [1]
        kind, seq = await wire.receive()
        wire.cut()
        again = await visitor.attach(token, document=document, attempt=2, epoch=wire.welcome["epoch"], seq=seq)

        assert kind == "ping"
        assert again.welcome["resumed"] is True
        assert (await again.receive())[0] == "ping"


async def test_a_replay_of_many_chunks_is_complete_and_in_order(house: House, transport: Transport) -> None:
    limits = Limits(replay_chunk=2000, high_water=8000)
    async with serving(house(limits=limits)) as site, Visitor(site.url, transport) as visitor:
        token = await visitor.token("/?topic=news")
        topic = site.topic("news")
        await push_numbers(topic, *range(900))
        wire = await visitor.attach(token)
        await push_numbers(topic, *range(900, 950))

        assert await numbers(wire, 950) == list(range(950))


async def test_a_topic_that_was_joined_is_still_heard_after_a_cut(house: House, transport: Transport) -> None:
    async def anybody(page: pagews.Page, topic: str) -> bool:
        return True

    async with serving(house(authorize=anybody)) as site, Visitor(site.url, transport) as visitor:
        token, document = await visitor.token("/?topic=news"), new_document()
        wire = await visitor.attach(token, document=document)
        assert (await wire.ask("join", 1, "room/7"))[2] is True
        assert (await wire.ask("leave", 2, "news"))[2] is True
        wire.cut()
        await push_numbers(site.topic("room/7"), 1)
        await push_numbers(site.topic("news"), 2)
        await push_numbers(site.topic("room/7"), 3)
        again = await visitor.attach(token, document=document, attempt=2)

        assert await numbers(again, 2) == [1, 3]


async def test_an_answer_after_a_cut_counts(site: Served, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    wire = await visitor.attach(token, document=document)
    asking = asyncio.create_task(site.publisher.page(wire.page).ask("confirm"))
    question = await wire.receive()
    wire.cut()
    again = await visitor.attach(token, document=document, attempt=2, epoch=wire.welcome["epoch"], seq=question[1])
    assert await again.ask("ack", question[5], True, "late") == ["acked", question[5]]

    assert await asking == "late"


async def test_a_question_that_the_cut_has_swallowed_is_asked_again(site: Served, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    wire = await visitor.attach(token, document=document)
    asking = asyncio.create_task(site.publisher.page(wire.page).ask("confirm"))
    question = await wire.receive()
    wire.cut()
    again = await visitor.attach(token, document=document, attempt=2)
    assert await again.receive() == question
    await again.send("ack", question[5], True, "yes")

    assert await asking == "yes"


# --- lost -------------------------------------------------------------------------------------------------------------


async def test_a_cursor_of_another_epoch_is_lost(site: Served, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    await visitor.attach(token, document=document)
    again = await visitor.attach(token, document=document, attempt=2, epoch="0" * 16, seq=0)

    await check_lost(site, again, "epoch")


async def test_a_cursor_ahead_of_the_log_is_lost(site: Served, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    wire = await visitor.attach(token, document=document)
    again = await visitor.attach(token, document=document, attempt=2, epoch=wire.welcome["epoch"], seq=2**53 - 1)

    await check_lost(site, again, "epoch")


@pytest.mark.parametrize("limits", [Limits(channel_entries=3), Limits(channel_bytes=100)])
async def test_a_cursor_that_the_log_has_been_trimmed_beyond_is_lost(
    house: House, limits: Limits, transport: Transport
) -> None:
    async with serving(house(delegates=table, limits=limits)) as site, Visitor(site.url, transport) as visitor:
        token = await visitor.token("/?topic=news")
        await push_numbers(site.topic("news"), *range(10))

        await check_lost(site, await visitor.attach(token), "trimmed")


async def test_a_cursor_within_what_is_left_is_not_lost(house: House, transport: Transport) -> None:
    async with serving(house(limits=Limits(channel_entries=3))) as site, Visitor(site.url, transport) as visitor:
        topic = site.topic("news")
        # An odd number: the last one is pushed by the worker that renders.
        await push_numbers(topic, *range(9))
        token = await visitor.token("/?topic=news")
        await push_numbers(topic, 9, 10, 11)
        wire = await visitor.attach(token)

        assert wire.welcome["resumed"] is True
        assert await numbers(wire, 3) == [9, 10, 11]


class Time:
    """The clock of a broker, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# In one process: the broker goes by a clock that is moved by hand.
async def test_a_page_that_was_away_for_longer_than_the_retention_is_lost(transport: Transport) -> None:
    time, limits = Time(), Limits(retention=60)
    broker = MemoryBroker(limits, clock=time)
    async with (
        serving(TestSite(delegates=table, limits=limits, broker=broker)) as site,
        Visitor(site.url, transport) as visitor,
    ):
        token = await visitor.token()
        broker.tick()
        time.now = 59
        broker.tick()
        in_time = await visitor.attach(token)
        assert in_time.welcome["resumed"] is True
        time.now = 61
        broker.tick()

        # Nothing was pushed, and still nobody can prove that: another document, from the cursor of the token.
        await check_lost(site, await visitor.attach(token), "expired")


# In one process: the broker goes by a clock that is moved by hand.
async def test_a_message_whose_time_is_over_is_left_out_and_is_no_loss(transport: Transport) -> None:
    time = Time()
    broker = MemoryBroker(clock=time)
    async with serving(TestSite(broker=broker)) as site, Visitor(site.url, transport) as visitor:
        token = await visitor.token("/?topic=news")
        topic = site.topic("news")
        await topic.push("count", 1, ttl=5)
        await topic.push("count", 2)
        time.now = 6
        wire = await visitor.attach(token)

        assert wire.welcome["resumed"] is True
        assert await numbers(wire, 1) == [2]


async def check_lost(site: Served, wire: Wire, reason: str) -> None:
    """A page is told that it has lost something, gets nothing of it, and goes on from there."""
    assert (wire.welcome["lost"], wire.welcome["resumed"]) == (reason, False)
    assert site.total(lambda statistics: statistics.lost.get(reason, 0)) == 1
    await site.publisher.page(wire.page).push("count", "next")
    kind, seq, *rest = await wire.receive()

    assert (kind, rest) == ("push", ["page", "count", "next"])
    assert seq > wire.welcome["seq"]
    assert await lives(wire)


# --- documents --------------------------------------------------------------------------------------------------------


async def test_the_higher_attempt_of_a_document_wins(site: Served, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    first = await visitor.attach(token, document=document)
    second = await visitor.attach(token, document=document, attempt=5)
    places = ["here"] if len(site.workers) == 1 else ["here", "elsewhere"]
    moved = [Closed(4509, f"a newer socket of this page is {place}") for place in places]
    late_one = Closed(4509, "a newer socket of this document is here")
    # Between two polls the next one is late.
    assert await first.closed() in ([late_one] if first.transport == "poll" else moved)
    for attempt in (1, 4):
        late = await visitor.open()
        await late.hello(token, document=document, attempt=attempt)
        assert await late.closed() == late_one

    assert await lives(second)
    if second.transport != "poll":  # whose attempts go on with each poll
        # A browser repeats a POST by itself when a connection that it had used before dies without an answer.
        repeated = await visitor.attach(token, document=document, attempt=5)
        assert await second.closed() in moved
        assert await lives(repeated)
    await site.attached(1)
    # Of polls, the next one of the first is another late attempt.
    refused = [Counter(worker.publisher.statistics().refused) for worker in site.workers]
    assert sum(refused, Counter()) == {"superseded": 3 if second.transport == "poll" else 2}


async def test_a_late_attempt_does_not_come_back_after_a_cut(house: House, transport: Transport) -> None:
    site = house()
    detached = Detached(site)
    async with serving(site), Visitor(site.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document, attempt=2)
        await site.break_off(wire)
        assert await detached.next() == wire.page
        late = await visitor.open()
        await late.hello(token, document=document, attempt=1)

        assert (await late.closed()).code == 4509
        assert (await visitor.attach(token, document=document, attempt=3)).page == wire.page


async def test_a_second_document_is_forked_and_both_live(site: Served, visitor: Visitor) -> None:
    token = await visitor.token("/?topic=news")
    first = await visitor.attach(token)
    await push_numbers(site.page(first.page), 1)
    await push_numbers(site.topic("news"), 2)
    second = await visitor.attach(token, document=(document := new_document()))
    await push_numbers(site.topic("news"), 3)
    await push_numbers(site.page(second.page), 4)

    assert second.welcome["forked"] is True
    assert second.welcome["resumed"] is True
    assert second.page != first.page
    assert await numbers(first, 3) == [1, 2, 3]
    # From the cursor of the token, without the other page's own channel.
    assert await numbers(second, 3) == [2, 3, 4]
    assert await lives(first)
    assert await lives(second)
    # Its token is its own: it comes back as what it has become.
    again = await visitor.attach(second.welcome["token"], document=document, attempt=2)
    assert (again.page, again.welcome["forked"]) == (second.page, False)


async def test_a_second_document_is_forked_while_the_first_is_merely_cut(house: House, transport: Transport) -> None:
    site = house(delegates=table)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        first = await visitor.attach(token, document=document)
        await site.break_off(first)
        assert await detached.next() == first.page
        second = await visitor.attach(token)
        back = await visitor.attach(token, document=document, attempt=2)

        assert second.welcome["forked"] is True
        assert (back.page, back.welcome["forked"]) == (first.page, False)
        assert await lives(second)


async def test_a_fork_listens_to_what_its_page_had_joined(house: House, transport: Transport) -> None:
    async def anybody(page: pagews.Page, topic: str) -> bool:
        return True

    async with serving(house(authorize=anybody)) as site, Visitor(site.url, transport) as visitor:
        token = await visitor.token()
        first = await visitor.attach(token)
        await first.ask("join", 1, "room/7")
        second = await visitor.attach(token)
        await push_numbers(site.topic("room/7"), 1)

        assert second.welcome["forked"] is True
        assert await numbers(second, 1) == [1]


async def test_a_page_that_said_goodbye_is_taken_over_from_the_cursor_of_the_token(
    house: House, transport: Transport
) -> None:
    site = house(delegates=table)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, transport) as visitor:
        token = await visitor.token()
        first = await visitor.attach(token)
        await push_numbers(site.page(first.page), 1)
        assert await numbers(first, 1) == [1]
        assert (await first.ask("send", 1, 2, "echo", "a"))[3] == "a"
        await first.send("bye")
        assert (await first.closed()).code == 1000
        assert await detached.next() == first.page
        second = await visitor.attach(token)

        assert (second.page, second.welcome["forked"]) == (first.page, False)
        assert await numbers(second, 1) == [1]
        # Its sends are its own: the same number is no repetition.
        assert (await second.ask("send", 1, 2, "echo", "b"))[3] == "b"


# In one process: the broker goes by a clock that is moved by hand.
async def test_a_page_that_said_goodbye_is_gone_after_the_grace(transport: Transport) -> None:
    gone: list[str] = []
    time = Time()
    broker = MemoryBroker(clock=time)
    site = TestSite(delegates=table, broker=broker)
    detached = Detached(site)

    async def note(page: pagews.Page) -> None:
        gone.append(page.id)

    get_site(site.app).publisher.on_gone.append(note)
    async with serving(site), Visitor(site.url, transport) as visitor:
        token = await visitor.token()
        wire = await visitor.attach(token)
        await wire.send("bye")
        await wire.closed()
        await detached.next()
        time.now = Limits().grace - 1
        broker.tick()
        with pytest.raises(pagews.AskTimeout):
            await site.publisher.page(wire.page).ask("confirm", timeout=0.01)
        time.now = Limits().grace + 1
        broker.tick()
        with pytest.raises(pagews.PageGone):
            await site.publisher.page(wire.page).ask("confirm")
    assert gone == [wire.page]


async def test_a_result_goes_to_the_socket_that_the_document_has_by_then(house: House, transport: Transport) -> None:
    go, started, runs = asyncio.Event(), asyncio.Event(), []
    slow = DelegateTableDef()

    @slow.on("slow")
    async def run(page: pagews.Page, data: Any) -> str:
        runs.append(data)
        started.set()
        await go.wait()
        return "done"

    async with serving(house(delegates=slow)) as site, Visitor(site.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        await wire.send("send", 1, 2, "slow", "a")
        await started.wait()
        # Of two workers, also there and back again.
        for attempt in (2, 3, 4):
            wire.cut()
            wire = await visitor.attach(token, document=document, attempt=attempt)
            await wire.send("send", 1, 2, "slow", "a")
            assert await wire.ask("ack", 9, True, None) == ["acked", 9]
        go.set()

        result = ["result", 1, True, "done"]
        assert await wire.receive() == result
        frame = await wire.ask("send", 2, 1, "none", None)
        if len(site.workers) > 1 and frame == result:
            # One has told it to the page that is here, the other has answered the post that has asked again.
            frame = await wire.receive()
        assert frame[:3] == ["result", 2, False]
    assert runs == ["a"]


# --- slow readers -----------------------------------------------------------------------------------------------------

SLOW = Limits(high_water=100_000, channel_entries=10_000, channel_bytes=64 * 1024 * 1024, heartbeat=600, stuck=0.3)


async def push_until_it_lags(site: Served) -> int:
    """Push to a page that does not read until the server notices, and then more; returns how many.

    The buffers of the kernel and the proxy come first, and the proxy's may take a little more afterwards.
    """
    big = site.topic("big")
    more = 100
    for number in range(5000):
        await big.push("count", [number, "x" * 10_000])
        # The output is written at the end of a turn of the loop.
        await asyncio.sleep(0)
        if site.total(lambda statistics: statistics.dropped.get("lagged", 0)):
            more -= 1
            if not more:
                return number + 1
    raise AssertionError("nothing lags")


def has_ended(document: Document) -> bool:
    return bool(document.received) and document.received[-1].data == ["end"]


# An answer to a poll is written as a whole: what comes after it waits for the next one.
@pytest.mark.parametrize("transport", ["websocket", "stream"])
async def test_a_slow_reader_is_not_written_to_and_catches_up_from_the_log(house: House, transport: Transport) -> None:
    async with (
        serving(house(limits=replace(SLOW, stuck=60))) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url, transport) as visitor,
        Visitor(site.url, transport) as other,
        Document(visitor, await visitor.token("/?topic=big&topic=small")) as document,
    ):
        bystander = await other.attach(await other.token("/?topic=small"))
        await document.until(lambda document: bool(document.welcomes))
        proxy.links[-1].down.stall()
        pushed = await push_until_it_lags(site)
        await site.publisher.topic("small").push("count", ["dropped"], qos=0)
        await site.publisher.topic("small").push("count", ["end"])
        # Another page does not notice.
        assert await numbers(bystander, 2) == [["dropped"], ["end"]]
        proxy.resume()
        await document.until(has_ended)

        assert [push.data[0] for push in document.received] == [*range(pushed), "end"]
        assert (document.repeated, len(document.welcomes), document.closes) == (0, 1, [])
        assert site.total(lambda statistics: statistics.dropped.get("qos 0", 0)) == 1
        assert proxy.counts["stalled"] == proxy.counts["resumed"] == 1


@pytest.mark.parametrize("transport", ["websocket", "stream"])
async def test_a_reader_that_is_stuck_is_closed_and_comes_back(house: House, transport: Transport) -> None:
    site = house(limits=SLOW)
    detached = Detached(site)
    async with (
        serving(site),
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url, transport) as visitor,
        Document(visitor, await visitor.token("/?topic=big")) as document,
    ):
        await document.until(lambda document: bool(document.welcomes))
        link = proxy.links[-1]
        link.stall()
        pushed = await push_until_it_lags(site)
        await detached.next()
        assert site.total(lambda statistics: statistics.closed.get(4008, 0)) == 1
        await site.publisher.topic("big").push("count", ["end"])
        link.cut()
        await document.until(has_ended)

        assert [push.data[0] for push in document.received] == [*range(pushed), "end"]
        assert len(document.welcomes) == 2


# In one process: it looks at what that holds for its pages.
async def test_polls_of_a_slow_reader_take_no_more_than_an_answer_each_and_catch_up_from_the_log() -> None:
    async with (
        serving(TestSite(limits=SLOW)) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url, "poll") as visitor,
        Visitor(site.url, "poll") as other,
        Document(visitor, await visitor.token("/?topic=big&topic=small")) as document,
    ):
        bystander = await other.attach(await other.token("/?topic=small"))
        await document.until(lambda document: bool(document.welcomes))
        await site.waiting()
        proxy.links[-1].down.stall()
        big, polls = site.publisher.topic("big"), site.publisher.statistics().sent
        for number in range(1000):
            await big.push("count", [number, "x" * 10_000])
            await asyncio.sleep(0)
        heard = asyncio.create_task(numbers(bystander, 2))
        await site.waiting()
        await site.publisher.topic("small").push("count", ["dropped"], qos=0)
        # Behind its answer the server writes nothing that the page does not ask for.
        assert sum(socket._carrier.backlog() for socket in get_site(site.app).sockets) < 100_000
        assert site.publisher.statistics().sent == polls + 1, "the bystander's"
        await site.publisher.topic("small").push("count", ["end"])
        # Another page does not notice.
        assert await heard == [["dropped"], ["end"]]
        proxy.resume()
        await document.until(has_ended)

        assert [push.data[0] for push in document.received] == [*range(1000), "end"]
        assert (document.repeated, len(document.welcomes), document.closes) == (0, 1, [])
        assert 4008 not in site.publisher.statistics().closed


async def test_a_page_far_behind_that_does_not_poll_in_time_is_detached_and_comes_back(house: House) -> None:
    site = house(limits=SLOW)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, "poll") as visitor:
        token = await visitor.token("/?topic=big")
        for number in range(100):
            await site.publisher.topic("big").push("count", [number, "x" * 10_000])
        wire = await visitor.attach(token)
        assert await detached.next() == wire.page
        assert site.total(lambda statistics: statistics.closed.get(4008, 0)) == 1
        await site.publisher.topic("big").push("count", ["end"])

        seen = [(await wire.receive())[4][0] for _ in range(101)]
        assert seen == [*range(100), "end"]
