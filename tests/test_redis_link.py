"""The connection that calls go through: how long they may take, the room that they take, and what else may answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest

from pagews import BrokerUnavailable, Limits, redis_bus, redis_link
from pagews.redis_broker import RedisBroker
from pagews.redis_link import Calls, Line
from tests.broker_bench import Node
from tests.faults import HOST
from tests.redis_server import RedisServer
from tests.two_workers import until

#: What the calls of the test of room may take.
ROOM: Final = 1000


@asynccontextmanager
async def using(redis: RedisServer, calls: Calls) -> AsyncIterator[None]:
    """One connection for `calls`, which must last."""
    running = asyncio.create_task(calls.run(await Line.open(redis.url, 5.0)))
    await asyncio.sleep(0)
    calls.open()
    try:
        yield
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])


async def cancelled(call: Coroutine[Any, Any, Any]) -> None:
    """A call that nobody waits for any more."""
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def test_a_line_is_not_lost_for_what_a_call_has_waited_before_it(redis: RedisServer) -> None:
    calls = Calls(2.0)
    async with using(redis, calls):
        pass
    slow = asyncio.create_task(calls(b"BLPOP", b"nothing", b"1"))
    await asyncio.sleep(1.7)  # that it has waited is the fault itself
    async with using(redis, calls):
        behind = asyncio.create_task(calls(b"ECHO", b"behind"))
        # Its own time is over all the same, and it has been sent.
        with pytest.raises(BrokerUnavailable) as failed:
            await slow
        assert failed.value.unknown is True
        # The reply that it gets is nobody else's.
        assert await behind == b"behind"


async def test_a_line_that_does_not_answer_is_lost(own_redis: RedisServer) -> None:
    calls = Calls(0.5)
    line = await Line.open(own_redis.url, 5.0)
    running = asyncio.create_task(calls.run(line))
    await asyncio.sleep(0)
    calls.open()
    own_redis.stop()
    # Nobody waits for it, and it says of the line what any other does.
    await cancelled(calls(b"PING"))
    with pytest.raises(TimeoutError, match="not answered"):
        await asyncio.wait_for(running, 5.0)


async def test_a_call_that_is_cancelled_takes_its_room_until_it_is_dropped(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "MOST_BYTES", ROOM)
    calls = Calls(5.0)

    async def has_room() -> bool:
        with suppress(BrokerUnavailable):
            return bool(await calls(b"PING"))
        return False

    async with using(own_redis, calls):
        own_redis.stop()
        await cancelled(calls(b"ECHO", bytes(ROOM)))
        with pytest.raises(BrokerUnavailable, match="bytes wait"):
            await calls(b"PING")
        own_redis.go_on()
        await until(has_room)
    # The same without a line.
    await cancelled(calls(b"ECHO", bytes(ROOM)))
    with pytest.raises(BrokerUnavailable, match="bytes wait"):
        await calls(b"PING")
    async with using(own_redis, calls):
        assert await calls(b"PING") == b"PONG"


async def test_what_is_no_redis_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in, for there is no server of the kind at hand: it speaks the protocol, and says nothing of itself."""
    monkeypatch.setattr(redis_bus, "START", 0.0)
    asked = 0
    left: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        with suppress(ConnectionError):
            while commands := await reader.read(1000):
                writer.write(b"+OK\r\n" * commands.count(b"*"))
        writer.close()
        left.append(asked)

    async with await asyncio.start_server(serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnavailable, match="redis_version"):
            await RedisBroker(f"redis://{HOST}:{port}/0", Limits(broker=1.0)).start(Node())
        # None of its connections stays open.
        await until(lambda: len(left) == asked)
    # After a tenth of a second, then twice that, and so on; by chance half of it.
    assert asked <= 5
