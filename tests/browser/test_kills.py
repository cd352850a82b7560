"""2,000 numbered messages under 20 kills of what carries them, in either direction: none missing, none twice, in order.

The first tests place each kill by the frames of a WebSocket; the last one cuts what passes over any connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

import pagews
from tests.faults import FaultProxy, Link, after_frame, frames, inside_frame
from tests.traps import Direction, Trap, inside
from tests.wire_client import TRANSPORTS, Transport

from .conftest import OpenTab, Serve, StartProxy
from .site import Site
from .tab import Tab

ROUNDS = 4
KILLS = 5 * ROUNDS
MESSAGES = 2000
BATCH = MESSAGES // KILLS

RECEIVE = """() => {
  globalThis.got = [];
  globalThis.has = (count) => new Promise((resolve) => {
    const look = () => { if (got.length >= count) resolve(null); };
    addEventListener("got", look);
    look();
  });
  pagews.on("number", (number) => { got.push(number); dispatchEvent(new Event("got")); });
  pagews.on("slow", () => { told("delegate runs"); return new Promise((resolve) => { globalThis.goOn = resolve; }); });
}"""

SEND = """() => {
  globalThis.results = [];
  globalThis.sendMany = (first, count) => {
    for (let number = first; number < first + count; number++) results.push(pagews.send("number", number, { qos: 2 }));
  };
}"""


class Kills:
    """The links of one page through a proxy, and what is to happen to those to come.

    Attributes:
        link: the newest link.
    """

    def __init__(self, proxy: FaultProxy) -> None:
        self.link: Link
        self._proxy = proxy
        self._faults: deque[Callable[[Link], None]] = deque()
        proxy.on_upgrade = self._upgraded

    def arrange(self, *faults: Callable[[Link], None]) -> None:
        """What is to happen to the next links, one each."""
        self._faults.extend(faults)

    async def next_link(self) -> Link:
        """Wait until the page has come back."""
        self.link = await self._proxy.upgraded()
        return self.link

    async def killed_link(self) -> Link:
        """Wait for the next link, and until the proxy has cut it."""
        await self.next_link()
        await self.cut()
        return self.link

    async def cut(self) -> None:
        """Wait until the newest link has been cut by the proxy, by nobody else."""
        await self.link.ended()
        assert self.link.how == "cut"

    def _upgraded(self, link: Link) -> None:
        if self._faults:
            self._faults.popleft()(link)


def before_hello(link: Link) -> None:
    """The upgrade succeeds, and the hello does not arrive."""
    link.up.cut_when(lambda before, chunk: 0 if b"\r\n\r\n" in before else None)


def was_before_hello(link: Link) -> bool:
    return link.down.data.startswith(b"HTTP/1.1 101 ") and not link.up.data.partition(b"\r\n\r\n")[2]


def after_welcome(link: Link) -> None:
    """The welcome arrives, and nothing of the replay."""
    link.down.cut_when(after_frame(b'["welcome"'))


def was_after_welcome(link: Link) -> bool:
    return [frame.payload[:10] for frame in frames(link.down.data)] == [b'["welcome"']


def before_resend(link: Link) -> None:
    """The welcome has been sent, and nothing that the page sends again arrives."""

    def rule(before: bytearray, chunk: bytes) -> int | None:
        return 0 if any(frames(before)) else None

    link.up.cut_when(rule)


def was_before_resend(link: Link) -> bool:
    up = [frame.payload[:8] for frame in frames(link.up.data)]
    return was_after_welcome(link) and up == [b'["hello"']


def has_part_of_a_frame(data: bytearray) -> bool:
    ends = [frame.end for frame in frames(data)]
    return len(data) > max(ends)


@asynccontextmanager
async def opened(site: Site, put_proxy: StartProxy, open_tab: OpenTab) -> AsyncIterator[tuple[Tab, Kills]]:
    """A page behind a proxy; at the end, exactly the kills that were wanted have happened."""
    proxy = await put_proxy(site)
    kills = Kills(proxy)
    tab = await open_tab(f"{proxy.url}/", without_jitter=True)
    tab.network_fails = True
    await kills.next_link()
    yield tab, kills
    assert proxy.counts["cut"] == KILLS
    assert proxy.counts["reset"] == 0
    assert site.publisher.statistics().lost == {}


class HeldUp(pagews.PageHandler):
    """A page handler whose `websocket_info` can be held up."""

    running: asyncio.Event
    go_on: asyncio.Event | None = None

    def websocket_info(self, message: Any, context: pagews.Context) -> Any:
        replies = super().websocket_info(message, context)
        return replies if self.go_on is None else self._later(replies, self.go_on)

    async def _later(self, replies: Any, go_on: asyncio.Event) -> Any:
        self.running.set()
        await go_on.wait()
        return replies


async def test_2000_pushes(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab) -> None:
    class Handler(HeldUp):
        running = asyncio.Event()

    site = await serve(handler=Handler)
    async with opened(site, put_proxy, open_tab) as (tab, kills):
        page = site.publisher.page(await tab.id())
        await tab.run(RECEIVE)
        pushed = 0

        async def push_batch() -> None:
            nonlocal pushed
            for number in range(pushed, pushed + BATCH):
                await page.push("number", number)
            pushed += BATCH

        async def caught_up() -> None:
            await tab.run("count => has(count)", pushed)

        for turn in range(ROUNDS):
            # An idle link, then the next before its hello, then the next between welcome and replay.
            await caught_up()
            kills.arrange(before_hello, after_welcome)
            kills.link.cut()
            await push_batch()
            assert was_before_hello(await kills.killed_link())
            await push_batch()
            assert was_after_welcome(await kills.killed_link())
            await push_batch()
            await kills.next_link()
            await caught_up()

            # In the middle of a frame.
            kills.link.down.cut_when(inside_frame(b'"number"'))
            await push_batch()
            await kills.cut()
            assert has_part_of_a_frame(kills.link.down.data)
            await kills.next_link()
            await caught_up()

            if turn % 2:
                # While the browser's delegate runs.
                asking = asyncio.create_task(page.ask("slow"))
                await tab.wait("delegate runs", turn // 2 + 1)
                kills.link.cut()
                await push_batch()
                await kills.next_link()
                await tab.run("goOn('answer')")
                assert await asking == "answer"
            else:
                # While the server's callback runs, which ends before the page is back, or after.
                go_on = Handler.go_on = asyncio.Event()
                Handler.running.clear()
                await push_batch()
                await Handler.running.wait()
                kills.link.cut()
                if turn:
                    await kills.next_link()
                go_on.set()
                Handler.go_on = None
                if not turn:
                    await kills.next_link()

        await caught_up()
        assert pushed == MESSAGES
        # What is behind the last number has come too: nothing is under way any more.
        await tab.listen("end")
        await page.push("end")
        await tab.wait("end")
        assert await tab.run("got") == list(range(MESSAGES))
        assert len(tab["delegate runs"]) == ROUNDS // 2


async def test_2000_sends(serve: Serve, put_proxy: StartProxy, open_tab: OpenTab) -> None:
    delegates = pagews.DelegateTableDef()
    ran: list[int] = []
    running = asyncio.Event()
    gates: deque[asyncio.Event] = deque()

    @delegates.on("number")
    async def number(page: pagews.Page, data: int) -> str:
        ran.append(data)
        if gates:
            running.set()
            await gates.popleft().wait()
        return f"ran {data}"

    site = await serve(delegates=delegates)
    async with opened(site, put_proxy, open_tab) as (tab, kills):
        await tab.run(SEND)
        sent = 0

        async def send_batch() -> None:
            nonlocal sent
            await tab.run("([first, count]) => sendMany(first, count)", [sent, BATCH])
            sent += BATCH

        async def answered() -> None:
            await tab.run("() => Promise.all(results).then(() => null)")

        for turn in range(ROUNDS):
            # An idle link, then the next before its hello, then the next between welcome and what is sent again.
            await answered()
            kills.arrange(before_hello, before_resend)
            kills.link.cut()
            await send_batch()
            assert was_before_hello(await kills.killed_link())
            await send_batch()
            assert was_before_resend(await kills.killed_link())
            await send_batch()
            await kills.next_link()
            await answered()

            # In the middle of a frame: on its way up, then on the way of its result.
            lane, kind = (kills.link.down, b'["result"') if turn % 2 else (kills.link.up, b'["send"')
            lane.cut_when(inside_frame(kind))
            await send_batch()
            await kills.cut()
            assert has_part_of_a_frame(lane.data)
            await kills.next_link()
            await answered()

            # While the delegate runs.
            gate = asyncio.Event()
            gates.append(gate)
            running.clear()
            await send_batch()
            await running.wait()
            kills.link.cut()
            if turn % 2:
                gate.set()
            await kills.next_link()
            gate.set()

        await answered()
        assert sent == MESSAGES
        assert ran == list(range(MESSAGES))
        assert await tab.run("() => Promise.all(results)") == [f"ran {number}" for number in range(MESSAGES)]


# --- in both directions at once, over each transport ------------------------------------------------------------------

#: What is cut in the middle: the direction, and what is on its way there.
PLACES: Final[tuple[tuple[Direction, bytes], ...]] = (
    ("down", b'"number"'),
    ("up", b'"hello"'),
    ("down", b'"welcome"'),
    ("up", b'"send"'),
    ("down", b'"result"'),
)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_2000_messages_each_way(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, transport: Transport
) -> None:
    delegates = pagews.DelegateTableDef()
    ran: list[int] = []

    @delegates.on("number")
    async def number(page: pagews.Page, data: int) -> str:
        ran.append(data)
        return f"ran {data}"

    site = await serve(delegates=delegates)
    proxy = await put_proxy(site)
    tab = await open_tab(f"{proxy.url}/", without_jitter=True)
    tab.network_fails = True
    page = site.publisher.page(await tab.id())
    await tab.run(RECEIVE)
    await tab.run(SEND)

    trap, done = Trap(proxy), 0
    for _ in range(ROUNDS):
        for direction, text in PLACES:
            trap.arm(direction, inside(transport, text))
            if text in (b'"hello"', b'"welcome"'):
                proxy.cut()
            await tab.run("([first, count]) => sendMany(first, count)", [done, BATCH])
            for value in range(done, done + BATCH):
                await page.push("number", value)
            done += BATCH
            assert (await trap.sprung()).how == "cut"
            await tab.run("count => has(count)", done)
            await tab.run("() => Promise.all(results).then(() => null)")

    assert done == MESSAGES
    # What is behind the last number has come too: nothing is under way any more.
    await tab.listen("end")
    await page.push("end")
    await tab.wait("end")
    assert await tab.run("got") == list(range(MESSAGES))
    assert ran == list(range(MESSAGES))
    assert await tab.run("() => Promise.all(results)") == [f"ran {value}" for value in range(MESSAGES)]
    assert await tab.run("pagews.transport") == transport
    assert site.publisher.statistics().lost == {}
