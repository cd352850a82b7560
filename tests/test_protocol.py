"""What an attached page and the server say to each other, frame by frame, by a client that shares no code with it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import Struct

import pagews
from pagews import DelegateTableDef, Limits
from tests.sites import Detached, TestSite, serving
from tests.threats import lives
from tests.wire_client import Closed, Transport, Visitor, WebSocketWire, Wire

# Half an interval: what the server waits for a pong after a ping that was not answered.
BEAT = Limits(heartbeat=0.2)

table = DelegateTableDef()


class Order(Struct):
    item: str
    count: int = 1


@table.on("echo")
async def echo(page: pagews.Page, data: Any) -> Any:
    return data


@table.on("upload")
async def upload(page: pagews.Page, data: bytes) -> bytes:
    return data[::-1]


@table.on("order")
async def order(page: pagews.Page, data: Order) -> str:
    return f"{data.count} {data.item}"


@table.on("refuse")
async def refuse(page: pagews.Page, data: Any) -> None:
    raise pagews.DelegateError("sold-out", "come back tomorrow")


@table.on("break")
async def break_(page: pagews.Page, data: Any) -> None:
    raise LookupError("what nobody may read")


@table.on("nonsense")
async def nonsense(page: pagews.Page, data: Any) -> object:
    return object()


@table.on("hang")
async def hang(page: pagews.Page, data: Any) -> None:
    await asyncio.Event().wait()


@table.on("question")
async def question(page: pagews.Page, data: Any) -> Any:
    return await page.ask("confirm", data)


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=table)) as site:
        yield site


# --- the corpus -------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A frame of the corpus that a page may, or may not, send."""

    message: str | bytes
    ok: bool
    why: str

    @property
    def kind(self) -> str | None:
        """What it says it is; None if that cannot be read."""
        try:
            text = self.message if isinstance(self.message, str) else self.message[4:][: self.message[3]]
            kind = json.loads(text)[0]
        except (ValueError, LookupError, TypeError):
            return None
        return kind if isinstance(kind, str) else None


def corpus() -> list[Case]:
    cases = json.loads(Path(__file__).with_name("wire_corpus.json").read_text())
    return [
        Case(base64.b64decode(case["base64"]) if "base64" in case else case["frame"], case["ok"], case["why"])
        for case in cases
        if case["direction"] == "up"
    ]


GOOD = [case for case in corpus() if case.ok]
BAD = [case for case in corpus() if not case.ok]


def test_the_corpus_has_frames_of_every_kind() -> None:
    kinds = {"hello", "send", "ack", "join", "leave", "bye", "pong"}

    assert {case.kind for case in GOOD} == kinds
    # A goodbye has nothing in it that could be wrong.
    assert kinds - {"bye"} <= {case.kind for case in BAD}


@pytest.mark.parametrize("case", [case for case in GOOD if case.kind not in ("hello", "bye")], ids=str)
async def test_a_good_frame_is_taken(wire: Wire, case: Case) -> None:
    await wire.send_raw(case.message)
    await wire.send("send", 1000, 1, "echo", "still here")
    while (frame := await wire.receive())[:2] != ["result", 1000]:
        assert frame[0] in ("result", "acked")

    assert frame == ["result", 1000, True, "still here"]


@pytest.mark.parametrize("case", [case for case in GOOD if case.kind == "bye"], ids=str)
async def test_a_goodbye_is_answered_with_a_normal_close(wire: Wire, case: Case) -> None:
    await wire.send_raw(case.message)

    assert (await wire.closed()).code == 1000


@pytest.mark.parametrize("case", [case for case in GOOD if case.kind == "hello"], ids=str)
async def test_a_good_hello_is_refused_for_its_token_alone(visitor: Visitor, case: Case) -> None:
    wire = await visitor.open()
    await wire.send_raw(case.message)

    assert (await wire.closed()).code == 4500


@pytest.mark.parametrize("case", BAD, ids=str)
async def test_threat_22_a_bad_frame_ends_its_socket_and_no_other(
    site: TestSite, visitor: Visitor, wire: Wire, case: Case
) -> None:
    culprit = await visitor.open() if case.kind == "hello" else await visitor.attach()
    await culprit.send_raw(case.message)
    code, reason = await culprit.closed()

    assert code == 4501
    assert reason
    assert site.publisher.statistics().refused["malformed frame"] == 1
    assert await lives(wire)
    assert await lives(await visitor.attach())


# --- the first frame --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in GOOD if case.kind != "hello"], ids=str)
async def test_threat_22_the_first_frame_must_be_a_hello(site: TestSite, visitor: Visitor, case: Case) -> None:
    wire = await visitor.open()
    await wire.send_raw(case.message)
    code, reason = await wire.closed()

    assert code == 4501
    if isinstance(case.message, str) or wire.transport == "websocket":  # others begin with text
        assert reason == "the first frame must be a hello"
    assert site.publisher.statistics().refused == {"malformed frame": 1}


async def test_threat_22_a_second_hello_is_refused(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token()
    wire = await visitor.attach(token)
    await wire.hello(token, attempt=2)

    assert await wire.closed() == Closed(4501, "a second hello")
    assert site.publisher.statistics().refused == {"malformed frame": 1}


@pytest.mark.parametrize("transport", ["websocket"])
async def test_threat_16_no_hello_in_time(transport: Transport) -> None:
    async with (
        serving(TestSite(delegates=table, limits=Limits(hello=0.1))) as site,
        Visitor(site.url, transport) as visitor,
    ):
        punctual = await visitor.attach()
        silent = await visitor.open()

        assert await silent.closed() == Closed(4002, "no hello in time")
        assert site.publisher.statistics().closed == {4002: 1}
        # The silent one came later: the time of the punctual one is over too.
        assert await lives(punctual)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
async def test_threat_12_a_message_at_the_limit_is_taken_and_one_above_it_is_not(
    binary: bool, transport: Transport
) -> None:
    limit = 1000
    site = TestSite(delegates=table, limits=Limits(message_up=limit))
    detached = Detached(site)
    async with serving(site), Visitor(site.url, transport) as visitor:
        wire, bystander = await visitor.attach(), await visitor.attach()
        assert wire.welcome["limits"] == {"message": limit}
        if binary:
            room = limit - 4 - len(json.dumps(["send", 1, 1, "echo", None]))
            await wire.send_binary(b"x" * room, "send", 1, 1, "echo", None)
            assert await wire.receive() == ["result", 1, True, b"x" * room]
            await wire.send_binary(b"x" * (room + 1), "send", 1, 1, "echo", None)
        else:
            room = limit - len(json.dumps(["send", 1, 1, "echo", ""]))
            assert await wire.ask("send", 1, 1, "echo", "x" * room) == ["result", 1, True, "x" * room]
            await wire.send("send", 2, 1, "echo", "x" * (room + 1))

        assert (await wire.closed()).code == 1009
        if transport != "poll":  # whose silence is only noticed in time
            assert await detached.next() == wire.page
        assert site.publisher.statistics().refused["message too big"] == 1
        assert await lives(bystander)


@pytest.mark.parametrize("transport", ["websocket"])
async def test_a_message_in_many_fragments_is_one_message(wire: Wire) -> None:
    assert isinstance(wire, WebSocketWire)
    await wire.ws.send(iter(json.dumps(["send", 1, 1, "echo", "in pieces"])))

    assert await wire.receive() == ["result", 1, True, "in pieces"]


@pytest.mark.parametrize("transport", ["websocket"])
async def test_threat_12_fragments_that_are_too_big_together(visitor: Visitor, site: TestSite) -> None:
    wire = await visitor.attach()
    assert isinstance(wire, WebSocketWire)
    piece = "x" * (Limits().message_up // 4)
    await wire.ws.send(iter([piece] * 5))

    assert (await wire.closed()).code == 1009
    assert site.publisher.statistics().refused == {"message too big": 1}


@pytest.mark.parametrize("transport", ["websocket"])
async def test_threat_23_text_that_is_not_utf8(site: TestSite, visitor: Visitor, wire: Wire) -> None:
    culprit = await visitor.attach()
    assert isinstance(culprit, WebSocketWire)
    await culprit.ws.send(b'["pong","\xff"]', text=True)

    assert (await culprit.closed()).code == 1007
    assert site.publisher.statistics().refused == {"malformed frame": 1}
    assert await lives(wire)


# --- pushes -----------------------------------------------------------------------------------------------------------


async def test_a_push_as_it_is_written(site: TestSite, wire: Wire) -> None:
    await site.publisher.page(wire.page).push("growl", {"text": "h\u00e9 \u2028"})
    kind, seq, *rest = await wire.receive()

    assert (kind, rest) == ("push", ["page", "growl", {"text": "h\u00e9 \u2028"}])
    assert seq > wire.welcome["seq"]


@pytest.mark.parametrize("data", [None, True, 0, -1.5, "", [], {}, [[1], {"a": None}], b"", b"\x00\xff"])
@pytest.mark.parametrize("qos", [0, 1])
async def test_any_data_comes_as_it_was(site: TestSite, wire: Wire, data: Any, qos: Any) -> None:
    receiving = asyncio.create_task(wire.receive())
    if wire.transport == "poll":
        # Between two polls nobody is there to hear a push of qos 0.
        await site.waiting()
    await site.publisher.page(wire.page).push("any", data, qos=qos)
    [_, seq, *rest] = await receiving

    assert rest == ["page", "any", data]
    assert bool(seq) == bool(qos)


async def test_pushes_of_all_targets_come_in_the_order_of_acceptance(site: TestSite, transport: Transport) -> None:
    async with Visitor(site.url, transport) as visitor:
        await visitor.get("/login?user=ann")
        wire = await visitor.attach(await visitor.token("/?topic=news&topic=sport"))
        [page] = await site.publisher.page(wire.page).pages()
        assert page.user is not None
        targets: list[pagews.Target] = [page, page.session, page.user]
        targets += [site.publisher.topic("news"), site.publisher.topic("sport")]
        for number in range(50):
            await targets[number * 7 % 5].push("count", number)
        received = [await wire.receive() for _ in range(50)]

    to = ["page", "session", "user", "topic:news", "topic:sport"]
    assert [frame[2:] for frame in received] == [[to[number * 7 % 5], "count", number] for number in range(50)]
    seqs = [frame[1] for frame in received]
    assert seqs == sorted(set(seqs))


async def test_a_push_reaches_whom_it_is_for(site: TestSite, transport: Transport) -> None:
    async with Visitor(site.url, transport) as ann, Visitor(site.url, transport) as bob:
        await ann.get("/login?user=ann")
        first, second = await ann.attach(await ann.token("/?topic=news")), await ann.attach()
        third = await bob.attach(await bob.token("/?topic=news"))
        [page] = await site.publisher.page(first.page).pages()
        await page.push("to", "page")
        await page.session.push("to", "session")
        await site.publisher.user("ann").push("to", "user")
        await site.publisher.topic("news").push("to", "topic")
        for wire in (first, second, third):
            await site.publisher.page(wire.page).push("to", "end")

        assert [await told(wire) for wire in (first, second, third)] == [
            ["page", "session", "user", "topic", "end"],
            ["session", "user", "end"],
            ["topic", "end"],
        ]


async def told(wire: Wire) -> list[str]:
    """What came, up to the word `end`."""
    words = []
    while "end" not in words:
        words.append((await wire.receive())[4])
    return words


async def test_a_push_with_a_key_is_filed_once(site: TestSite, wire: Wire) -> None:
    page = site.publisher.page(wire.page)
    for number in (1, 2, 3):
        await page.push("order", number, key="order-7")
    await page.push("order", "end")

    assert [(await wire.receive())[4] for _ in range(2)] == [1, "end"]


# --- pings ------------------------------------------------------------------------------------------------------------


async def test_pings_move_the_cursor_and_ask_for_a_sign_of_life(transport: Transport) -> None:
    async with serving(TestSite(delegates=table, limits=BEAT)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        assert wire.welcome["heartbeat"] == BEAT.heartbeat
        seqs = [wire.welcome["seq"]]
        for _ in range(4):
            kind, seq = await wire.receive()
            assert kind == "ping"
            seqs.append(seq)
            await wire.send("pong")

    # Time takes numbers: a page that hears nothing else is not left behind.
    assert seqs == sorted(set(seqs))


async def test_a_silent_page_is_given_up(transport: Transport) -> None:
    site = TestSite(delegates=table, limits=BEAT)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, transport) as visitor:
        silent, alive = await visitor.attach(), await visitor.attach()
        ended = asyncio.create_task(detached.next())
        while not ended.done():
            if (await alive.receive())[0] == "ping":
                await alive.send("pong")

        assert await ended == silent.page
        assert site.publisher.statistics().dropped == {"silent": 1}
        assert site.publisher.statistics().closed[4008] == 1
        if transport == "poll":  # which has asked for nothing, and is welcome when it does
            await site.publisher.page(silent.page).push("any", "since then")
            assert (await silent.receive())[3:] == ["any", "since then"]
            assert site.publisher.statistics().attached == 2
        else:
            assert await silent.closed() == Closed(4008, "the page is silent")


@pytest.mark.parametrize("transport", ["websocket"])
async def test_a_pong_of_the_browser_is_no_sign_of_the_pages_life(transport: Transport) -> None:
    async with serving(TestSite(delegates=table, limits=BEAT)) as site, Visitor(site.url, transport) as visitor:
        frozen = await visitor.attach()
        assert isinstance(frozen, WebSocketWire)
        ended = asyncio.create_task(frozen.closed())
        while not ended.done():
            await frozen.ws.pong()
            await asyncio.wait([ended], timeout=BEAT.heartbeat / 4)

        assert (await ended).code == 4008


# --- send -------------------------------------------------------------------------------------------------------------


async def test_a_send_is_answered_with_what_the_delegate_returned(wire: Wire) -> None:
    assert await wire.ask("send", 1, 1, "echo", {"hello": "world"}) == ["result", 1, True, {"hello": "world"}]
    assert await wire.ask("send", 2, 1, "order", {"item": "tea"}) == ["result", 2, True, "1 tea"]


async def test_a_send_of_qos_0_is_not_answered(site: TestSite, wire: Wire) -> None:
    for number, delegate in enumerate(("echo", "none", "break", "order"), 1):
        await wire.send("send", number, 0, delegate, "nobody hears")

    assert await lives(wire)
    assert site.publisher.statistics().failed["delegate"] == 1


async def test_bytes_both_ways(wire: Wire) -> None:
    await wire.send_binary(b"\x00\x01\xff", "send", 1, 1, "upload", None)
    assert await wire.receive() == ["result", 1, True, b"\xff\x01\x00"]
    await wire.send_binary(b"", "send", 2, 1, "upload", None)
    assert await wire.receive() == ["result", 2, True, b""]


@pytest.mark.parametrize(
    ("delegate", "data", "code"),
    [
        ("none", None, "unknown-delegate"),
        ("order", {"count": 2}, "invalid-data"),
        ("order", {"item": 5}, "invalid-data"),
        ("order", "tea", "invalid-data"),
        ("upload", "not base64!", "invalid-data"),
        ("refuse", None, "sold-out"),
        ("break", None, "internal"),
        ("nonsense", None, "internal"),
    ],
)
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_send_that_fails_says_why_and_the_page_goes_on(
    wire: Wire, delegate: str, data: Any, code: str, qos: int
) -> None:
    kind, number, ok, error = await wire.ask("send", 1, qos, delegate, data)

    assert (kind, number, ok, error["code"]) == ("result", 1, False, code)
    assert set(error) == {"code", "message"}
    assert "what nobody may read" not in error["message"]
    assert await lives(wire)


async def test_an_error_of_the_delegate_says_what_and_where(wire: Wire) -> None:
    assert (await wire.ask("send", 1, 1, "refuse", None))[3] == {"code": "sold-out", "message": "come back tomorrow"}
    assert "$.item" in (await wire.ask("send", 2, 1, "order", {"item": 5}))[3]["message"]
    assert "count" not in (await wire.ask("send", 3, 1, "order", {"count": 5}))[3]["code"]


async def test_a_delegate_that_takes_too_long(site: TestSite, transport: Transport) -> None:
    async with (
        serving(TestSite(delegates=table, limits=Limits(callback=0.05))) as site,
        Visitor(site.url, transport) as visitor,
    ):
        wire = await visitor.attach()

        assert (await wire.ask("send", 1, 1, "hang", None))[3]["code"] == "timeout"
        assert await lives(wire)


class Counting:
    """A delegate that notes every run, and waits to be let go."""

    def __init__(self) -> None:
        self.table = DelegateTableDef()
        self.runs: list[Any] = []
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

        @self.table.on("count")
        async def count(page: pagews.Page, data: Any) -> str:
            self.runs.append(data)
            self.started.set()
            await self.go.wait()
            return f"run {len(self.runs)}"


# Posts wait for each other at the browser.
@pytest.mark.parametrize("transport", ["websocket"])
async def test_more_sends_than_may_wait(transport: Transport) -> None:
    counting = Counting()
    counting.go.clear()
    async with (
        serving(TestSite(delegates=[counting.table, table], limits=Limits(sends_waiting=2))) as site,
        Visitor(site.url, transport) as visitor,
    ):
        wire = await visitor.attach()
        await wire.send("send", 1, 1, "count", None)
        await counting.started.wait()
        await wire.send("send", 2, 1, "echo", 2)
        await wire.send("send", 3, 1, "echo", 3)
        for number, qos in ((4, 1), (5, 2)):
            assert (await wire.ask("send", number, qos, "echo", number))[:3] == ["result", number, False]
        await wire.send("send", 6, 0, "echo", 6)
        kind, number, ok, error = await wire.ask("join", 7, "room/7")
        assert (kind, number, ok, error["code"]) == ("result", 7, False, "limit")
        counting.go.set()

        assert [(await wire.receive())[1] for _ in range(3)] == [1, 2, 3]
        assert site.publisher.statistics().refused["sends waiting"] == 4
        assert await lives(wire)


async def test_rule_25_a_repeat_is_answered_with_its_result_though_no_more_sends_may_wait() -> None:
    counting = Counting()
    async with (
        serving(TestSite(delegates=[counting.table, table], limits=Limits(sends_waiting=1))) as site,
        Visitor(site.url) as visitor,
    ):
        wire = await visitor.attach()
        assert await wire.ask("send", 1, 2, "count", "once") == ["result", 1, True, "run 1"]
        counting.go.clear()
        counting.started.clear()
        await wire.send("send", 2, 1, "count", None)
        await counting.started.wait()
        await wire.send("send", 3, 1, "echo", 3)

        assert await wire.ask("send", 1, 2, "count", "once") == ["result", 1, True, "run 1"]
        assert (await wire.ask("send", 4, 2, "count", "never"))[3]["code"] == "limit"
        counting.go.set()
        assert [(await wire.receive())[1] for _ in range(2)] == [2, 3]
        # What was refused has not run, and may be sent again.
        assert await wire.ask("send", 4, 2, "count", "once more") == ["result", 4, True, "run 3"]
        assert counting.runs == ["once", None, "once more"]


async def test_bytes_that_wait_are_counted_as_the_browser_counts_them() -> None:
    counting = Counting()
    counting.go.clear()
    waiting = ['["send",2,1,"echo",2]', '["send",3,1,"echo","' + "x" * 200 + '"]', '["send",4,1,"echo",""]']
    limits = Limits(sends_bytes=sum(len(frame) for frame in waiting))
    async with (
        serving(TestSite(delegates=[counting.table, table], limits=limits)) as site,
        Visitor(site.url) as visitor,
    ):
        wire = await visitor.attach()
        await wire.send("send", 1, 1, "count", None)
        await counting.started.wait()
        for frame in waiting:
            await wire.send_raw(frame)
        assert (await wire.ask("send", 5, 1, "echo", 5))[3]["code"] == "limit"
        counting.go.set()

        assert [(await wire.receive())[1:3] for _ in range(4)] == [[number, True] for number in (1, 2, 3, 4)]


async def test_a_send_of_qos_1_that_is_repeated_runs_again_once_it_has_run(transport: Transport) -> None:
    counting = Counting()
    async with serving(TestSite(delegates=counting.table)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()

        assert await wire.ask("send", 1, 1, "count", "a") == ["result", 1, True, "run 1"]
        assert await wire.ask("send", 1, 1, "count", "a") == ["result", 1, True, "run 2"]


# Posts wait for each other at the browser.
@pytest.mark.parametrize("transport", ["websocket"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_send_that_is_repeated_while_it_runs_is_answered_once(qos: int, transport: Transport) -> None:
    counting = Counting()
    counting.go.clear()
    async with serving(TestSite(delegates=counting.table)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        await wire.send("send", 1, qos, "count", "a")
        await counting.started.wait()
        await wire.send("send", 1, qos, "count", "a")
        # An answer does not wait behind a delegate: what was sent before it has been read too.
        assert await wire.ask("ack", 9, True, None) == ["acked", 9]
        counting.go.set()

        assert await wire.receive() == ["result", 1, True, "run 1"]
        assert (await wire.ask("send", 2, 1, "none", None))[:2] == ["result", 2]
    assert counting.runs == ["a"]


async def test_threat_21_a_send_of_qos_2_that_is_repeated_gets_the_stored_result(transport: Transport) -> None:
    counting = Counting()
    async with serving(TestSite(delegates=counting.table)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        for _ in range(3):
            assert await wire.ask("send", 1, 2, "count", "a") == ["result", 1, True, "run 1"]
        assert await wire.ask("send", 2, 2, "count", "b") == ["result", 2, True, "run 2"]
    assert counting.runs == ["a", "b"]


async def test_a_result_of_qos_2_that_is_not_kept_any_more_is_unknown(transport: Transport) -> None:
    counting = Counting()
    async with (
        serving(TestSite(delegates=counting.table, limits=Limits(results_kept=2))) as site,
        Visitor(site.url, transport) as visitor,
    ):
        wire = await visitor.attach()
        for number in (1, 2, 3):
            await wire.ask("send", number, 2, "count", number)

        assert (await wire.ask("send", 1, 2, "count", 1))[3]["code"] == "outcome-unknown"
        assert await wire.ask("send", 3, 2, "count", 3) == ["result", 3, True, "run 3"]
    assert counting.runs == [1, 2, 3]


async def test_sends_run_one_after_the_other_in_their_order(transport: Transport) -> None:
    counting = Counting()
    async with serving(TestSite(delegates=counting.table)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        for number in range(1, 101):
            await wire.send("send", number, number % 3, "count", number)
        answered = [(await wire.receive())[1] for _ in range(67)]

    assert counting.runs == list(range(1, 101))
    assert answered == [number for number in range(1, 101) if number % 3]


async def test_a_page_that_sends_does_not_keep_another_one_waiting(transport: Transport) -> None:
    counting = Counting()
    counting.go.clear()
    async with serving(TestSite(delegates=[counting.table, table])) as site, Visitor(site.url, transport) as visitor:
        busy, other = await visitor.attach(), await visitor.attach()
        await busy.send("send", 1, 1, "count", None)
        await counting.started.wait()

        assert await lives(other)
        counting.go.set()
        assert (await busy.receive())[:2] == ["result", 1]


# --- ask and answer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, True, "yes", {"sure": True}])
async def test_a_page_is_asked_and_answers(site: TestSite, wire: Wire, value: Any) -> None:
    asking = asyncio.create_task(site.publisher.page(wire.page).ask("confirm", {"text": "Sure?"}))
    kind, seq, to, delegate, data, receipt = await wire.receive()
    assert (kind, to, delegate, data) == ("push", "page", "confirm", {"text": "Sure?"})
    assert seq > 0

    assert await wire.ask("ack", receipt, True, value) == ["acked", receipt]
    assert await asking == value


async def test_an_answer_in_bytes(site: TestSite, wire: Wire) -> None:
    asking = asyncio.create_task(site.publisher.page(wire.page).ask("photo"))
    receipt = (await wire.receive())[5]
    await wire.send_binary(b"\x89PNG", "ack", receipt, True, None)

    assert await asking == b"\x89PNG"


async def test_a_delegate_of_the_browser_that_throws(site: TestSite, wire: Wire) -> None:
    asking = asyncio.create_task(site.publisher.page(wire.page).ask("confirm"))
    receipt = (await wire.receive())[5]
    await wire.send("ack", receipt, False, {"code": "TypeError", "message": "x is null"})

    with pytest.raises(pagews.RemoteError) as caught:
        await asking
    assert (caught.value.code, caught.value.message) == ("TypeError", "x is null")


async def test_a_delegate_may_ask_its_own_page(wire: Wire) -> None:
    kind, _, to, delegate, data, receipt = await wire.ask("send", 1, 1, "question", "Sure?")
    assert (kind, to, delegate, data) == ("push", "page", "confirm", "Sure?")
    await wire.send("ack", receipt, True, "yes")

    # Over posts they come by two connections.
    assert sorted([await wire.receive(), await wire.receive()]) == [["acked", receipt], ["result", 1, True, "yes"]]


async def test_an_error_of_the_own_page_does_not_come_back_with_its_text(wire: Wire) -> None:
    receipt = (await wire.ask("send", 1, 1, "question", "Sure?"))[5]
    await wire.send("ack", receipt, False, {"code": "Secret", "message": "inside"})
    acked, result = sorted([await wire.receive(), await wire.receive()])

    assert acked == ["acked", receipt]
    assert result[3] == {"code": "internal", "message": "the server's delegate failed"}


async def test_a_page_that_does_not_answer(site: TestSite, wire: Wire) -> None:
    with pytest.raises(pagews.AskTimeout):
        await site.publisher.page(wire.page).ask("confirm", timeout=0.05)


async def test_a_repeated_answer_is_confirmed_again_and_counted_once(site: TestSite, wire: Wire) -> None:
    receipt = await site.publisher.page(wire.page).push("alarm", qos=2)
    number = (await wire.receive())[5]
    for value in ("first", "again", "again"):
        assert await wire.ask("ack", number, True, value) == ["acked", number]

    assert await receipt.wait(count=3, timeout=0.05) == [pagews.Ack(wire.page, True, "first")]


async def test_one_answer_from_each_page(site: TestSite, visitor: Visitor) -> None:
    wires = [await visitor.attach() for _ in range(3)]
    [page] = await site.publisher.page(wires[0].page).pages()
    receipt = await page.session.push("alarm", qos=2)
    for value, wire in enumerate(wires):
        await wire.send("ack", (await wire.receive())[5], True, value)

    assert await receipt.wait(count=3) == [pagews.Ack(wire.page, True, index) for index, wire in enumerate(wires)]


async def test_an_answer_of_a_page_that_was_not_asked(site: TestSite, visitor: Visitor, wire: Wire) -> None:
    other = await visitor.attach()
    asking = asyncio.create_task(site.publisher.page(wire.page).ask("confirm"))
    receipt = (await wire.receive())[5]
    assert await other.ask("ack", receipt, True, "forged") == ["acked", receipt]
    assert await other.ask("ack", 1, True, "made up") == ["acked", 1]
    assert site.publisher.statistics().refused["answer nobody waits for"] == 2
    await wire.send("ack", receipt, True, "honest")

    assert await asking == "honest"


# --- join and leave ---------------------------------------------------------------------------------------------------


async def rooms_only(page: pagews.Page, topic: str) -> bool:
    if topic == "trap":
        raise LookupError(topic)
    return topic.startswith("room/")


@pytest.fixture
async def rooms() -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=table, authorize=rooms_only, limits=Limits(topics=2))) as site:
        yield site


async def test_joining_is_denied_unless_the_application_grants_it(site: TestSite, wire: Wire) -> None:
    kind, number, ok, error = await wire.ask("join", 1, "room/7")

    assert (kind, number, ok, error["code"]) == ("result", 1, False, "not-authorized")
    await site.publisher.topic("room/7").push("line", "unheard")
    assert await lives(wire)
    assert site.publisher.statistics().refused["join"] == 1


async def test_join_and_leave(rooms: TestSite, transport: Transport) -> None:
    async with Visitor(rooms.url, transport) as visitor:
        wire = await visitor.attach()
        topic = rooms.publisher.topic("room/7")
        await topic.push("line", "before")
        assert await wire.ask("join", 1, "room/7") == ["result", 1, True, None]
        await topic.push("line", "joined")
        assert (await wire.receive())[2:] == ["topic:room/7", "line", "joined"]
        assert await wire.ask("leave", 2, "room/7") == ["result", 2, True, None]
        await topic.push("line", "after")

        assert await lives(wire)


@pytest.mark.parametrize(
    ("topic", "code"), [("cellar", "not-authorized"), ("trap", "internal"), ("\n", "invalid-data")]
)
async def test_a_join_that_is_not_granted(rooms: TestSite, topic: str, code: str, transport: Transport) -> None:
    async with Visitor(rooms.url, transport) as visitor:
        wire = await visitor.attach()

        assert (await wire.ask("join", 1, topic))[3]["code"] == code
        await rooms.publisher.topic("cellar").push("line", "unheard")
        assert await lives(wire)


async def test_leaving_what_was_never_joined(rooms: TestSite, transport: Transport) -> None:
    async with Visitor(rooms.url, transport) as visitor:
        wire = await visitor.attach()

        assert await wire.ask("leave", 1, "room/7") == ["result", 1, True, None]
        assert (await wire.ask("leave", 2, "\n"))[3]["code"] == "invalid-data"


async def test_more_topics_than_a_page_may_have(rooms: TestSite, transport: Transport) -> None:
    async with Visitor(rooms.url, transport) as visitor:
        wire = await visitor.attach()
        for number in (1, 2):
            assert (await wire.ask("join", number, f"room/{number}"))[2] is True
        assert (await wire.ask("join", 3, "room/3"))[3]["code"] == "limit"
        assert (await wire.ask("join", 4, "room/1"))[2] is True
        assert (await wire.ask("leave", 5, "room/1"))[2] is True
        assert (await wire.ask("join", 6, "room/3"))[2] is True
        await rooms.publisher.topic("room/3").push("line", "in")

        assert (await wire.receive())[2] == "topic:room/3"


# --- closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1012, 4000, 4500, 4999])
async def test_the_application_closes_a_page(site: TestSite, visitor: Visitor, wire: Wire, code: int) -> None:
    other = await visitor.attach()
    await site.publisher.page(wire.page).push("last", "words")
    if wire.transport != "poll":
        await site.publisher.page(wire.page).close(code, "enough")
    assert (await wire.receive())[3:] == ["last", "words"]
    if wire.transport == "poll":  # between two polls: the next one is told
        await site.publisher.page(wire.page).close(code, "enough")

    assert await wire.closed() == Closed(code, "enough")
    assert await lives(other)


async def test_a_server_that_stops_asks_its_pages_to_come_back(site: TestSite, transport: Transport) -> None:
    async with Visitor(site.url, transport) as visitor:
        wires = [await visitor.attach() for _ in range(3)]
        await site.publisher.page(wires[0].page).push("last", "words")
        closing = asyncio.gather(*(wire.closed() for wire in wires[1:]))
        if transport == "poll":
            await site.waiting(2)
        await asyncio.gather(site.stop(), closing)
        closes = await closing
        if transport != "poll":  # between two polls: nobody is there any more
            assert (await wires[0].receive())[3:] == ["last", "words"]
            closes.append(await wires[0].closed())

    for code, reason in closes:
        assert code == 1012
        text, _, seconds = reason.rpartition("; retry=")
        assert text
        assert 0 <= float(seconds) < 60
