"""One socket: its mailbox, its output, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from pagews import Binary, Close, Context, Limits, Text, WebSocketHandler
from pagews.counters import Counters
from pagews.handler import Replies
from pagews.socket import Output, Socket

from .rig import Wire, bare_context, turn


class Bench:
    """A socket with everything it needs, and nothing around it."""

    def __init__(self, handler: WebSocketHandler, **limits: float) -> None:
        bounds = Limits(**limits)  # type: ignore[arg-type]
        self.wire = Wire()
        self.counters = Counters()
        self.context = bare_context()
        self.socket = Socket(
            handler,
            self.context,
            self.wire,
            Output(bounds.callback),
            self.counters,
            bounds,
        )


class Plain(WebSocketHandler):
    def websocket_handle(self, frame: Text | Binary, context: Context) -> Replies | Awaitable[Replies]:
        return Text(f"handled {frame.data!r}")

    def websocket_info(self, message: Any, context: Context) -> Replies | Awaitable[Replies]:
        return Text(f"info {message}")


async def test_one_write_per_loop_turn() -> None:
    bench = Bench(Plain())
    for number in range(10):
        bench.socket.send_info(number)
    bench.socket.send_data("data")
    assert bench.wire.writes == []
    await turn()
    assert len(bench.wire.writes) == 1
    assert bench.wire.texts == [*(f"info {number}" for number in range(10)), "data"]


class Slow(WebSocketHandler):
    """Notes when its callbacks run, and waits in each until it is let go."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.gate = asyncio.Event()
        self.running = 0

    async def _run(self, name: str) -> None:
        self.running += 1
        assert self.running == 1, "callbacks overlap"
        self.notes.append(f"{name} begins")
        await self.gate.wait()
        self.notes.append(f"{name} ends")
        self.running -= 1

    async def websocket_handle(self, frame: Text | Binary, context: Context) -> Replies:
        await self._run("handle")
        return [Text("returned 1"), Text("returned 2")]

    async def websocket_info(self, message: Any, context: Context) -> Replies:
        await self._run(f"info {message}")
        return Text(f"info {message}")


async def test_callbacks_never_overlap_and_what_they_return_goes_first() -> None:
    handler = Slow()
    bench = Bench(handler)
    handling = asyncio.create_task(bench.socket.handle(Text("x")))
    await turn()
    bench.socket.send_data("posted 1")
    bench.socket.send_info(1)
    bench.socket.send_data("posted 2")
    second = asyncio.create_task(bench.socket.handle(Text("y")))
    await turn()
    assert handler.notes == ["handle begins"]
    handler.gate.set()
    await handling
    await second
    await turn()
    assert handler.notes == [
        *("handle begins", "handle ends", "info 1 begins", "info 1 ends", "handle begins", "handle ends"),
    ]
    assert bench.wire.texts == [
        *("returned 1", "returned 2", "posted 1", "info 1", "posted 2", "returned 1", "returned 2")
    ]


async def test_what_a_callback_posts_comes_behind_what_it_returns() -> None:
    class Posting(WebSocketHandler):
        def websocket_handle(self, frame: Text | Binary, context: Context) -> Replies:
            context.socket.send_data("posted")
            context.socket.send_info("later")
            context.socket.close(4001, "done")
            return Text("returned")

        def websocket_info(self, message: Any, context: Context) -> Replies:
            return [Text(message), Binary(b"raw")]

    bench = Bench(Posting())
    await bench.socket.handle(Text("x"))
    await turn()
    assert bench.wire.texts == ["returned", "posted", "later", "raw"]
    assert bench.wire.closed == (4001, b"done")
    assert bench.socket.closed


async def test_a_callback_can_close() -> None:
    class Closing(WebSocketHandler):
        def websocket_handle(self, frame: Text | Binary, context: Context) -> Replies:
            return [Text("last"), Close(4001, "enough"), Text("never")]

    bench = Bench(Closing())
    await bench.socket.handle(Text("x"))
    bench.socket.send_data("never")
    bench.socket.send_info("never")
    await turn()
    assert bench.wire.texts == ["last"]
    assert bench.wire.closed == (4001, b"enough")
    assert bench.counters.closed[4001] == 1


@pytest.mark.parametrize("callback", ["websocket_init", "websocket_handle", "websocket_info"])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_callback_that_raises_ends_this_socket(
    callback: str, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: object, *arguments: object) -> None:
        raise RuntimeError("boom")

    async def fail_later(self: object, *arguments: object) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("boom")

    bench = Bench(type("Failing", (WebSocketHandler,), {callback: fail_later if waits else fail})())
    await bench.socket.start()
    bench.socket.send_info("x")
    await bench.socket.handle(Text("x"))
    await turn()
    assert bench.wire.closed == (1011, f"{callback} failed".encode())
    assert bench.counters.failed[callback] == 1
    assert [record.message for record in caplog.records] == [f"Failing.{callback} failed"]


async def test_a_callback_that_returns_nonsense(caplog: pytest.LogCaptureFixture) -> None:
    class Nonsense(WebSocketHandler):
        def websocket_handle(self, frame: Text | Binary, context: Context) -> Replies:
            return "text"  # type: ignore[return-value]  # the mistake that is tested

    bench = Bench(Nonsense())
    await bench.socket.handle(Text("x"))
    assert bench.wire.closed is not None
    assert "return None, Text, Binary, Close" in caplog.text


async def test_a_callback_that_hangs_is_stopped() -> None:
    handler = Slow()
    bench = Bench(handler, callback=0.01)
    await bench.socket.handle(Text("x"))
    assert bench.wire.closed == (1011, b"websocket_handle failed")


async def test_terminate_comes_last_and_once() -> None:
    class Noting(Slow):
        async def websocket_terminate(self, reason: int, context: Context) -> None:
            self.notes.append(f"terminate {reason}")

    handler = Noting()
    bench = Bench(handler)
    bench.socket.send_info(1)
    await turn()
    bench.socket.over(1006)
    finishing = asyncio.create_task(bench.socket.finish())
    await turn()
    assert handler.notes == ["info 1 begins"]
    handler.gate.set()
    await finishing
    assert handler.notes == ["info 1 begins", "info 1 ends", "terminate 1006"]


async def test_a_mailbox_that_fills_ends_the_socket() -> None:
    handler = Slow()
    bench = Bench(handler, high_water=1000)
    for number in range(100):
        bench.socket.send_info(number)
    assert bench.wire.closed is not None
    assert bench.wire.closed[0] == 4008
    assert bench.counters.dropped["mailbox"] > 10
    handler.gate.set()
    await bench.socket.finish()


async def test_a_bare_socket_that_is_stuck_is_closed() -> None:
    bench = Bench(Plain(), high_water=100, stuck=0.01)
    bench.wire.fill(150)
    bench.socket.send_data("x" * 20)
    await turn()
    assert bench.wire.closed is None
    await asyncio.wait_for(bench.wire.ended.wait(), 5)
    assert bench.wire.closed == (4008, b"the reader is too slow")


async def test_a_bare_socket_that_drains_goes_on() -> None:
    bench = Bench(Plain(), high_water=100)
    for _ in range(2):
        bench.wire.fill(150)
        bench.socket.send_data("x" * 20)
        await turn()
        bench.wire.release()
        await turn()
    assert bench.wire.closed is None


async def test_what_is_unsent_has_a_bound() -> None:
    bench = Bench(Plain(), high_water=100)
    bench.wire.fill(401)
    bench.socket.send_data("one large message may lie above every mark")
    await turn()
    assert bench.wire.closed is None
    bench.socket.send_data("another one may not")
    await turn()
    assert bench.wire.closed == (4008, b"the reader is too slow")


async def test_drained_waits_for_the_mailbox_and_the_carrier() -> None:
    handler = Slow()
    bench = Bench(handler)
    bench.wire.fill(1)
    bench.socket.send_info(1)
    draining = asyncio.create_task(bench.socket.drained())
    await turn()
    handler.gate.set()
    await turn()
    assert not draining.done()
    bench.wire.release()
    await draining
    bench.socket.end(1000, "")
    with pytest.raises(ConnectionError):
        await bench.socket.drained()
