"""As `test_kills.py`, without a WebSocket: 2,000 messages each way, under 20 kills of the requests that carry them."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import pytest

import pagews
from tests.faults import FaultProxy, Link
from tests.wire_client import Transport

from .conftest import OpenTab, Serve, StartProxy
from .test_kills import RECEIVE, SEND

pytestmark = pytest.mark.parametrize("transport", ["stream", "poll"])

#: What is cut in the middle: the direction, and what is on its way there.
KILLS: Final[tuple[tuple[Literal["up", "down"], bytes], ...]] = (
    ("down", b'"number"'),
    ("up", b'"hello"'),
    ("down", b'"welcome"'),
    ("up", b'"send"'),
    ("down", b'"result"'),
)
ROUNDS: Final = 4
BATCH: Final = 100
MESSAGES: Final = ROUNDS * len(KILLS) * BATCH


class Kill:
    """Cuts one connection of a proxy, that on which some bytes come first: in the middle of them."""

    def __init__(self, proxy: FaultProxy, direction: Literal["up", "down"], text: bytes) -> None:
        self.done = asyncio.Event()
        self._direction = direction
        self._text = text
        for link in proxy.open_links:
            self._watch(link)
        proxy.on_connect = self._watch

    def _watch(self, link: Link) -> None:
        (link.up if self._direction == "up" else link.down).cut_when(self._place)

    def _place(self, before: bytearray, chunk: bytes) -> int | None:
        place = chunk.find(self._text)
        if place < 0 or self.done.is_set():
            return None
        self.done.set()
        return place + len(self._text) // 2


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

    done = 0
    for _ in range(ROUNDS):
        for direction, text in KILLS:
            kill = Kill(proxy, direction, text)
            if text in (b'"hello"', b'"welcome"'):
                proxy.cut()
            await tab.run("([first, count]) => sendMany(first, count)", [done, BATCH])
            for value in range(done, done + BATCH):
                await page.push("number", value)
            done += BATCH
            await kill.done.wait()
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
