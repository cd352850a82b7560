"""The node: attach, resume, lag, catch up, join, end. The numbers in names are those of the rules."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from pagews import Context, Limits, MemoryBroker, Text, WebSocketHandler
from pagews.broker import Attach, Attached, Control, Filed, Position
from pagews.errors import CloseCode, ProtocolError
from pagews.log import Replay
from pagews.page import Owner, State
from pagews.wire import ping

from .rig import Client, Rig, draft, turn


async def test_a_new_page_gets_what_was_pushed_since_it_was_rendered() -> None:
    rig = await Rig().start()
    client = Client(rig, topics=("t",))
    numbers = [await rig.push(channel) for channel in ("page:p", "session:s", "topic:t")]
    await rig.push("page:other")
    await client.attach()
    assert client.frames[0][0] == "welcome"
    assert client.welcome["resumed"] is True
    assert client.pushed == numbers
    assert client.page.stands(State.LIVE)
    numbers.append(await rig.push("page:p"))
    await turn()
    assert client.pushed == numbers
    assert rig.events == [("attached", "p")]
    assert rig.counters.replayed == 3
    assert rig.counters.delivered == 4


async def test_resume_from_a_cursor() -> None:
    rig = await Rig().start()
    client = Client(rig)
    await client.attach()
    first = await rig.push("page:p")
    await turn()
    await client.detach()
    assert not client.page.attached
    second = await rig.push("page:p")
    await client.attach(cursor=Position(client.cursor.epoch, first))
    assert client.pushed == [second]
    assert client.welcome["seq"] == first
    assert rig.events == [("attached", "p"), ("detached", "p"), ("attached", "p")]


@pytest.mark.parametrize("reason", ["epoch", "expired", "trimmed"])
async def test_lost_with_its_reason_and_where_to_go_on(reason: str) -> None:
    rig = await Rig(channel_entries=2, retention=10.0).start()
    client = Client(rig)
    cursor = client.cursor
    for _ in range(4):
        await rig.push("page:p")
    if reason == "epoch":
        cursor = Position("another", 0)
    elif reason == "expired":
        rig.pass_time(12)
    await client.attach(cursor=cursor)
    assert client.welcome["lost"] == reason
    assert client.welcome["resumed"] is False
    assert client.welcome["seq"] == rig.broker.position.seq
    assert client.welcome["epoch"] == rig.broker.position.epoch
    assert client.pushed == []
    assert rig.counters.lost == {reason: 1}
    after = await rig.push("page:p")
    await turn()
    assert client.pushed == [after]


async def test_a_large_replay_comes_in_chunks_and_in_order() -> None:
    rig = await Rig(replay_chunk=200, channel_entries=1000).start()
    client = Client(rig)
    numbers = [await rig.push("page:p", "x" * 50) for _ in range(100)]
    await client.attach()
    for _ in range(300):
        await turn()
    assert client.pushed == numbers
    assert client.page.stands(State.LIVE)


async def test_rule_15_the_older_socket_has_left_the_hub_when_the_newer_one_is_there() -> None:
    rig = await Rig().start()
    old, new = Client(rig), Client(rig)
    await old.attach(attempt=1)
    await new.attach(attempt=2)
    assert rig.node.hub.listeners("page:p") == (new.page,)
    assert not old.page.attached
    await rig.push("page:p")
    assert rig.counters.delivered == 1


async def test_rule_16_the_highest_attempt_wins() -> None:
    rig = await Rig().start()
    old, new = Client(rig), Client(rig)
    await old.attach(attempt=1)
    await new.attach(attempt=2)
    assert old.wire.closed is not None
    assert old.wire.closed[0] == 4509
    late = Client(rig)
    with pytest.raises(ProtocolError) as caught:
        await late.attach(attempt=1)
    assert caught.value.code == 4509
    seq = await rig.push("page:p")
    await turn()
    assert (old.pushed, new.pushed) == ([], [seq])
    await old.detach()
    assert rig.node.pages["p"] is new.page
    # To the application the page was attached all the time.
    assert rig.events == [("attached", "p")]
    await new.detach()
    assert rig.events == [("attached", "p"), ("detached", "p")]


async def test_rule_16_an_attempt_that_comes_again_takes_over() -> None:
    rig = await Rig().start()
    first, again = Client(rig), Client(rig)
    await first.attach(attempt=1)
    await again.attach(attempt=1)
    assert first.wire.closed is not None
    assert first.wire.closed[0] == 4509
    # What is left of the first must not end the page, which is that of the second.
    await first.detach(left=True)
    assert await rig.broker.owner("p") == Owner("d", 1, repeat=1)
    seq = await rig.push("page:p")
    await turn()
    assert (first.pushed, again.pushed) == ([], [seq])
    assert rig.events == [("attached", "p")]


async def test_rule_17_another_document_is_forked_and_both_live_on() -> None:
    rig = await Rig().start()
    first, second = Client(rig, document="one", topics=("t",)), Client(rig, document="two", topics=("t",))
    await first.attach()
    await rig.broker.set_topics("p", [], ["joined"], [])
    await turn()
    own, shared = await rig.push("page:p"), await rig.push("topic:joined")
    await second.attach()
    assert second.welcome["forked"] is True
    assert second.welcome["page"] == "fork1"
    assert second.pushed == [shared]
    assert first.pushed == [own, shared]
    assert {"p", "fork1"} == set(rig.node.pages)
    together = await rig.push("topic:t")
    await turn()
    assert (first.pushed[-1], second.pushed[-1]) == (together, together)


async def test_rule_17_a_fork_hears_no_more_of_a_topic_than_its_page_was_granted() -> None:
    rig = await Rig().start()
    first, second = Client(rig, document="one", topics=("left",)), Client(rig, document="two", topics=("left",))
    await first.attach()
    await rig.push("topic:joined")
    await rig.broker.set_topics("p", [], ["joined"], ["left"])
    await rig.push("topic:left")
    granted = await rig.push("topic:joined")
    await second.attach()
    assert second.welcome["forked"] is True
    assert second.pushed == [granted]
    await rig.push("topic:left")
    await turn()
    assert second.pushed == first.pushed == [granted]
    # By its own record, also when it comes back from where it began.
    second.page_id = "fork1"
    await second.detach()
    await second.attach()
    assert second.pushed == [granted]


async def test_rule_17_another_document_takes_over_after_a_goodbye() -> None:
    rig = await Rig().start()
    first, second = Client(rig, document="one"), Client(rig, document="two")
    await first.attach()
    seq = await rig.push("page:p")
    await first.detach(left=True)
    await second.attach()
    assert second.welcome["forked"] is False
    assert second.pushed == [seq]


async def test_a_page_that_lags_catches_up_from_the_log() -> None:
    rig = await Rig(high_water=100).start()
    client = Client(rig)
    await client.attach()
    client.wire.fill(150)
    numbers = [await rig.push("page:p", "x" * 40)]
    await turn()
    assert client.page.stands(State.LAGGING)
    written = len(client.wire.writes)
    numbers += [await rig.push("page:p", "x" * 40) for _ in range(20)]
    await rig.broker.emit("page:p", draft())
    await turn()
    assert len(client.wire.writes) == written
    assert rig.counters.dropped == {"lagged": 1, "qos 0": 1}
    client.wire.release()
    for _ in range(50):
        await turn()
    assert client.pushed == numbers
    assert client.page.stands(State.LIVE)


async def test_a_page_that_is_stuck_is_closed() -> None:
    rig = await Rig(high_water=100, stuck=0.02).start()
    client = Client(rig)
    await client.attach()
    client.wire.fill(150)
    await rig.push("page:p")
    await asyncio.wait_for(client.wire.ended.wait(), 5)
    assert client.wire.closed == (4008, b"the reader is too slow")
    assert "p" not in rig.node.pages


async def test_rule_7_a_loss_on_a_live_connection_is_told_by_another_welcome() -> None:
    rig = await Rig(high_water=100, channel_entries=3).start()
    client = Client(rig)
    await client.attach()
    client.wire.fill(150)
    numbers = [await rig.push("page:p", "x" * 40) for _ in range(10)]
    await turn()
    client.wire.release()
    for _ in range(20):
        await turn()
    assert client.welcome["lost"] == "trimmed"
    assert client.welcome["seq"] == numbers[-1]
    numbers.append(await rig.push("page:p"))
    await turn()
    assert client.pushed[-1] == numbers[-1]


async def test_rule_21_a_joined_topic_is_delivered_from_its_since() -> None:
    rig = await Rig().start()
    client = Client(rig)
    await client.attach()
    await rig.push("topic:new")
    await rig.broker.set_topics("p", [], ["new"], [])
    numbers = [await rig.push("topic:new"), await rig.push("page:p"), await rig.push("topic:new")]
    await turn()
    assert client.pushed == numbers
    await client.detach()
    numbers = [await rig.push("topic:new")]
    await client.attach(cursor=Position(client.cursor.epoch, numbers[0] - 1))
    assert client.pushed == numbers
    await rig.broker.set_topics("p", [], [], ["new"])
    await turn()
    await rig.push("topic:new")
    await turn()
    assert client.pushed == numbers


@pytest.mark.parametrize("channel", ["session:s", "user:ann"])
async def test_rule_22_a_revocation_closes_the_pages_at_once(channel: str) -> None:
    rig = await Rig().start()
    client = Client(rig)
    await client.attach(user="ann")
    await rig.broker.revoke(channel)
    await rig.push("page:p")
    await turn()
    assert client.wire.closed is not None
    assert client.wire.closed[0] == 4503
    assert client.pushed == []
    assert rig.node.pages == {}
    with pytest.raises(ProtocolError) as caught:
        await client.attach(user="ann")
    assert caught.value.code == 4503


async def test_rules_8_and_9_pings_move_the_cursor_of_live_pages_alone() -> None:
    rig = await Rig(heartbeat=4.0, high_water=100).start()
    client = Client(rig)
    await client.attach()
    rig.pass_time(4)
    await turn()
    ping = client.frames[-1]
    assert ping == ["ping", rig.broker.position.seq]
    assert client.page.position == ping[1]
    rig.node.heard(client.page)
    client.wire.fill(150)
    await rig.push("page:p", "x" * 100)
    await turn()
    assert client.page.stands(State.LAGGING)
    rig.pass_time(4)
    await turn()
    assert client.frames[-1] == ["ping", 0]


class Hesitating(WebSocketHandler):
    """Hands a push on when it is let."""

    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    async def websocket_info(self, message: Any, context: Context) -> Text:
        await self._gate.wait()
        return message.message  # type: ignore[no-any-return]  # pushes are all that comes


async def test_rule_9_a_ping_comes_behind_what_waits_in_the_mailbox(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig(heartbeat=4.0).start()
    client = Client(rig)
    await client.attach()
    gate = asyncio.Event()
    monkeypatch.setattr(client.socket, "_handler", Hesitating(gate))
    seq = await rig.push("page:p")
    rig.pass_time(4)
    await turn()
    assert [frame[0] for frame in client.frames] == ["welcome"]
    gate.set()
    await turn()
    assert [frame[0] for frame in client.frames] == ["welcome", "push", "ping"]
    assert client.frames[-1][1] >= seq == client.pushed[0]


async def test_a_silent_page_is_let_go() -> None:
    rig = await Rig(heartbeat=4.0).start()
    client = Client(rig)
    await client.attach()
    rig.pass_time(7)
    assert client.wire.closed == (4008, b"the page is silent")
    assert rig.node.pages == {}
    assert rig.counters.dropped == {"silent": 1}


async def test_a_page_that_ends_is_gone() -> None:
    rig = await Rig().start()
    client = Client(rig)
    await client.attach()
    await rig.node.end_page("p", 4503, "enough")
    assert client.wire.closed == (4503, b"enough")
    await client.detach()
    await rig.node.end_page("p", 4503, "enough")
    rig.pass_time(400)
    assert rig.events == [("attached", "p"), ("detached", "p"), ("gone", "p")]


async def test_stop_sends_everybody_away_to_come_back() -> None:
    rig = await Rig().start()
    client = Client(rig)
    await client.attach()
    await rig.node.stop()
    assert client.wire.closed is not None
    code, reason = client.wire.closed
    assert code == 1012
    assert reason.startswith(b"the server restarts; retry=")


class Waiting(MemoryBroker):
    """A broker whose answers take as long as the test wants, as those of a broker elsewhere do."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(Limits(), clock=lambda: self.now, wall=lambda: 0.0)
        self.gates: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []

    def hold(self, step: str) -> asyncio.Event:
        self.gates[step] = asyncio.Event()
        return self.gates[step]

    async def _pass(self, step: str) -> None:
        self.asked.append(step)
        if step in self.gates:
            await self.gates[step].wait()

    async def subscribe(self, channels: Collection[str]) -> None:
        await self._pass("subscribe")

    async def attach(self, hello: Attach) -> Attached:
        attached = await super().attach(hello)
        await self._pass("attach")
        return attached

    async def topics(self, page_id: str) -> dict[str, int] | None:
        topics = await super().topics(page_id)
        await self._pass("topics")
        return topics

    async def read(self, epoch: str, cursors: Mapping[str, int], limit: int) -> Replay[Filed]:
        replay = await super().read(epoch, cursors, limit)
        await self._pass("read")
        return replay


async def begin_to_attach(
    client: Client, broker: Waiting, step: str = "attach"
) -> tuple[asyncio.Event, asyncio.Task[None]]:
    """Let `client` attach as far as a step of the broker, which is answered when the event is set."""
    gate = broker.hold(step)
    attaching = asyncio.create_task(client.attach())
    await turn()
    return gate, attaching


async def test_rule_11_what_comes_during_an_attach_is_held_and_comes_behind_the_replay() -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    client = Client(rig)
    before = await rig.push("page:p")
    gate, attaching = await begin_to_attach(client, broker)
    during = [await rig.push("page:p"), await rig.push("session:s")]
    await rig.broker.emit("page:p", draft())
    await turn()
    assert client.wire.writes == []
    gate.set()
    await attaching
    assert [frame[0] for frame in client.frames] == ["welcome", "push", "push", "push"]
    assert client.pushed == [before, *during]
    assert broker.asked == ["subscribe", "attach"]


async def test_a_page_that_joins_while_the_log_is_lost_begins_anew_with_all_its_topics() -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    client = Client(rig, topics=("t",))
    await client.attach()
    gate = broker.hold("read")
    await broker.set_topics("p", ["t"], ["u"], [])
    await turn()
    # It has learned that, and reads; there is more to learn when the log is gone.
    await broker.set_topics("p", ["t"], ["v"], [])
    lost = MemoryBroker(Limits())
    broker._log, broker._records = lost._log, lost._records
    gate.set()
    await turn()
    assert client.wire.closed is not None
    assert client.wire.closed[0] == CloseCode.RESTART
    assert {"t", "u"} <= (await broker.topics("p") or {}).keys()


async def test_rule_11_what_is_held_has_a_bound_beyond_which_it_is_read_again() -> None:
    broker = Waiting()
    rig = await Rig(broker, high_water=300).start()
    client = Client(rig)
    gate, attaching = await begin_to_attach(client, broker)
    numbers = [await rig.push("page:p", "x" * 50) for _ in range(20)]
    gate.set()
    await attaching
    for _ in range(20):
        await turn()
    assert client.pushed == numbers
    assert "read" in broker.asked


async def test_rule_21_topics_that_change_during_an_attach_are_learned() -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    client = Client(rig)
    gate, attaching = await begin_to_attach(client, broker)
    await broker.set_topics("p", [], ["new"], [])
    seq = await rig.push("topic:new")
    gate.set()
    await attaching
    for _ in range(10):
        await turn()
    assert client.pushed == [seq]


async def test_a_page_whose_socket_is_cut_while_it_reads() -> None:
    broker = Waiting()
    rig = await Rig(broker, high_water=100).start()
    client = Client(rig)
    await client.attach()
    client.wire.fill(150)
    await rig.push("page:p", "x" * 50)
    await turn()
    gate = broker.hold("read")
    client.wire.release()
    for _ in range(5):
        await turn()
    assert broker.asked[-1] == "read"
    await client.detach()
    gate.set()
    await turn()
    assert rig.node.pages == {}
    assert rig.counters.failed == {}


async def test_a_control_entry_for_nobody_is_ignored() -> None:
    rig = await Rig().start()
    rig.node.deliver("page:nobody", Control("topics", 1))
    rig.node.deliver("session:nobody", Control("revoked", 1))


async def test_a_page_that_ends_while_its_hello_is_answered_leaves_nothing() -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    client = Client(rig)
    gate, attaching = await begin_to_attach(client, broker)
    await broker.revoke("session:s")
    gate.set()
    with pytest.raises(ProtocolError):
        await attaching
    assert client.wire.closed is not None
    assert client.wire.closed[0] == 4503
    assert client.pushed == []
    assert rig.node.pages == {}
    assert not rig.node.hub.listeners("page:p")
    assert rig.events == []
    # Its claim was given back: its record ends like that of any page that is not attached.
    for broker.now in (0.0, 400.0, 800.0):
        broker.tick()
    assert rig.events == [("gone", "p")]


async def test_rule_16_an_attempt_that_is_answered_late_takes_nothing_from_a_newer_one() -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    await broker.set_topics("p", [], ["joined"], [])
    old, new = Client(rig), Client(rig)
    gate, attaching = await begin_to_attach(old, broker, "read")
    assert broker.asked[-1] == "read"
    del broker.gates["read"]
    await new.attach(attempt=2)
    gate.set()
    with pytest.raises(ProtocolError):
        await attaching
    assert rig.node.pages["p"] is new.page
    assert (new.wire.closed, old.wire.closed) == (None, (4509, b"a newer socket of this page is here"))
    seq = await rig.push("topic:joined")
    await turn()
    assert new.pushed == [seq]


async def test_a_page_that_ends_while_it_learns_its_topics_leaves_nothing() -> None:
    rig = await Rig(high_water=100).start()
    client = Client(rig)
    await client.attach()
    client.wire.fill(150)
    await rig.broker.set_topics("p", [], ["new"], [])
    # Finds the line full when it begins to read.
    client.socket.write(ping(0))
    await turn()
    assert client.page.stands(State.LAGGING)
    await rig.broker.revoke("session:s")
    client.wire.release()
    await turn()
    assert not rig.node.hub.listeners("topic:new")


async def test_rule_21_a_topic_is_learned_though_the_page_lags_meanwhile() -> None:
    broker = Waiting()
    rig = await Rig(broker, high_water=100).start()
    client = Client(rig)
    await client.attach()
    reading = broker.hold("read")
    await broker.set_topics("p", [], ["new"], [])
    await turn()
    assert broker.asked[-1] == "read"
    # The read has the control entry in it, so the cursor is behind that when the topics are asked for again.
    learning = broker.hold("topics")
    reading.set()
    await turn()
    assert broker.asked[-1] == "topics"
    seq = await rig.push("topic:new")
    client.wire.fill(150)
    client.socket.write(ping(10**9))
    await turn()
    assert client.page.stands(State.LAGGING)
    learning.set()
    client.wire.release()
    for _ in range(5):
        await turn()
    assert client.pushed == [seq]
    assert client.page.stands(State.LIVE)


async def test_rule_21_a_topic_is_learned_though_the_page_lags_whenever_it_asks() -> None:
    broker = Waiting()
    rig = await Rig(broker, high_water=100).start()
    client = Client(rig)
    await client.attach()
    learning = broker.hold("topics")
    await broker.set_topics("p", [], ["new"], [])
    # The second time it has read the control entry: nothing in the log would make it ask once more.
    for asked in (1, 2):
        await turn()
        assert broker.asked.count("topics") == asked
        client.wire.fill(150)
        client.socket.write(ping(10**9))
        await turn()
        assert client.page.stands(State.LAGGING)
        client.wire.release()
    seq = await rig.push("topic:new")
    learning.set()
    for _ in range(5):
        await turn()
    assert client.pushed == [seq]
    assert client.page.stands(State.LIVE)


@pytest.mark.parametrize("again", [False, True])
async def test_rule_21_what_comes_behind_a_leave_is_not_shown(again: bool) -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    client = Client(rig, topics=("t",))
    await client.attach()
    learning = broker.hold("topics")
    await broker.set_topics("p", [], [], ["t"])
    await turn()
    await rig.push("topic:t")
    own = [await rig.push("page:p")]
    if again:
        await broker.set_topics("p", [], ["t"], [])
        own.append(await rig.push("topic:t"))
    learning.set()
    for _ in range(5):
        await turn()
    assert client.pushed == own


async def test_rule_21_a_topic_that_was_left_is_not_heard_while_its_page_attaches() -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    client = Client(rig, topics=("t",))
    await client.attach()
    await broker.set_topics("p", [], [], ["t"])
    await client.detach()
    gate, attaching = await begin_to_attach(client, broker)
    await rig.push("topic:t")
    own = await rig.push("page:p")
    gate.set()
    await attaching
    assert client.pushed == [own]


async def test_a_page_that_lags_while_it_reads_is_read_for_by_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Waiting()
    rig = await Rig(broker, high_water=100).start()
    client = Client(rig)
    await client.attach()
    drains: list[asyncio.Event] = []

    async def drain() -> None:
        drains.append(asyncio.Event())
        if client.wire.backlog():
            await drains[-1].wait()

    monkeypatch.setattr(client.wire, "drain", drain)
    client.wire.fill(150)
    await broker.set_topics("p", [], ["new"], [])
    # Lags as it begins to read: another task waits for the line then, and will read.
    client.socket.write(ping(0))
    await turn()
    assert client.page.stands(State.LAGGING)
    before, after = drains
    reading = broker.hold("read")
    client.wire.release()
    after.set()
    await turn()
    assert client.page.stands(State.REPLAYING)
    before.set()
    await turn()
    assert [asked for asked in broker.asked[2:] if asked != "subscribe"] == ["topics", "read"]
    reading.set()
    await turn()
    seq = await rig.push("topic:new")
    await turn()
    assert client.pushed == [seq]


async def test_rule_21_what_is_behind_a_control_entry_is_read_anew() -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    client = Client(rig)
    await client.attach()
    gate = broker.hold("topics")
    await broker.set_topics("p", [], ["first"], [])
    await turn()
    assert broker.asked[-1] == "topics"
    await broker.set_topics("p", [], ["second"], [])
    numbers = [await rig.push("topic:second"), await rig.push("page:p"), await rig.push("topic:first")]
    gate.set()
    for _ in range(5):
        await turn()
    assert client.pushed == numbers


async def test_a_fork_whose_socket_has_ended_meanwhile_is_not_welcomed() -> None:
    broker = Waiting()
    rig = await Rig(broker).start()
    first, second = Client(rig, document="one"), Client(rig, document="two")
    await first.attach()
    gate, forking = await begin_to_attach(second, broker)
    await rig.node.end_page("p", 4503, "enough")
    gate.set()
    with pytest.raises(ProtocolError):
        await forking
    assert second.wire.writes == []
    assert rig.node.pages == {}
