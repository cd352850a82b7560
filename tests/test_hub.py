"""The index of attached pages by channel."""

from __future__ import annotations

import pytest

from pagews import Context, Limits, WebSocketHandler
from pagews.counters import Counters
from pagews.handler import Replies
from pagews.hub import Hub
from pagews.page import Event, PageSession
from pagews.socket import Output, Socket
from pagews.wire import Draft, Push

from .rig import Wire, bare_context, turn


class Reader(WebSocketHandler):
    """Notes the numbers that come, and writes nothing."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def websocket_info(self, message: Push, context: Context) -> Replies:
        self.got.append(message.seq)
        return None


def page(name: str) -> PageSession:
    made = PageSession(
        name,
        session_id="s",
        user_id=None,
        topics={},
        document="d",
        attempt=1,
        epoch="e",
        position=0,
        since=0.0,
        held_limit=1000,
        socket=Socket(Reader(), bare_context(), Wire(), Output(Limits().callback), Counters(), Limits()),
    )
    made.happened(Event.WELCOMED)
    made.release()
    return made


def got(page: PageSession) -> list[int]:
    handler: Reader = page.socket._handler
    return handler.got


def push(seq: int) -> Push:
    return Push(seq, Draft("session", "d", b"1"))


async def test_a_push_reaches_the_pages_of_its_channel() -> None:
    counters = Counters()
    hub = Hub(counters)
    one, two = page("one"), page("two")
    hub.listen(one, one.cursors())
    hub.listen(two, two.cursors())
    hub.deliver("session:s", push(1))
    hub.deliver("page:one", push(2))
    hub.deliver("page:nobody", push(3))
    assert (got(one), got(two)) == ([1, 2], [1])
    assert counters.delivered == 3
    assert set(hub.listeners("session:s")) == {one, two}


async def test_qos_0_that_is_not_written_is_counted() -> None:
    counters = Counters()
    hub = Hub(counters)
    one, two = page("one"), page("two")
    hub.listen(one, ["c"])
    hub.listen(two, ["c"])
    two.happened(Event.LAGGED)
    hub.deliver("c", push(0))
    assert (got(one), got(two)) == ([0], [])
    assert counters.dropped["qos 0"] == 1


async def test_forgetting_says_what_nobody_listens_to() -> None:
    hub = Hub(Counters())
    one, two = page("one"), page("two")
    hub.listen(one, ["a", "b"])
    hub.listen(two, ["b"])
    assert hub.forget(one, ["a", "b", "never"]) == ["a"]
    assert hub.forget(two, ["b"]) == ["b"]
    hub.deliver("b", push(1))
    assert got(one) == got(two) == []


@pytest.mark.parametrize("fault", ["raises", "returns nonsense", "returns nonsense later"])
async def test_a_callback_that_fails_harms_no_other_page(fault: str) -> None:
    class Faulty(Reader):
        def websocket_info(self, message: Push, context: Context) -> Replies:
            if fault == "raises":
                raise RuntimeError("boom")
            return "nonsense"  # type: ignore[return-value]  # the mistake that is tested

    class FaultyLater(Reader):
        async def websocket_info(self, message: Push, context: Context) -> Replies:  # type: ignore[override]  # a callback may be async
            return "nonsense"  # type: ignore[return-value]  # the mistake that is tested

    hub = Hub(Counters())
    pages = [page(name) for name in ("one", "two", "three")]
    handler = FaultyLater() if fault.endswith("later") else Faulty()
    pages[1].socket = Socket(handler, bare_context(), Wire(), Output(Limits().callback), Counters(), Limits())
    for one in pages:
        hub.listen(one, ["c"])
    hub.deliver("c", push(1))
    await turn()
    hub.deliver("c", push(2))
    await turn()
    assert (got(pages[0]), got(pages[2])) == ([1, 2], [1, 2])
    assert pages[1].socket.close_code == 1011
