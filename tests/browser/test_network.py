"""The network goes and comes: lost answers, black holes, offline and online, two lines at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

import pagews
from tests.faults import FaultProxy, Link
from tests.traps import Direction, Trap, before, behind
from tests.wire_client import TRANSPORTS, Transport

from .conftest import OpenTab, Serve, StartProxy
from .site import Site
from .tab import Tab

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)

#: Seconds from the return of the network to the end of what was missed.
SOON = 1.0
#: A fault that took longer is repeated, so often at most: the machine may be slow once, the client may never be.
ROUNDS = 3


class Line(NamedTuple):
    """A page behind a proxy. It always waits for as long as its back-off may.

    Attributes:
        carriers: the connection of each request that was to carry it.
    """

    site: Site
    proxy: FaultProxy
    tab: Tab
    page: pagews.PageTarget
    carriers: asyncio.Queue[Link]

    def states(self, state: str) -> int:
        """How often it has come to a state."""
        return [told["state"] for told in self.tab["statechange"]].count(state)

    async def comes_to(self, state: str, count: int) -> None:
        """Wait until it has come to a state so often."""
        await self.tab.until(lambda: self.states(state) >= count, f"{count} times {state}")


async def connect(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, **setup: Any) -> Line:
    site = await serve(**setup)
    proxy = await put_proxy(site)
    carriers: asyncio.Queue[Link] = asyncio.Queue()

    def request(link: Link, path: str) -> None:
        if path in ("/pagews/socket", "/pagews/stream", "/pagews/poll"):
            carriers.put_nowait(link)

    proxy.on_request = request
    tab = await open_tab(watching=["statechange"])
    tab.network_fails = True
    await tab.page.add_init_script("Math.random = () => 0.999;")
    await tab.open(f"{proxy.url}/")
    await tab.listen("growl")
    return Line(site, proxy, tab, site.publisher.page(await tab.id()), carriers)


async def best(line: Line, lose: Callable[[], Awaitable[None]], give_back: Callable[[], Awaitable[None]]) -> float:
    """Take the network away, push, give it back; returns the seconds until the push is there."""
    times = []
    for number in range(ROUNDS):
        await lose()
        await line.page.push("growl", number)
        before = asyncio.get_running_loop().time()
        await give_back()
        assert await line.tab.wait("growl", number + 1) == list(range(number + 1))
        times.append(asyncio.get_running_loop().time() - before)
        await line.tab.is_in("open")
        if times[-1] < SOON:
            break
    return min(times)


# --- an answer is lost ------------------------------------------------------------------------------------------------


async def test_fault_2_result_is_lost_on_its_way_down(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, transport: Transport
) -> None:
    delegates = pagews.DelegateTableDef()
    ran: list[Any] = []

    @delegates.on("order")
    async def order(page: pagews.Page, data: Any) -> str:
        ran.append(data)
        return "ordered"

    line = await connect(serve, put_proxy, open_tab, delegates=delegates)
    trap = Trap(line.proxy)
    trap.arm("down", before(transport, b'["result"'))

    assert await line.tab.run("pagews.send('order', 'tea', { qos: 2 })") == "ordered"
    assert (await trap.sprung()).how == "cut"
    assert ran == ["tea"]


@pytest.mark.parametrize(("lane", "lost"), [("up", b'["ack"'), ("down", b'["acked"')])
async def test_fault_2_answer_is_lost_on_its_way_up_or_its_confirmation_down(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, lane: Direction, lost: bytes, transport: Transport
) -> None:
    line = await connect(serve, put_proxy, open_tab)
    await line.tab.run("() => { pagews.on('confirm', () => { told('asked'); return 'yes'; }); }")
    trap = Trap(line.proxy)
    trap.arm(lane, before(transport, lost))

    asking = asyncio.create_task(line.page.ask("confirm"))
    assert (await trap.sprung()).how == "cut"
    # The answer that nobody confirmed is said again over the next connection, and confirmed there.
    trap.arm("up", behind(transport, b'["ack"'), cuts=False)
    await trap.sprung()
    trap.arm("down", behind(transport, b'["acked"'), cuts=False)
    await trap.sprung()
    assert await asking == "yes"
    if transport == "websocket" or lane == "down":
        await line.comes_to("open", 2)
    # Else the browser itself may have repeated the request, as it does over connections that it has used before.
    await line.tab.settle()
    assert len(line.tab["asked"]) == 1


# --- the network goes -------------------------------------------------------------------------------------------------


async def test_fault_3_black_hole(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab) -> None:
    heartbeat = 1.0
    line = await connect(serve, put_proxy, open_tab, limits=pagews.Limits(heartbeat=heartbeat))
    noticed: list[float] = []

    async def lose() -> None:
        waiting, connecting = line.states("waiting"), line.states("connecting")
        detached = len(line.site.journal["detach"])
        before = asyncio.get_running_loop().time()
        line.proxy.on_connect = Link.stall
        line.proxy.stall()
        await line.comes_to("waiting", waiting + 1)
        noticed.append(asyncio.get_running_loop().time() - before)
        # The server, too; and the page tries again, into the same hole.
        await line.site.journal.wait("detach", detached + 1)
        await line.comes_to("connecting", connecting + 1)

    async def give_back() -> None:
        line.proxy.on_connect = None
        line.proxy.resume()

    assert await best(line, lose, give_back) < SOON
    assert min(noticed) < 1.5 * heartbeat + 0.5


async def test_fault_19_offline_and_online_by_the_devtools(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab
) -> None:
    line = await connect(serve, put_proxy, open_tab)

    async def lose() -> None:
        connecting = line.states("connecting")
        await line.tab.page.context.set_offline(True)
        # It does not trust the word of the browser alone, and tries; in vain.
        await line.comes_to("connecting", connecting + 2)

    async def give_back() -> None:
        await line.tab.page.context.set_offline(False)

    assert await best(line, lose, give_back) < SOON


async def test_fault_19_line_is_cut(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, transport: Transport
) -> None:
    line = await connect(serve, put_proxy, open_tab)

    async def lose() -> None:
        detached = len(line.site.journal["detach"])
        line.proxy.cut()
        await line.site.journal.wait("detach", detached + 1)

    async def give_back() -> None:
        """It has never been away."""

    assert await best(line, lose, give_back) < SOON
    # A browser may ask each time over another connection that it has.
    upgraded, rounds = line.proxy.counts["upgraded"], len(line.tab["growl"])
    assert upgraded == 1 + rounds if transport != "poll" else upgraded > rounds


async def test_fault_19_line_is_cut_and_the_first_attempt_fails(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab
) -> None:
    line = await connect(serve, put_proxy, open_tab)

    async def lose() -> None:
        connecting, waiting = line.states("connecting"), line.states("waiting")
        line.proxy.refusing = True
        line.proxy.cut()
        await line.comes_to("connecting", connecting + 1)
        await line.comes_to("waiting", waiting + 2)

    async def give_back() -> None:
        line.proxy.refusing = False

    assert await best(line, lose, give_back) < SOON


# --- two lines at once ------------------------------------------------------------------------------------------------


async def test_fault_23_old_and_new_socket_overlap(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, transport: Transport
) -> None:
    delegates = pagews.DelegateTableDef()
    ran: list[Any] = []

    @delegates.on("order")
    async def order(page: pagews.Page, data: Any) -> str:
        ran.append(data)
        return "ordered"

    line = await connect(serve, put_proxy, open_tab, delegates=delegates)
    # Of polls, the one that waits; a send goes over another connection.
    lines = [await line.carriers.get() for _ in range(2 if transport == "poll" else 1)]
    posted = asyncio.Event()

    def stall_posts(link: Link, path: str) -> None:
        if path == "/pagews/post":
            link.stall()
            lines.append(link)
            posted.set()

    # A push and a send are under way on the old line, and stay so.
    line.proxy.on_request = stall_posts
    lines[-1].stall()
    await line.page.push("growl", "on both lines")
    sending = asyncio.create_task(line.tab.run("pagews.send('order', 'tea', { qos: 2 })"))
    if transport != "websocket":
        await posted.wait()
    await line.tab.page.wait_for_function("() => pagews.busy")
    line.proxy.on_request = None
    await line.tab.run("pagews.reconnect()")

    assert await line.tab.wait("growl") == ["on both lines"]
    assert await sending == "ordered"
    line.proxy.resume()
    for old in lines:
        await old.ended()
    await line.page.push("growl", "on the new line")
    assert await line.tab.wait("growl", 2) == ["on both lines", "on the new line"]
    assert ran == ["tea"]
    closed = line.site.publisher.statistics().closed
    # Each poll follows the one before.
    assert closed == {4509: 1} if transport != "poll" else set(closed) == {4509}
    await line.tab.is_in("open")


# --- the clock --------------------------------------------------------------------------------------------------------


async def test_fault_17_clock_of_the_browser_jumps(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(limits=pagews.Limits(heartbeat=0.5))
    tab = await open_tab(watching=["lost", "refused"])
    await tab.page.clock.install()
    await tab.open(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.listen("growl")

    for number, jump in enumerate((3600, -3600, -3600)):
        await tab.page.clock.set_system_time(await tab.run("Date.now() / 1000") + jump)
        # Longer than it waits for a ping; what comes by the new time is as good as before.
        seq = (await tab.run("pagews.cursor"))["seq"] if number else 0
        await tab.page.wait_for_function("seq => pagews.cursor?.seq > seq + 10", arg=seq)
        await page.push("growl", number)
        assert await tab.wait("growl", number + 1) == list(range(number + 1))
    assert (tab["lost"], tab["refused"], tab["navigation"]) == ([], [], [])
