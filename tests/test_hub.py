"""The index of attached pages by channel."""

from __future__ import annotations

from pagews.counters import Counters
from pagews.hub import Hub
from pagews.page import Event, PageSession
from pagews.wire import Draft, Push


class Sink:
    """Takes what a page would write."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def send_info(self, push: Push) -> None:
        self.got.append(push.seq)


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
        held_limit=1000,
        socket=Sink(),
    )
    made.happened(Event.WELCOMED)
    made.release()
    return made


def push(seq: int) -> Push:
    return Push(seq, Draft("session", "d", b"1"))


def test_a_push_reaches_the_pages_of_its_channel() -> None:
    counters = Counters()
    hub = Hub(counters)
    one, two = page("one"), page("two")
    hub.listen(one, one.cursors())
    hub.listen(two, two.cursors())
    hub.deliver("session:s", push(1))
    hub.deliver("page:one", push(2))
    hub.deliver("page:nobody", push(3))
    assert (one.socket.got, two.socket.got) == ([1, 2], [1])
    assert counters.delivered == 3
    assert set(hub.listeners("session:s")) == {one, two}


def test_qos_0_that_is_not_written_is_counted() -> None:
    counters = Counters()
    hub = Hub(counters)
    one, two = page("one"), page("two")
    hub.listen(one, ["c"])
    hub.listen(two, ["c"])
    two.happened(Event.LAGGED)
    hub.deliver("c", push(0))
    assert (one.socket.got, two.socket.got) == ([0], [])
    assert counters.dropped["qos 0"] == 1


def test_forgetting_says_what_nobody_listens_to() -> None:
    hub = Hub(Counters())
    one, two = page("one"), page("two")
    hub.listen(one, ["a", "b"])
    hub.listen(two, ["b"])
    assert hub.forget(one, ["a", "b", "never"]) == ["a"]
    assert hub.forget(two, ["b"]) == ["b"]
    hub.deliver("b", push(1))
    assert one.socket.got == two.socket.got == []
