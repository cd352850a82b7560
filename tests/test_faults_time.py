"""Clocks that jump, and an event loop that stands still."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Final

import pytest

from pagews import DelegateTableDef, Limits, MemoryBroker, Page
from pagews.site import get_site
from pagews.tokens import Tokens
from tests.sites import TestSite, serving
from tests.wire_client import TRANSPORTS, SocketClosed, Transport, Visitor, Wire, new_document

HOUR: Final = 3600.0

#: How sockets may have been closed where nothing has happened: each poll follows the one before.
REPLACED: Final[dict[Transport, set[int]]] = {"websocket": set(), "stream": set(), "poll": {4509}}


# --- the wall clock ---------------------------------------------------------------------------------------------------


class WallClock:
    """The time of day of this whole process, which the test sets."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.ahead = 0.0

    def __call__(self) -> float:
        return float(self._real() + self.ahead)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    wall = WallClock(time.time)
    monkeypatch.setattr(time, "time", wall)
    return wall


def site_by(wall: WallClock, limits: Limits) -> TestSite:
    """A site that looks at this clock wherever it looks at one."""
    site = TestSite(limits=limits, broker=MemoryBroker(limits, wall=wall))
    get_site(site.app).tokens = Tokens([site.key.encode()], limits.token_life, clock=wall)
    return site


async def pinged(wire: Wire, times: int) -> None:
    """Answer so many pings; nothing else comes."""
    for _ in range(times):
        assert (await wire.receive())[0] == "ping"
        await wire.send("pong")


async def pushed(wire: Wire) -> Any:
    """The data of the next push; pings before it are answered."""
    while (frame := await wire.receive())[0] == "ping":
        await wire.send("pong")
    assert frame[0] == "push"
    return frame[4]


# Each request of a stream or a poll shows its token anew: of one from the future, its page renews it, as below.
@pytest.mark.parametrize(
    ("jump", "transport"),
    [(-HOUR, "websocket"), *((jump, transport) for jump in (HOUR, 50.0, -50.0) for transport in TRANSPORTS)],
)
async def test_fault_17_the_wall_clock_jumps(wall: WallClock, jump: float, transport: Transport) -> None:
    limits = Limits(heartbeat=0.2, retention=60)
    async with serving(site_by(wall, limits)) as site, Visitor(site.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        page = site.publisher.page(wire.page)
        await pinged(wire, 2)
        await page.push("count", 1, ttl=30)
        wall.ahead = jump

        # Timers do not care: no page is silent, nothing has expired, and the wheel goes on turning.
        assert await pushed(wire) == 1
        await pinged(wire, 4)
        assert set(site.publisher.statistics().closed) <= REPLACED[transport]
        assert site.publisher.statistics().attached == 1

        # Neither does the log. A token cares when it is from the future, by more than the clocks of hosts may differ.
        await page.push("count", 2, ttl=30)
        wire.cut()
        again = await visitor.open()
        if jump == -HOUR:
            await again.hello(token, document=document, attempt=2)
            assert (await again.closed()).code == 4500
            status, fresh = await visitor.renew({"token": token})
            assert status == 200
            token, again = fresh["token"], await visitor.open()
        await again.hello(token, document=document, attempt=3, epoch=wire.welcome["epoch"], seq=wire.welcome["seq"])
        kind, welcome = await again.receive()
        assert (kind, welcome["resumed"], welcome["page"]) == ("welcome", True, page.id)
        assert [await pushed(again), await pushed(again)] == [1, 2]
        await pinged(again, 2)
        # Pages that are opened now are as good as any.
        assert (await visitor.attach()).welcome["resumed"] is True


# --- the event loop ---------------------------------------------------------------------------------------------------

HEARTBEAT: Final = 0.8
#: Seconds of a blocked loop: several heartbeats, as 30 s are of the usual one and less.
BLOCKED: Final = 3 * HEARTBEAT
WATCHED: Final = 20


async def answer_until_the_end(wire: Wire) -> str:
    """Answer pings until a push comes; returns its data, or how the socket was closed."""
    try:
        while (frame := await wire.receive())[0] == "ping":
            await wire.send("pong")
    except SocketClosed as closed:
        return f"closed with {closed.code}"
    return str(frame[4])


async def other_than_pings(wire: Wire) -> list[Any]:
    """The next frame that is no ping; those are answered."""
    while (frame := await wire.receive())[0] == "ping":
        await wire.send("pong")
    return frame


async def test_fault_18_nobody_is_disconnected_when_a_blocked_loop_wakes(transport: Transport) -> None:
    settled, ready, blocked = threading.Event(), asyncio.Event(), threading.Event()
    delegates = DelegateTableDef()

    @delegates.on("brief")
    async def brief(page: Page, data: Any) -> str:
        ready.set()
        await asyncio.to_thread(blocked.wait, 10)
        await asyncio.sleep(0.05)
        return "done"

    async def watch(url: str) -> list[str]:
        # In a thread, with a loop of its own: browsers do not stand still when the server does.
        async with Visitor(url, transport) as visitor:
            wires = [await visitor.attach(await visitor.token("/?topic=news")) for _ in range(WATCHED)]
            watching = [asyncio.ensure_future(answer_until_the_end(wire)) for wire in wires]
            assert await asyncio.to_thread(settled.wait, 10)
            token = await visitor.token("/?topic=news")
            busy = await visitor.attach(await visitor.token("/?topic=news"))
            shaking = await visitor.open()
            await busy.send("send", 1, 2, "brief", None)
            assert await asyncio.to_thread(blocked.wait, 10)
            # Lies in the receive buffer when the loop wakes, and the time for it has run out.
            await shaking.hello(token)
            assert (await other_than_pings(shaking))[0] == "welcome"
            assert await other_than_pings(busy) == ["result", 1, True, "done"]
            return await asyncio.gather(*watching, answer_until_the_end(shaking), answer_until_the_end(busy))

    limits = Limits(heartbeat=HEARTBEAT, hello=BLOCKED / 2, callback=BLOCKED / 2, held=2 * WATCHED)
    async with serving(TestSite(limits=limits, delegates=delegates)) as site, Visitor(site.url, transport) as visitor:
        watching = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(watch(site.url))))
        near = await visitor.attach()
        await pinged(near, 2)
        settled.set()
        async with asyncio.timeout(20):
            await ready.wait()

        blocked.set()
        time.sleep(BLOCKED)  # noqa: ASYNC251  # the fault itself

        # Two more rounds, in which whoever was held to be silent would be closed.
        await pinged(near, 3)
        assert site.publisher.statistics().attached == WATCHED + 3
        assert site.publisher.statistics().dropped == {}
        # Behind the end a page polls no more, and is silent while the others still read theirs.
        assert set(site.publisher.statistics().closed) <= REPLACED[transport]
        await site.publisher.topic("news").push("count", "the end")
        assert await watching == ["the end"] * (WATCHED + 2)
        assert site.publisher.statistics().failed == {}
