"""Visitors that want more than their share: floods of connections, of messages, of topics and of pages."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any, Final

import pytest
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


async def test_threat_15_many_upgrades_at_once() -> None:
    site = TestSite(limits=Limits(session_sockets=5))
    async with serving(site), Visitor(site.url) as visitor:
        await visitor.token()

        outcomes = await asyncio.gather(*(visitor.connect() for _ in range(20)), return_exceptions=True)

        assert sum(isinstance(outcome, WebSocketWire) for outcome in outcomes) == 5
        assert refused(site) == {"sockets of a session": 15}


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
