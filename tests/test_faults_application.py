"""Code of the application that fails: the browser is told, the page lives, others do not notice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import pagews
from pagews import DelegateTableDef, Limits, PageHandler
from tests.sites import Detached, TestSite, serving
from tests.test_faults_time import REPLACED
from tests.wire_client import Closed, Transport, Visitor, Wire

# --- delegates --------------------------------------------------------------------------------------------------------

table = DelegateTableDef()


@table.on("echo")
async def echo(page: pagews.Page, data: Any) -> Any:
    return data


@table.on("raises")
async def raises(page: pagews.Page, data: Any) -> None:
    raise LookupError("the password is swordfish")


@table.on("hangs")
async def hangs(page: pagews.Page, data: Any) -> None:
    await asyncio.Event().wait()


@table.on("returns nonsense")
async def returns_nonsense(page: pagews.Page, data: Any) -> Any:
    return object()


@table.on("returns too much")
async def returns_too_much(page: pagews.Page, data: Any) -> str:
    return "x" * 10_000


async def lives(wire: Wire, number: int = 1000) -> bool:
    return await wire.ask("send", number, 1, "echo", "here") == ["result", number, True, "here"]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(
    ("name", "code"),
    [("raises", "internal"), ("hangs", "timeout"), ("returns nonsense", "internal"), ("returns too much", "internal")],
)
async def test_fault_28_a_delegate_that_fails(
    name: str, code: str, qos: int, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(callback=0.1, message_down=1000)
    async with serving(TestSite(delegates=table, limits=limits)) as site, Visitor(site.url, transport) as visitor:
        wire, other = await visitor.attach(), await visitor.attach()
        kind, number, ok, error = await wire.ask("send", 1, qos, name, None)

        assert (kind, number, ok, error["code"]) == ("result", 1, False, code)
        # Said clearly, and without what is none of the browser's business; that is in the log.
        assert error["message"]
        assert "swordfish" not in error["message"]
        assert name in caplog.text
        assert sum(site.publisher.statistics().failed.values()) == 1
        assert await lives(wire)
        assert await lives(other)
        # Of qos 2 it is the outcome, which is kept like any other.
        if qos == 2:
            assert await wire.ask("send", 1, qos, name, None) == ["result", 1, False, error]
            assert sum(site.publisher.statistics().failed.values()) == 1
        assert set(site.publisher.statistics().closed) <= REPLACED[transport]


async def test_fault_28_a_delegate_that_hangs_holds_up_its_own_page_alone(transport: Transport) -> None:
    async with (
        serving(TestSite(delegates=table, limits=Limits(callback=0.5))) as site,
        Visitor(site.url, transport) as visitor,
    ):
        wire, other = await visitor.attach(), await visitor.attach()
        await wire.send("send", 1, 2, "hangs", None)
        await wire.send("send", 2, 2, "echo", "behind it")
        assert await lives(other)
        # Nor does it hold up what the page is told, or asked.
        await site.publisher.page(wire.page).push("growl", "meanwhile")
        assert (await wire.receive())[4] == "meanwhile"

        assert (await wire.receive())[3]["code"] == "timeout"
        assert await wire.receive() == ["result", 2, True, "behind it"]


# --- callbacks of a handler -------------------------------------------------------------------------------------------


class Failing(PageHandler):
    """Fails in one callback, for the one page that the test names.

    Attributes:
        callback: where. page: for whom; None: for everybody.
    """

    callback = ""
    page: str | None = None

    def _fail(self, callback: str, context: pagews.Context) -> None:
        here = None if context.page is None else context.page.id
        if callback == self.callback and self.page in (None, here):
            raise LookupError("the callback fails")

    def websocket_init(self, context: pagews.Context) -> Any:
        self._fail("websocket_init", context)
        return super().websocket_init(context)

    def websocket_handle(self, frame: Any, context: pagews.Context) -> Any:
        self._fail("websocket_handle", context)
        return super().websocket_handle(frame, context)

    def websocket_info(self, message: Any, context: pagews.Context) -> Any:
        self._fail("websocket_info", context)
        return super().websocket_info(message, context)

    async def websocket_terminate(self, reason: int, context: pagews.Context) -> None:
        if reason not in REPLACED["poll"]:
            self._fail("websocket_terminate", context)


class FailingLater(Failing):
    """The same in a coroutine, after a turn of the loop."""

    async def websocket_init(self, context: pagews.Context) -> Any:
        await asyncio.sleep(0)
        return super().websocket_init(context)

    async def websocket_handle(self, frame: Any, context: pagews.Context) -> Any:
        await asyncio.sleep(0)
        replies = super().websocket_handle(frame, context)
        return await replies if asyncio.iscoroutine(replies) else replies

    async def websocket_info(self, message: Any, context: pagews.Context) -> Any:
        await asyncio.sleep(0)
        return super().websocket_info(message, context)


@pytest.mark.parametrize("base", [Failing, FailingLater])
@pytest.mark.parametrize("callback", ["websocket_init", "websocket_handle", "websocket_info", "websocket_terminate"])
async def test_fault_29_a_callback_of_a_handler_that_raises(
    base: type[Failing], callback: str, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    class Handler(base):  # type: ignore[misc, valid-type]  # whichever it is
        pass

    site = TestSite(delegates=table, handler=Handler)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, transport) as visitor:
        token = await visitor.token("/?topic=news")
        other, wire = [await visitor.attach(await visitor.token("/?topic=news")) for _ in range(2)]
        hearing, ending = asyncio.create_task(other.receive()), asyncio.create_task(wire.closed())
        if transport == "poll":
            await site.waiting(2)
        Handler.callback, Handler.page = callback, wire.page
        if callback == "websocket_init":
            Handler.page = None
            third = await visitor.open()
            if transport != "websocket":
                await third.hello(token)
            ending = asyncio.create_task(third.closed())
        elif callback == "websocket_handle":
            await wire.send("pong")
        elif callback == "websocket_terminate":
            await site.publisher.page(wire.page).close(1011, "websocket_terminate will fail")
        # With the one that fails, the other page gets it too.
        await site.publisher.topic("news").push("growl", "to both")

        assert await ending == Closed(
            1011, "websocket_terminate will fail" if callback == "websocket_terminate" else f"{callback} failed"
        )
        assert (await hearing)[4] == "to both"
        if callback != "websocket_init":
            assert await detached.next() == wire.page
        Handler.callback = ""
        assert await lives(other)
        closed = Counter(site.publisher.statistics().closed)
        assert closed.pop(1011) == 1
        assert set(closed) <= REPLACED[transport]
        assert site.publisher.statistics().attached == (2 if callback == "websocket_init" else 1)
        # Logged and counted, once.
        assert site.publisher.statistics().failed == {callback: 1}
        assert f"Handler.{callback} failed" in caplog.text
        assert "LookupError: the callback fails" in caplog.text
