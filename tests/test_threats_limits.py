"""Visitors that want more than their share: floods of connections, of messages, of topics and of pages."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Callable
from typing import Any, Final

import pytest
from aiohttp import web
from websockets.exceptions import ConnectionClosed, InvalidStatus

import pagews
from pagews import DelegateTableDef, Limits
from pagews.limits import CLIENT_REPEATS, MIB
from pagews.site import get_site
from tests.sites import TestSite, serving
from tests.wire_client import Closed, SocketClosed, Transport, Visitor, WebSocketWire, new_document

#: Of whom the tests' own proxy says that it has connected.
ONE: Final = "203.0.113.7"
OTHER: Final = "198.51.100.9"

PATHS: Final = ("socket", "stream", "poll", "post")

#: One token a minute: what comes back during a test does not count.
SLOW: Final = 1 / 60


def refused(site: TestSite) -> dict[str, int]:
    return dict(site.publisher.statistics().refused)


async def is_served(site: TestSite, transport: Transport) -> bool:
    """Whether a visitor who comes now is."""
    async with Visitor(site.url, transport) as visitor:
        return bool((await visitor.attach()).welcome["resumed"])


# --- 15: connections --------------------------------------------------------------------------------------------------


async def answer(visitor: Visitor, path: str, token: str, address: str) -> tuple[int, str]:
    """The status that one more socket gets, which stays open if it may, and after how long to come again."""
    headers = {"X-Forwarded-For": address}
    if path == "socket":
        try:
            await visitor.connect(headers=headers)
        except InvalidStatus as error:
            return error.response.status_code, error.response.headers.get("Retry-After", "")
        return 200, ""
    hello = ["hello", {"token": token, "document": new_document(), "attempt": 1}]
    body = [hello] if path == "post" else hello
    line = visitor.line()
    found = await line.request(f"/pagews/{path}", json.dumps(body).encode(), streams=path == "stream", **headers)
    return found.status, found.headers.get("retry-after", "")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("limits", "reason", "addresses"),
    [
        pytest.param({"sockets": 2}, "sockets", (ONE, OTHER, OTHER), id="in all"),
        pytest.param({"address_sockets": 2}, "sockets of an address", (ONE, ONE, ONE), id="of an address"),
        pytest.param({"session_sockets": 2}, "sockets of a session", (ONE, OTHER, OTHER), id="of a session"),
    ],
)
async def test_threat_15_one_connection_too_many(
    path: str, limits: dict[str, int], reason: str, addresses: tuple[str, str, str]
) -> None:
    site = TestSite(limits=Limits(**limits), trusted_proxies=["127.0.0.1"])
    async with serving(site), Visitor(site.url) as visitor, Visitor(site.url) as other:
        token = await visitor.token()
        wires = [await visitor.connect(headers={"X-Forwarded-For": address}) for address in addresses[:2]]

        assert await answer(visitor, path, token, addresses[2]) == (503, "2")
        assert refused(site) == {reason: 1}
        # A browser is not shown the status of an upgrade: its page asks here.
        told = await visitor.renew({"token": token}, headers={"X-Forwarded-For": addresses[2]})
        assert told == (503, "Too many sockets are open.\n")
        assert refused(site) == {reason: 2}
        if reason != "sockets":
            elsewhere = await other.token()
            assert (await answer(other, path, elsewhere, OTHER))[0] == 200

        await wires[0].ws.close()
        assert (await answer(visitor, path, token, addresses[2]))[0] == 200


@pytest.mark.parametrize(
    ("limits", "reason"), [({"session_sockets": 5}, "sockets of a session"), ({"sockets": 5}, "sockets")]
)
async def test_threat_15_many_upgrades_at_once(limits: dict[str, int], reason: str) -> None:
    site = TestSite(limits=Limits(**limits))
    all_here = asyncio.Barrier(5)

    async def wait(request: web.Request, response: web.StreamResponse) -> None:
        if request.path == "/pagews/socket" and response.status == 101:
            await all_here.wait()

    site.app.on_response_prepare.append(wait)
    async with serving(site), Visitor(site.url) as visitor:
        await visitor.token()

        outcomes = await asyncio.gather(*(visitor.connect() for _ in range(20)), return_exceptions=True)

        assert sum(isinstance(outcome, WebSocketWire) for outcome in outcomes) == 5
        assert refused(site) == {reason: 15}


async def test_threat_15_bodies_that_are_on_their_way_count() -> None:
    site = TestSite(limits=Limits(session_sockets=2))
    async with serving(site), Visitor(site.url) as visitor:
        token = await visitor.token()
        slow = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(2)]
        head = ["POST /pagews/post HTTP/1.1", f"Host: 127.0.0.1:{site.port}", f"Cookie: {visitor.cookie}"]
        head += ["Content-Type: application/json", "Content-Length: 1000"]
        for _, writer in slow:
            writer.write("\r\n".join([*head, "", "["]).encode())
        async with asyncio.timeout(10):
            while await visitor.renew({"token": token}) != (503, "Too many sockets are open.\n"):
                pass

        assert (await answer(visitor, "post", token, ONE))[0] == 503
        for _, writer in slow:
            writer.transport.abort()
        async with asyncio.timeout(10):
            while (await answer(visitor, "post", token, ONE))[0] != 200:
                pass


async def test_threat_15_a_handler_that_cannot_be_made_has_no_place(transport: Transport) -> None:
    class Broken(pagews.PageHandler):
        is_broken = True

        def __init__(self) -> None:
            if self.is_broken:
                raise LookupError("no database")

    site = TestSite(limits=Limits(session_sockets=2), handler=Broken)
    path = transport.replace("websocket", "socket")
    async with serving(site), Visitor(site.url, transport) as visitor:
        token = await visitor.token()
        for _ in range(5):
            if path == "socket":
                wire = await visitor.connect()  # the handler is made when the upgrade has been accepted
                await wire.closed()
            else:
                with contextlib.suppress(EOFError):  # nor can a stream take back that it began
                    assert (await answer(visitor, path, token, ONE))[0] in (200, 500)
        Broken.is_broken = False

        assert (await visitor.attach(token)).welcome["resumed"]
        assert refused(site) == {}


@pytest.mark.parametrize("transport", ["websocket", "stream"])
async def test_threat_15_who_breaks_off_has_no_place(transport: Transport) -> None:
    site = TestSite(limits=Limits(session_sockets=2))
    async with serving(site), Visitor(site.url, transport) as visitor:
        token = await visitor.token()
        for _ in range(5):
            wire = await visitor.open()
            await wire.hello(token)
            wire.cut()
            await wire.gone()
            async with asyncio.timeout(10):
                while len(get_site(site.app).sockets):  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.001)
        await visitor.attach(token)

        assert "sockets of a session" not in refused(site)


async def test_threat_15_the_address_in_a_header_of_a_stranger_is_not_believed() -> None:
    site = TestSite(limits=Limits(address_sockets=1))
    async with serving(site), Visitor(site.url) as visitor:
        for _ in range(3):
            await visitor.connect(headers={"X-Forwarded-For": ONE})

        assert refused(site) == {}


async def test_threat_15_an_answer_that_nobody_reads_is_given_up() -> None:
    table = DelegateTableDef()

    @table.on("large")
    async def large(page: pagews.Page, data: Any) -> str:
        return "x" * 250_000

    async def shrink(request: web.Request, response: web.StreamResponse) -> None:
        if request.path == "/pagews/post" and request.transport is not None:
            # Else the kernel takes some megabytes.
            request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    site = TestSite(delegates=table, limits=Limits(stuck=0.3))
    site.app.on_response_prepare.append(shrink)
    async with serving(site), Visitor(site.url, "stream") as visitor:
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        connection = socket.create_connection(("127.0.0.1", site.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
        sends = [["send", number, 1, "large", None] for number in range(1, 60)]
        body = json.dumps([["hello", {"token": token, "document": document, "attempt": 1}], *sends]).encode()
        head = ["POST /pagews/post HTTP/1.1", f"Host: 127.0.0.1:{site.port}", f"Cookie: {visitor.cookie}"]
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        writer.write("\r\n".join(head).encode() + body)
        announced = int((await reader.readuntil(b"\r\n\r\n")).lower().split(b"content-length: ")[1].split()[0])
        sockets = get_site(site.app).sockets
        assert len(sockets) == 2  # it has its place for as long as it keeps something

        async with asyncio.timeout(10):
            while len(sockets) > 1:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)
        got = b""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65536):
                    got += piece
        assert len(got) < announced
        writer.close()
        await site.publisher.page(wire.page).push("still", "here")
        while (await wire.receive())[:1] != ["push"]:
            pass


# --- 17: messages -----------------------------------------------------------------------------------------------------

FLOOD: Final[dict[str, Callable[[int], list[Any]]]] = {
    "pong": lambda number: ["pong"],
    "send": lambda number: ["send", number, 1, "nobody", None],
    "join": lambda number: ["join", number, "room"],
    "leave": lambda number: ["leave", number, "room"],
    "ack": lambda number: ["ack", 1, True, None],
}


def flooded(**limits: float) -> TestSite:
    bounds: dict[str, Any] = {"rate": SLOW, "burst": CLIENT_REPEATS, "post_frames": 5000, "post": MIB, **limits}
    return TestSite(limits=Limits(**bounds))


async def test_threat_17_a_flood_of_messages(transport: Transport) -> None:
    site = flooded(sends_waiting=5000)
    async with serving(site):
        async with Visitor(site.url, transport) as visitor:
            token, document = await visitor.token(), new_document()
            wire = await visitor.attach(token, document=document)
            kinds = itertools.cycle(FLOOD.values())
            with contextlib.suppress(ConnectionClosed):
                for number in range(1, CLIENT_REPEATS + 10):
                    await wire.send(*next(kinds)(number))

            assert await wire.closed() == Closed(4013, "too many messages in too little time")
            assert site.publisher.statistics().closed[4013] == 1
            # It does not begin anew with another socket.
            again = await visitor.open()
            await again.hello(token, document=document, attempt=2)
            assert await again.closed() == Closed(4013, "too many messages in too little time")
            assert refused(site)["rate"] == 2
            # Another page of the same visitor is not meant.
            assert (await visitor.attach()).welcome["resumed"]
        assert await is_served(site, transport)


@pytest.mark.parametrize("kind", ["ping", "pong"])
async def test_threat_17_a_flood_of_control_frames(kind: str) -> None:
    site = flooded()
    async with serving(site):
        async with Visitor(site.url) as visitor:
            wire = await visitor.attach()
            assert isinstance(wire, WebSocketWire)
            with contextlib.suppress(ConnectionClosed):
                for number in range(CLIENT_REPEATS + 10):
                    await getattr(wire.ws, kind)(str(number))

            assert await wire.closed() == Closed(4013, "too many messages in too little time")
            assert refused(site) == {"rate": 1}
        assert await is_served(site, "websocket")


async def test_threat_17_a_ping_is_answered() -> None:
    async with serving(TestSite()) as site, Visitor(site.url) as visitor:
        wire = await visitor.attach()
        assert isinstance(wire, WebSocketWire)

        async with asyncio.timeout(10):
            await (await wire.ws.ping("there?"))


async def test_threat_17_more_delegates_than_may_run() -> None:
    table = DelegateTableDef()
    release, both = asyncio.Event(), asyncio.Barrier(3)
    ran: list[str] = []

    @table.on("slow")
    async def slow(page: pagews.Page, data: str) -> str:
        ran.append(data)
        if not release.is_set():
            await both.wait()
            await release.wait()
        return data

    site = TestSite(delegates=table, limits=Limits(delegates=2))
    async with serving(site), Visitor(site.url) as visitor:
        busy = [await visitor.attach() for _ in range(2)]
        for number, wire in enumerate(busy):
            await wire.send("send", 1, 1, "slow", f"busy {number}")
        async with asyncio.timeout(10):
            await both.wait()
        other = await visitor.attach()

        assert await other.ask("send", 1, 2, "slow", "too many") == [
            *("result", 1, False),
            {"code": "limit", "message": "the server has too much to do: try again in a moment"},
        ]
        assert refused(site) == {"delegates": 1}
        release.set()
        assert [await wire.receive() for wire in busy] == [["result", 1, True, f"busy {number}"] for number in (0, 1)]
        assert await other.ask("send", 2, 2, "slow", "now") == ["result", 2, True, "now"]
        assert ran == ["busy 0", "busy 1", "now"]


# --- 14 and 23: what is in a body ------------------------------------------------------------------------------------


async def test_threat_14_messages_are_counted_before_they_are_read() -> None:
    async with serving(TestSite()) as site, Visitor(site.url) as visitor:
        items = ["no base64"] * (Limits().post_frames + 1)

        found = await visitor.line().request("/pagews/post", json.dumps(items).encode())

        assert (found.status, refused(site)) == (413, {"body too big": 1})


async def test_threat_23_a_handler_is_given_text_that_is_utf8() -> None:
    read: list[str] = []

    class Reading(pagews.PageHandler):
        def websocket_handle(self, frame: Any, context: pagews.Context) -> Any:
            read.append(frame.data)
            return super().websocket_handle(frame, context)

    async with serving(TestSite(handler=Reading)) as site, Visitor(site.url, "stream") as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        read.clear()
        hello = json.dumps(["hello", {"token": token, "document": document, "attempt": 1}]).encode()

        found = await visitor.line().request("/pagews/post", b'[%b,["pong","\xff"]]' % hello)

        assert json.loads(found.body) == [["close", 4501, "text that is not UTF-8"]]
        assert read == [hello.decode()]
        assert refused(site) == {"malformed frame": 1}
        assert site.publisher.statistics().failed == {}


# --- 18: topics and pages ---------------------------------------------------------------------------------------------


async def may_join(page: pagews.Page, topic: str) -> bool:
    return not topic.startswith("secret")


async def test_threat_18_endless_topics(transport: Transport) -> None:
    async with serving(TestSite(limits=Limits(topics=3), authorize=may_join)) as site:
        async with Visitor(site.url, transport) as visitor:
            wire = await visitor.attach()
            for number in (1, 2, 3):
                assert await wire.ask("join", number, f"room/{number}") == ["result", number, True, None]

            for number in (4, 5):
                kind, _, done, error = await wire.ask("join", number, f"room/{number}")
                assert (kind, done, error["code"]) == ("result", False, "limit")
            assert refused(site) == {"topics": 2}
            assert await wire.ask("join", 6, "room/1") == ["result", 6, True, None]
        assert await is_served(site, transport)


async def test_threat_18_one_page_too_many(transport: Transport) -> None:
    async with serving(TestSite(limits=Limits(session_pages=2))) as site, Visitor(site.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        first = await visitor.attach(token, document=document)
        await visitor.attach()

        third = await visitor.open()
        await third.hello(await visitor.token())
        assert await third.closed() == Closed(4004, "pages")
        assert refused(site) == {"pages": 1}
        assert site.publisher.statistics().closed[4004] == 1

        # One that comes back takes nobody's place.
        first.cut()
        assert (await visitor.attach(token, document=document, attempt=2)).page == first.page
        assert await is_served(site, transport)


# --- 33: what was not granted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorize", [None, may_join])
async def test_threat_33_a_topic_that_was_not_granted(transport: Transport, authorize: Any) -> None:
    async with serving(TestSite(authorize=authorize)) as site:
        async with Visitor(site.url, transport) as visitor:
            wire = await visitor.attach()

            kind, number, done, error = await wire.ask("join", 1, "secret/plans")

            assert (kind, number, done, error["code"]) == ("result", 1, False, "not-authorized")
            assert refused(site) == {"join": 1}
            await site.publisher.topic("secret/plans").push("plan", "for others")
            await site.publisher.page(wire.page).push("plan", "for you")
            assert (await wire.receive())[4] == "for you"
        assert await is_served(site, transport)


async def test_threat_33_a_refusal_that_is_raised(transport: Transport) -> None:
    async def refuse(page: pagews.Page, topic: str) -> bool:
        raise pagews.NotAuthorized(f"{page.id} may not read {topic}")

    async with serving(TestSite(authorize=refuse)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()

        _, _, done, error = await wire.ask("join", 1, "room")

        assert (done, error["code"]) == (False, "not-authorized")
        assert "may not read" not in error["message"]
        assert refused(site) == {"join": 1}
        assert site.publisher.statistics().failed == {}


async def test_threat_33_what_is_neither_yes_nor_no_is_no(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    async def forgetful(page: pagews.Page, topic: str) -> Any:
        return may_join(page, topic)

    async with serving(TestSite(authorize=forgetful)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()

        _, _, done, error = await wire.ask("join", 1, "room")

        assert (done, error["code"]) == (False, "internal")
        assert get_site(site.app).node.pages[wire.page].topics == {}
        assert "is an await missing?" in caplog.text


async def test_threat_33_a_refusal_with_a_reason(transport: Transport) -> None:
    async def say_why(page: pagews.Page, topic: str) -> bool:
        raise pagews.DelegateError("login-first", "Log in to join.")

    async with serving(TestSite(authorize=say_why)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()

        _, _, done, error = await wire.ask("join", 1, "room")

        assert (done, error) == (False, {"code": "login-first", "message": "Log in to join."})


async def test_threat_33_a_delegate_that_requires_a_user(transport: Transport) -> None:
    table = DelegateTableDef()
    ran: list[str | None] = []

    @table.on("basket", requires=pagews.requires_user)
    async def basket(page: pagews.Page, data: int) -> int:
        assert page.user is not None
        ran.append(page.user.id)
        return data

    async with serving(TestSite(delegates=table)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        # Its data is not looked at: whoever may not ask learns nothing of what is asked for.
        for number, data in enumerate([7, "nonsense"], start=1):
            assert await wire.ask("send", number, 2, "basket", data) == [
                *("result", number, False),
                {"code": "not-authorized", "message": "the application does not let this page do that"},
            ]
        assert refused(site) == {"delegate": 2}
        assert await visitor.get("/login?user=ann") == 200
        with pytest.raises(SocketClosed, match="4503"):
            await wire.receive_raw()

        known = await visitor.attach()
        assert await known.ask("send", 1, 2, "basket", 7) == ["result", 1, True, 7]
        assert ran == ["ann"]


async def test_threat_33_a_result_is_not_for_who_comes_after() -> None:
    table = DelegateTableDef()
    begun, release = asyncio.Event(), asyncio.Event()

    @table.on("secret")
    async def secret(page: pagews.Page, data: Any) -> str:
        begun.set()
        await release.wait()
        return "for ann alone"

    async with serving(TestSite(delegates=table)) as site, Visitor(site.url, "stream") as visitor:
        assert await visitor.get("/login?user=ann") == 200
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        body = [["hello", {"token": token, "document": document, "attempt": 1}], ["send", 1, 1, "secret", None]]
        waiting = asyncio.create_task(visitor.line().request("/pagews/post", json.dumps(body).encode()))
        await begun.wait()
        assert await visitor.get("/logout") == 200
        assert (await wire.closed()).code == 4503
        release.set()

        found = await waiting
        assert (found.status, json.loads(found.body)) == (200, [])
