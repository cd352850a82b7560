"""Sockets with a handler of one's own: the four callbacks, in order, apart from each other, over a real connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import aiohttp_session
import pytest
from aiohttp import web
from websockets.exceptions import InvalidStatus

import pagews
from pagews import Binary, Close, Context, Limits, Push, Text
from pagews.wire import Message
from tests.sites import TestSite, serving
from tests.wire_client import Closed, Visitor, WebSocketWire


class Recorder(pagews.WebSocketHandler):
    """Notes what is called. Tests derive from it, and `Bare` hands its instances out.

    Attributes:
        log: what the callbacks were given. context: that of the socket.
    """

    made: ClassVar[asyncio.Queue[Any]]

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.context: Context
        self._ended = asyncio.Event()

    async def ended(self) -> None:
        """Wait until it has terminated."""
        async with asyncio.timeout(10):
            await self._ended.wait()

    def websocket_init(self, context: Context) -> Any:
        self.context = context
        self.made.put_nowait(self)

    def websocket_handle(self, frame: Message, context: Context) -> Any:
        self.log.append(frame.data)
        return Text(f"heard {frame.data!r}")

    def websocket_info(self, message: Any, context: Context) -> Any:
        self.log.append(message)
        return Text(f"info {message}")

    def websocket_terminate(self, reason: int, context: Context) -> Any:
        self.log.append(reason)
        self._ended.set()


class Bare:
    """A site with a socket of its own at `/custom`, and one visitor of it."""

    def __init__(self, site: TestSite, visitor: Visitor, made: asyncio.Queue[Any]) -> None:
        self.site = site
        self.visitor = visitor
        self._made = made

    async def open(self) -> tuple[WebSocketWire, Any]:
        """Open a socket; returns it, and its handler."""
        wire = await self.visitor.connect("/custom", protocols=())
        async with asyncio.timeout(10):
            return wire, await self._made.get()


@asynccontextmanager
async def bare(handler: type[Recorder], **setup: Any) -> AsyncIterator[Bare]:
    handler.made = asyncio.Queue()
    site = TestSite(**setup)
    site.app.router.add_get("/custom", pagews.websocket(handler))
    async with serving(site), Visitor(site.url) as visitor:
        yield Bare(site, visitor, handler.made)


async def told(wire: WebSocketWire, count: int) -> list[str | bytes]:
    return [await wire.receive_raw() for _ in range(count)]


async def lives(wire: WebSocketWire) -> bool:
    """Whether a recorder still answers, and nothing else comes before it."""
    await wire.send_raw("alive?")
    return await wire.receive_raw() == "heard 'alive?'"


# --- the example of the documentation, by route and from a view -------------------------------------------------------


class Echo(Recorder):
    async def websocket_handle(self, frame: Message, context: Context) -> Any:
        if isinstance(frame, Text):
            return Text("You said: " + frame.data)
        return None

    def websocket_info(self, message: Any, context: Context) -> Any:
        return Text("Hello from info")


async def websocket_start(request: web.Request) -> web.StreamResponse:
    return await pagews.websocket_start(request, handler=Echo)


@pytest.fixture(params=["by route", "from a view"])
async def echo(request: pytest.FixtureRequest) -> AsyncIterator[Bare]:
    Echo.made = asyncio.Queue()
    site = TestSite()
    start = pagews.websocket(Echo) if request.param == "by route" else websocket_start
    site.app.router.add_get("/custom", start)
    async with serving(site), Visitor(site.url) as visitor:
        yield Bare(site, visitor, Echo.made)


async def test_the_example_of_the_documentation(echo: Bare) -> None:
    wire, handler = await echo.open()
    await wire.send_raw("h\u00e9llo")
    assert await wire.receive_raw() == "You said: h\u00e9llo"
    await wire.send_raw(b"bytes are not answered")
    await wire.send_raw("")
    assert await wire.receive_raw() == "You said: "
    handler.context.socket.send_info("anything")

    assert await wire.receive_raw() == "Hello from info"
    assert handler.context.page is None


async def test_a_plain_get_is_told_to_upgrade(echo: Bare) -> None:
    assert await echo.visitor.get("/custom") == 426


async def test_a_foreign_origin_is_refused(echo: Bare) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await echo.visitor.connect("/custom", origin="http://example.org")

    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("protocols", [(), ("pagews.v1",), ("chat",)])
async def test_a_bare_socket_negotiates_no_subprotocol(echo: Bare, protocols: tuple[str, ...]) -> None:
    wire = await echo.visitor.connect("/custom", protocols=protocols)
    await wire.send_raw("hello")

    assert await wire.receive_raw() == "You said: hello"
    assert wire.ws.subprotocol is None


async def test_bare_sockets_are_asked_to_come_back_when_the_server_stops(echo: Bare) -> None:
    wire, handler = await echo.open()
    [end, _] = await asyncio.gather(wire.closed(), echo.site.stop())

    assert end.code == 1012
    assert "; retry=" in end.reason
    assert handler.log == [1012]


def test_a_handler_must_be_one() -> None:
    with pytest.raises(pagews.ConfigurationError, match=r"subclass of pagews\.WebSocketHandler"):
        pagews.websocket(dict)  # type: ignore[arg-type]  # the mistake that is tested


# --- order ------------------------------------------------------------------------------------------------------------


class Talkative(Recorder):
    """Sends from inside its callbacks, by every way there is."""

    def websocket_init(self, context: Context) -> Any:
        super().websocket_init(context)
        context.socket.send_data("sent by init")
        context.socket.send_info("init")
        return Text("returned by init")

    def websocket_handle(self, frame: Message, context: Context) -> Any:
        context.socket.send_data("sent")
        context.socket.send_info("one")
        context.socket.send_data(b"sent bytes")
        context.socket.send_info("nested")
        return [Text("returned"), Binary(b"returned bytes")]

    def websocket_info(self, message: Any, context: Context) -> Any:
        if message == "nested":
            context.socket.send_data("sent by info")
        return Text(f"info {message}")


class SlowlyTalkative(Talkative):
    """The same, in callbacks that wait before they send and before they return."""

    async def websocket_init(self, context: Context) -> Any:
        await asyncio.sleep(0)
        replies = super().websocket_init(context)
        await asyncio.sleep(0)
        return replies

    async def websocket_handle(self, frame: Message, context: Context) -> Any:
        await asyncio.sleep(0)
        replies = super().websocket_handle(frame, context)
        await asyncio.sleep(0)
        return replies

    async def websocket_info(self, message: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        replies = super().websocket_info(message, context)
        await asyncio.sleep(0)
        return replies


@pytest.mark.parametrize("handler", [Talkative, SlowlyTalkative])
async def test_what_callbacks_send_comes_behind_what_they_return(handler: type[Recorder]) -> None:
    async with bare(handler) as site:
        wire, _ = await site.open()
        assert await told(wire, 3) == ["returned by init", "sent by init", "info init"]
        await wire.send_raw("go")

        assert await told(wire, 7) == [
            *("returned", b"returned bytes", "sent", "info one", b"sent bytes", "info nested", "sent by info"),
        ]


@pytest.mark.parametrize("handler", [Recorder, SlowlyTalkative])
async def test_what_is_sent_from_outside_comes_in_the_order_called(handler: type[Recorder]) -> None:
    async with bare(handler) as site:
        wire, recorder = await site.open()
        socket = recorder.context.socket
        expected: list[str | bytes] = (
            ["returned by init", "sent by init", "info init"] if handler is SlowlyTalkative else []
        )
        for number in range(100):
            socket.send_data(f"text {number}")
            socket.send_info(number)
            socket.send_data(b"%d" % number)
            expected += [f"text {number}", f"info {number}", b"%d" % number]

        assert await told(wire, len(expected)) == expected


class Waiting(Recorder):
    """Its handle waits to be let go; its log says when it began and ended."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.go = asyncio.Event(), asyncio.Event()

    async def websocket_handle(self, frame: Message, context: Context) -> Any:
        self.log.append("begin")
        self.started.set()
        await self.go.wait()
        self.log.append("end")
        return Text("returned")


async def test_what_is_sent_from_outside_waits_for_the_running_callback() -> None:
    async with bare(Waiting) as site:
        wire, handler = await site.open()
        await wire.send_raw("go")
        await handler.started.wait()
        handler.context.socket.send_data("a")
        handler.context.socket.send_info("b")
        handler.context.socket.send_data("c")
        assert handler.log == ["begin"]
        handler.go.set()

        assert await told(wire, 4) == ["returned", "a", "info b", "c"]
        assert handler.log == ["begin", "end", "b"]


async def test_the_end_waits_for_the_running_callback() -> None:
    async with bare(Waiting) as site:
        wire, handler = await site.open()
        await wire.send_raw("go")
        await handler.started.wait()
        handler.context.socket.send_info("never seen")
        wire.cut()
        # Another socket has been served in between.
        await site.open()
        handler.go.set()
        await handler.ended()

        assert handler.log in (["begin", "end", 1006], ["begin", "end", "never seen", 1006])


class Exclusive(Recorder):
    """Notes when a callback begins while another one runs."""

    overlaps = 0
    running = 0
    calls = 0

    async def _occupied(self) -> None:
        self.calls += 1
        self.overlaps += self.running
        self.running += 1
        for _ in range(3):
            await asyncio.sleep(0)
        self.running -= 1

    async def websocket_init(self, context: Context) -> Any:
        super().websocket_init(context)
        context.socket.send_info("from init")
        await self._occupied()

    async def websocket_handle(self, frame: Message, context: Context) -> Any:
        context.socket.send_info("from handle")
        await self._occupied()
        return super().websocket_handle(frame, context)

    async def websocket_info(self, message: Any, context: Context) -> Any:
        await self._occupied()
        return super().websocket_info(message, context)

    async def websocket_terminate(self, reason: int, context: Context) -> Any:
        await self._occupied()
        super().websocket_terminate(reason, context)


async def test_callbacks_of_one_socket_never_overlap() -> None:
    async with bare(Exclusive) as site:
        wire, handler = await site.open()
        socket = handler.context.socket

        async def poke(name: str) -> None:
            for number in range(50):
                socket.send_info(f"{name} {number}")
                await asyncio.sleep(0)

        async def speak() -> None:
            for number in range(50):
                await wire.send_raw(str(number))

        await asyncio.gather(poke("a"), poke("b"), speak())
        # From init; from the two tasks; and for every frame its answer and its own.
        received = await told(wire, 1 + 100 + 100)
        await wire.ws.close()
        await handler.ended()

        assert handler.overlaps == 0
        assert handler.calls == 1 + 201 + 1
        for name in ("a", "b"):
            assert [text for text in received if str(text).startswith(f"info {name} ")] == [
                f"info {name} {number}" for number in range(50)
            ]
        assert [text for text in received if str(text).startswith("heard")] == [
            f"heard '{number}'" for number in range(50)
        ]


# --- failures ---------------------------------------------------------------------------------------------------------


class FailingInit(Recorder):
    def websocket_init(self, context: Context) -> Any:
        super().websocket_init(context)
        raise LookupError("in init")


class FailingHandle(Recorder):
    def websocket_handle(self, frame: Message, context: Context) -> Any:
        if frame.data == "fail":
            raise LookupError("in handle")
        return super().websocket_handle(frame, context)


class FailingInfo(Recorder):
    def websocket_info(self, message: Any, context: Context) -> Any:
        raise LookupError("in info")


class AsyncFailingInit(FailingInit):
    async def websocket_init(self, context: Context) -> Any:
        super().websocket_init(context)


class AsyncFailingHandle(FailingHandle):
    async def websocket_handle(self, frame: Message, context: Context) -> Any:
        return super().websocket_handle(frame, context)


class AsyncFailingInfo(FailingInfo):
    async def websocket_info(self, message: Any, context: Context) -> Any:
        super().websocket_info(message, context)


class Nonsense(Recorder):
    def websocket_handle(self, frame: Message, context: Context) -> Any:
        return "a string" if frame.data == "fail" else super().websocket_handle(frame, context)


async def check_failed(site: Bare, wire: WebSocketWire, handler: Recorder, callback: str) -> None:
    """A socket has been closed for the failure of a callback, is done with, and has told nobody why."""
    assert await wire.closed() == Closed(1011, f"{callback} failed")
    await handler.ended()
    assert handler.log[-1] == 1011
    assert handler.log.count(1011) == 1
    assert site.site.publisher.statistics().failed == {callback: 1}
    # What comes too late is dropped without a word.
    handler.context.socket.send_data("too late")
    handler.context.socket.send_info("too late")
    assert "too late" not in handler.log


@pytest.mark.parametrize("kind", [FailingHandle, AsyncFailingHandle, Nonsense])
async def test_a_handle_that_fails_ends_its_socket_alone(kind: type[Recorder]) -> None:
    async with bare(kind) as site:
        bystander, _ = await site.open()
        wire, handler = await site.open()
        await wire.send_raw("fail")

        await check_failed(site, wire, handler, "websocket_handle")
        assert await lives(bystander)


@pytest.mark.parametrize("kind", [FailingInfo, AsyncFailingInfo])
async def test_an_info_that_fails_ends_its_socket_alone(kind: type[Recorder]) -> None:
    async with bare(kind) as site:
        bystander, _ = await site.open()
        wire, handler = await site.open()
        handler.context.socket.send_data("before")
        handler.context.socket.send_info("fail")
        handler.context.socket.send_data("after")
        assert await wire.receive_raw() == "before"

        await check_failed(site, wire, handler, "websocket_info")
        assert await lives(bystander)


@pytest.mark.parametrize("kind", [FailingInit, AsyncFailingInit])
async def test_an_init_that_fails_ends_its_socket(kind: type[Recorder]) -> None:
    async with bare(kind) as site:
        wire, handler = await site.open()

        await check_failed(site, wire, handler, "websocket_init")


async def test_a_callback_that_takes_too_long_ends_its_socket() -> None:
    async with bare(Waiting, limits=Limits(callback=0.05)) as site:
        wire, handler = await site.open()
        await wire.send_raw("go")

        await check_failed(site, wire, handler, "websocket_handle")
        assert handler.log == ["begin", 1011]


class FailingTerminate(Recorder):
    def websocket_terminate(self, reason: int, context: Context) -> Any:
        super().websocket_terminate(reason, context)
        raise LookupError("in terminate")


async def test_a_terminate_that_fails_is_counted() -> None:
    async with bare(FailingTerminate) as site:
        wire, handler = await site.open()
        await wire.ws.close()
        await handler.ended()
        bystander, _ = await site.open()

        assert site.site.publisher.statistics().failed == {"websocket_terminate": 1}
        assert await lives(bystander)


async def test_more_than_the_mailbox_holds_ends_its_socket() -> None:
    async with bare(Waiting, limits=Limits(high_water=1000)) as site:
        wire, handler = await site.open()
        await wire.send_raw("go")
        await handler.started.wait()
        for _ in range(5):
            handler.context.socket.send_data("x" * 1000)
        assert (await wire.closed()).code == 4008
        handler.go.set()
        await handler.ended()

        assert handler.log == ["begin", "end", 4008]
        assert site.site.publisher.statistics().dropped["mailbox"] > 0


# --- the end ----------------------------------------------------------------------------------------------------------


class Closing(Recorder):
    def websocket_handle(self, frame: Message, context: Context) -> Any:
        return [Text("last words"), Close(4321, "enough"), Text("unheard")]


async def test_a_callback_closes_its_socket() -> None:
    async with bare(Closing) as site:
        wire, handler = await site.open()
        await wire.send_raw("go")
        assert await wire.receive_raw() == "last words"

        assert await wire.closed() == Closed(4321, "enough")
        await handler.ended()
        assert handler.log == [4321]


async def test_a_socket_is_closed_from_outside_behind_what_was_sent() -> None:
    async with bare(Waiting) as site:
        wire, handler = await site.open()
        await wire.send_raw("go")
        await handler.started.wait()
        handler.context.socket.send_data("last words")
        handler.context.socket.close(4321, "\u00e9" * 100)
        handler.context.socket.send_data("unheard")
        handler.go.set()

        assert await told(wire, 2) == ["returned", "last words"]
        assert await wire.closed() == Closed(4321, "\u00e9" * 61)


class SlowlyEnding(Recorder):
    async def websocket_terminate(self, reason: int, context: Context) -> Any:
        for _ in range(10):
            await asyncio.sleep(0)
        super().websocket_terminate(reason, context)


@pytest.mark.parametrize("handler_cancellation", [False, True])
@pytest.mark.parametrize(("end", "code"), [("close", 1000), ("cut", 1006)])
async def test_a_terminate_that_waits_runs_to_its_end(handler_cancellation: bool, end: str, code: int) -> None:
    async with bare(SlowlyEnding, handler_cancellation=handler_cancellation) as site:
        wire, handler = await site.open()
        if end == "cut":
            wire.cut()
        else:
            await wire.ws.close()
        await handler.ended()

        assert handler.log == [code]


async def test_the_end_says_how_it_came() -> None:
    async with bare(Recorder) as site:
        for end, code in (("close", 1000), ("cut", 1006), ("leave", 1001)):
            wire, handler = await site.open()
            if end == "cut":
                wire.cut()
            else:
                await wire.ws.close(code)
            await handler.ended()

            assert handler.log == [code]


@pytest.mark.parametrize(("message", "code"), [(b"x" * 2000, 1009), (b"\xff", 1007)])
async def test_a_message_that_ends_the_socket_is_the_reason_of_its_end(message: bytes, code: int) -> None:
    async with bare(Recorder, limits=Limits(message_up=1000)) as site:
        wire, handler = await site.open()
        await wire.ws.send(message, text=True)
        assert (await wire.closed()).code == code
        await handler.ended()

        assert handler.log == [code]


# --- the session ------------------------------------------------------------------------------------------------------


async def test_threat_8_the_session_can_be_read_and_not_written() -> None:
    async def fill(request: web.Request) -> None:
        (await aiohttp_session.get_session(request))["name"] = "ann"

    async with bare(Recorder, view=fill) as site:
        await site.visitor.token()
        _, handler = await site.open()
        session = handler.context.session_data
        assert session["name"] == "ann"
        for each in (session, await aiohttp_session.get_session(handler.context.request)):
            with pytest.raises(RuntimeError, match="an open socket cannot set a cookie"):
                each["name"] = "bob"
            with pytest.raises(RuntimeError, match="an open socket cannot set a cookie"):
                del each["name"]
            with pytest.raises(RuntimeError, match="an open socket cannot set a cookie"):
                each.changed()
            with pytest.raises(RuntimeError, match="an open socket cannot set a cookie"):
                each.invalidate()

        assert session["name"] == "ann"


async def test_every_socket_has_a_state_of_its_own() -> None:
    async with bare(Recorder) as site:
        (_, first), (_, second) = await site.open(), await site.open()
        first.context.state["name"] = "first"

        assert second.context.state == {}


# --- the default handler is an ordinary one ---------------------------------------------------------------------------


class OwnPageHandler(pagews.PageHandler):
    """Counts frames, holds one kind of push back, and sends something of its own."""

    async def websocket_handle(self, frame: Message, context: Context) -> Any:
        context.state["frames"] = context.state.get("frames", 0) + 1
        replies = super().websocket_handle(frame, context)
        return await replies if asyncio.iscoroutine(replies) else replies

    def websocket_info(self, message: Any, context: Context) -> Any:
        if not isinstance(message, Push):
            return Text(json.dumps(["push", 0, "page", "own", [message, context.state["frames"]]]))
        if message.delegate == "secret":
            context.socket.send_info("held back")
            return None
        return super().websocket_info(message, context)


@pytest.mark.parametrize("path", ["/pagews/socket", "/my/socket"])
async def test_a_page_handler_of_ones_own(path: str) -> None:
    async def start(request: web.Request) -> web.StreamResponse:
        return await pagews.websocket_start(request)

    site = TestSite(handler=OwnPageHandler)
    site.app.router.add_get("/my/socket", start)
    async with serving(site), Visitor(site.url) as visitor:
        token = await visitor.token()
        wire = await visitor.connect(path)
        await wire.hello(token)
        kind, welcome = await wire.receive()
        assert kind == "welcome"
        assert (await wire.ask("send", 1, 1, "none", None))[0] == "result"
        page = site.publisher.page(welcome["page"])
        await page.push("growl", 1)
        await page.push("secret", 2)
        await page.push("growl", 3)

        received = [await wire.receive() for _ in range(3)]
        assert sorted(frame[3:] for frame in received) == [["growl", 1], ["growl", 3], ["own", ["held back", 2]]]


class FailingPageHandler(pagews.PageHandler):
    def websocket_info(self, message: Any, context: Context) -> Any:
        if message.data == "fail":
            raise LookupError("in info")
        return super().websocket_info(message, context)


async def test_a_page_handler_that_fails_ends_its_socket_and_no_other() -> None:
    async with serving(TestSite(handler=FailingPageHandler)) as site, Visitor(site.url) as visitor:
        wire, bystander = await visitor.attach(), await visitor.attach()
        await site.publisher.page(wire.page).push("growl", "fail")
        assert await wire.closed() == Closed(1011, "websocket_info failed")
        await site.publisher.page(bystander.page).push("growl", "fine")

        assert (await bystander.receive())[4] == "fine"
