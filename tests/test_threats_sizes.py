"""Messages that are too large, have no end, or are compressed; and pages that are rendered for nobody."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import re
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import pytest

from pagews import Limits
from pagews.redis_broker import RedisBroker
from pagews.site import get_site
from tests.raw_http import HOST, RawSocket, frame, frame_head
from tests.redis_server import RedisServer
from tests.sites import Served, TestSite, serving
from tests.threats import Desk, closed, is_served, lives, refused
from tests.wire_client import Transport, Visitor, new_document

LIMIT: Final = Limits().message_up


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def site(desk: Desk) -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=desk.delegates)) as site:
        yield site


@pytest.fixture
async def visitor(site: TestSite) -> AsyncIterator[Visitor]:
    async with Visitor(site.url) as visitor:
        yield visitor


# --- 12: too large, or without an end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1 << 63, (1 << 63) - 1, (1 << 64) - 1, 1 << 62, LIMIT + 1])
async def test_threat_12_a_frame_that_announces_too_much_is_refused_at_its_head(
    site: TestSite, visitor: Visitor, size: int
) -> None:
    bystander = await visitor.attach()
    for first in (0x81, 0x82, 0x01):
        async with await RawSocket.open(site.port) as socket:
            await socket.write(frame_head(first, size))
            assert await socket.closed() == 1009

    assert refused(site) == {"message too big": 3}
    assert await lives(bystander)


async def test_threat_12_fragments_end_where_the_limit_is(site: TestSite, visitor: Visitor) -> None:
    bystander = await visitor.attach()
    async with await RawSocket.open(site.port) as socket:
        await socket.write(frame(0x01, b"x"), *[frame(0x00, b"x" * 1000)] * (LIMIT // 1000 + 1))
        assert await socket.closed() == 1009

    assert refused(site) == {"message too big": 1}
    assert await lives(bystander)


async def test_threat_12_fragments_without_an_end_are_silence() -> None:
    """A page that goes on with one message for ever answers no ping of the server."""
    site = TestSite(delegates=Desk().delegates, limits=Limits(heartbeat=0.4))
    async with serving(site), Visitor(site.url) as visitor:
        hello = ["hello", {"token": await visitor.token(), "document": new_document(), "attempt": 1}]
        async with await RawSocket.open(site.port, f"Cookie: {visitor.cookie}") as socket:
            await socket.write(frame(0x81, json.dumps(hello).encode()), frame(0x01, b"["))
            ended = asyncio.create_task(socket.closed())
            while not ended.done():
                await socket.write(*[frame(0x00, b"")] * 100, frame(0x8A, b""))
                await asyncio.wait([ended], timeout=0.01)
            assert await ended == 4008
        assert dict(site.publisher.statistics().dropped) == {"silent": 1}
        assert closed(site) == {4008: 1}
        assert await is_served(site, "websocket")


@pytest.mark.parametrize(
    ("beginning", "more", "code"),
    [
        (frame_head(0x81, 1 << 40), b"x" * 1024, 1009),
        (frame(0x01, b"["), frame(0x00, b"x" * 1000), 1009),
        (frame(0x02, b""), frame(0x00, b""), 4002),
    ],
    ids=["one frame", "fragments", "empty fragments"],
)
async def test_threat_12_what_pours_in_is_not_kept(beginning: bytes, more: bytes, code: int) -> None:
    site = TestSite(delegates=Desk().delegates, limits=Limits(hello=1.0))
    pieces, poured = more * (64 * 1024 // len(more)), 0
    async with serving(site), await RawSocket.open(site.port) as socket:

        async def pour() -> None:
            nonlocal poured
            with suppress(ConnectionError):
                while True:
                    poured += len(pieces)
                    await socket.write(pieces)
                    await asyncio.sleep(0)

        tracemalloc.start()
        try:
            await socket.write(beginning)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            pouring = asyncio.create_task(pour())
            assert await socket.closed() == code
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        pouring.cancel()
        await asyncio.wait([pouring])
        assert poured >= LIMIT
        # What is on its way is kept by both ends, which are one process here.
        assert peak - before < 16 * LIMIT
        assert await is_served(site, "websocket")


async def test_threat_12_a_message_above_the_limit_ends_its_socket(site: TestSite, transport: Transport) -> None:
    async with Visitor(site.url, transport) as visitor:
        wire, bystander = await visitor.attach(), await visitor.attach()
        await wire.send("send", 1, 1, "echo", "x" * LIMIT)

        assert (await wire.closed()).code == 1009
        assert refused(site) == {"message too big": 1}
        assert await lives(bystander)


# --- 13: compressed ---------------------------------------------------------------------------------------------------


async def test_threat_13_compression_is_never_agreed_upon(site: TestSite, desk: Desk, visitor: Visitor) -> None:
    bystander = await visitor.attach()
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    bomb = zlib.compress(b" " * 100_000_000, 9, wbits=-15)
    codes = []
    for first in (0xC1, 0xC2, 0x41, 0xA1, 0x91):
        async with await RawSocket.open(site.port, offer) as socket:
            assert "extensions" not in socket.answer.lower()
            await socket.write(frame(first, bomb[: LIMIT - 1]))
            codes.append(await socket.closed())

    assert codes == [1002] * 5
    assert desk.given == []
    assert refused(site) == {"malformed frame": 5}
    assert await lives(bystander)


async def test_threat_13_a_bomb_that_is_posted_is_not_inflated(site: TestSite, transport: Transport) -> None:
    path = {"websocket": "renew", "stream": "stream", "poll": "post"}[transport]
    spaces = b" " * 10_000_000
    bombs = {"gzip": gzip.compress(spaces), "deflate": zlib.compress(spaces)}
    async with Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        for encoding, bomb in bombs.items():
            line = visitor.line()
            answer = await line.request(f"/pagews/{path}", bomb, Content_Encoding=encoding)
            line.cut()
            # RFC 9110 section 15.5.16: the encoding of the content is not one that is taken.
            assert answer.status == 415
        assert refused(site) == {"media type": 2}
        assert await lives(wire)


# --- 19: pages for nobody ---------------------------------------------------------------------------------------------


async def render(site: Served, count: int) -> None:
    """Have pages rendered for whoever keeps no cookie, and connects to none."""
    reader, writer = await asyncio.open_connection(HOST, site.port)
    for _ in range(count):
        writer.write(f"GET /?topic=news HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        size = re.search(rb"Content-Length: ([0-9]+)", head)
        assert size is not None
        assert b"data-page=" in await reader.readexactly(int(size[1]))
    writer.close()
    await writer.wait_closed()


def held() -> int:
    """The blocks of memory that Python holds for objects that live."""
    gc.collect()
    return sys.getallocatedblocks()


async def test_threat_19_rendering_stores_nothing(site: TestSite) -> None:
    await render(site, 200)
    statistics, before = site.publisher.statistics(), held()
    await render(site, 2000)

    assert held() - before < 1000  # less than one for two pages
    assert site.publisher.statistics() == statistics
    assert (statistics.channels, statistics.entries, statistics.attached, statistics.sockets) == (0, 0, 0, 0)
    assert get_site(site.app).node.pages == {}
    assert await is_served(site, "websocket")


async def test_threat_19_nothing_is_stored_in_redis_either(redis: RedisServer) -> None:
    limits = Limits()
    site = TestSite(delegates=Desk().delegates, broker=RedisBroker(redis.url, limits), limits=limits)
    async with serving(site):
        await render(site, 100)
        statistics, keys = site.publisher.statistics(), await redis.command("KEYS", "*")
        await render(site, 400)

        # The passing of time is noted, whatever else happens.
        assert set(await redis.command("KEYS", "*")) <= {*keys, "pagews:ticks"}
        assert site.publisher.statistics() == statistics
        assert await is_served(site, "websocket")
