"""Who pretends to be somebody: stolen tokens and cookies, guessed ids, planted sessions, and who says nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp_session
import pytest

import pagews
from pagews import Limits
from pagews.site import get_site
from tests.bad_tokens import BAD_TOKEN, answer, expired, of_another_key, tampered
from tests.raw_http import RawSocket, frame, frame_head
from tests.sites import House, Served, TestSite, serving
from tests.threats import Desk, closed, give, is_served, refused
from tests.wire_client import Closed, SocketClosed, Transport, Visitor, Wire, new_document


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=Desk().delegates)) as site:
        yield site


# --- 5 and 10: tokens and page ids ------------------------------------------------------------------------------------


async def test_threat_5_every_token_that_is_not_good_gets_the_same_answer(site: TestSite, transport: Transport) -> None:
    async with Visitor(site.url, transport) as visitor, Visitor(site.url, transport) as other:
        token, stolen = await visitor.token(), await other.token()
        bad = [stolen, "unknown", tampered(token, site.key), expired(token, site.key), of_another_key(token, site.key)]
        for each in bad:
            assert await answer(visitor, each) == BAD_TOKEN
        assert refused(site) == {"token": len(bad)}
        assert closed(site) == {4500: len(bad)}
        assert (await other.attach(stolen)).welcome["resumed"]
    assert await is_served(site, transport)


async def test_threat_5_by_post_it_gets_that_answer_too_and_nothing_runs(site: TestSite) -> None:
    async with Visitor(site.url, "stream") as visitor, Visitor(site.url, "stream") as other:
        stolen, document = await other.token(), new_document()
        victim = await other.attach(stolen, document=document)
        await visitor.token()
        body = [["hello", {"token": stolen, "document": document, "attempt": 9}], ["send", 1, 2, "echo", "forged"]]
        line = visitor.line()
        reply = await line.request("/pagews/post", json.dumps(body).encode())
        line.cut()

        assert json.loads(reply.body) == [["close", *BAD_TOKEN]]
        assert refused(site) == {"token": 1}
        # Nothing has claimed the number of that send.
        assert await victim.ask("send", 1, 2, "echo", "honest") == ["result", 1, True, "honest"]


async def test_threat_5_a_form_with_it_is_not_taken(site: TestSite) -> None:
    async with Visitor(site.url) as visitor, Visitor(site.url) as other:
        await visitor.token()
        token = await other.token()
        for who, status in ((visitor, 403), (other, 303)):
            line = who.line()
            body = f"pagews.token={token}&pagews.delegate=echo&pagews.back=/".encode()
            answered = await line.request("/pagews/form", body, Content_Type="application/x-www-form-urlencoded")
            line.cut()
            assert answered.status == status
        assert refused(site) == {"token": 1}


async def test_threat_10_a_page_id_is_worth_nothing(site: TestSite, transport: Transport) -> None:
    async with Visitor(site.url, transport) as victim, Visitor(site.url, transport) as visitor:
        wire = await victim.attach(await victim.token("/?topic=news"))
        token = await visitor.token()
        assert await answer(visitor, wire.page) == BAD_TOKEN
        assert (await visitor.renew({"token": wire.page}))[0] == 403
        assert refused(site) == {"token": 1, "renewal": 1}
        # What a hello says of its page besides the token counts for nothing.
        own = await visitor.attach(token, page=wire.page, topics=["news"])
        assert own.page != wire.page
        await site.publisher.page(wire.page).push("secret", 1)
        await site.publisher.topic("news").push("secret", 2)
        await site.publisher.page(own.page).push("own", 3)

        assert (await own.receive())[3:] == ["own", 3]
        assert [(await wire.receive())[4] for _ in range(2)] == [1, 2]


async def hearing(site: Served, wires: list[Wire]) -> asyncio.Future[list[Closed]]:
    """How they end. All of them listen now, also those that poll: who asks between two polls hears it a poll later."""
    ends = asyncio.gather(*(wire.closed() for wire in wires))
    if wires[0].transport == "poll":
        await site.waiting(len(wires))
    return ends


# --- 6: sessions that were planted ------------------------------------------------------------------------------------


async def test_threat_6_a_session_that_was_fixed_before_the_login_is_worth_nothing(
    house: House, transport: Transport
) -> None:
    async with (
        serving(house(delegates=Desk().delegates)) as site,
        Visitor(site.url, transport) as victim,
        Visitor(site.url, transport) as thief,
    ):
        planted = await thief.token()
        cookie = thief.cookie
        ends = await hearing(site, [await thief.attach() for _ in range(4)])  # of two workers, on both
        give(victim, cookie)
        began = time.monotonic()
        assert await victim.get("/login?user=ann") == 200

        assert await ends == [Closed(4503, "the session has ended")] * 4
        assert time.monotonic() - began < 1
        assert closed(site) == {4503: 4}
        assert victim.cookie != cookie
        # Whoever has the cookie of before is nobody now, and hears nothing of who has logged in.
        assert await answer(thief, planted) == BAD_TOKEN
        assert refused(site) == {"token": 1}
        other, own = await thief.attach(), await victim.attach()
        await site.publisher.user("ann").push("mail", "for ann")
        await site.publisher.page(other.page).push("mail", "for nobody")
        assert (await own.receive())[3:] == ["mail", "for ann"]
        assert (await other.receive())[3:] == ["mail", "for nobody"]


async def test_threat_6_a_logout_reaches_the_pages_of_every_worker(house: House, transport: Transport) -> None:
    async with serving(house(delegates=Desk().delegates)) as site, Visitor(site.url, transport) as visitor:
        await visitor.get("/login?user=ann")
        before = visitor.cookie
        token = await visitor.token()
        ends = await hearing(site, [await visitor.attach() for _ in range(4)])
        began = time.monotonic()
        await visitor.get("/logout")

        assert await ends == [Closed(4503, "the session has ended")] * 4
        assert time.monotonic() - began < 1
        assert closed(site) == {4503: 4}
        wire = await visitor.open(cookie=before)
        await wire.hello(token)
        assert await wire.closed() == BAD_TOKEN
        assert refused(site) == {"token": 1}
        assert (await visitor.attach()).welcome["resumed"]


# --- 8: what a socket cannot write ------------------------------------------------------------------------------------


class Careless(pagews.PageHandler):
    """Writes to the session when it is asked to."""

    def websocket_handle(self, frame: pagews.Text | pagews.Binary, context: pagews.Context) -> Any:
        if isinstance(frame, pagews.Text) and "write" in frame.data:
            return self._write(context)
        return super().websocket_handle(frame, context)

    async def _write(self, context: pagews.Context) -> None:
        (await aiohttp_session.get_session(context.request))["seen"] = True


async def test_threat_8_writing_to_the_session_of_a_socket_is_a_clear_error(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(TestSite(delegates=Desk().delegates, handler=Careless)) as site,
        Visitor(site.url, transport) as visitor,
    ):
        wire = await visitor.attach()
        bystander = await visitor.attach()
        await wire.send("send", 1, 1, "echo", "write")

        assert (await wire.closed()).code == 1011
        assert dict(site.publisher.statistics().failed) == {"websocket_handle": 1}
        assert closed(site) == {1011: 1}
        assert "an open socket cannot set a cookie: write to the session in a view" in caplog.text
        assert await bystander.ask("send", 1, 1, "echo", "served") == ["result", 1, True, "served"]


# --- 16: an upgrade, and no hello -------------------------------------------------------------------------------------


async def test_threat_16_who_says_no_hello_is_closed_and_has_no_page_before() -> None:
    assert Limits().hello == 5.0
    async with (
        serving(TestSite(delegates=Desk().delegates, limits=Limits(hello=1.0))) as site,
        Visitor(site.url) as visitor,
    ):
        token = await visitor.token()
        hello = ["hello", {"token": token, "document": new_document(), "attempt": 1}]
        cookie = f"Cookie: {visitor.cookie}"
        payload = json.dumps(hello).encode()
        beginnings = [
            [],
            # Whatever is said instead, or begun and not ended.
            [frame(0x89, b"ping"), frame(0x8A, b"pong")],
            [frame_head(0x81, len(payload)), payload[:-1]],
            [frame(0x01, payload), frame(0x00, b"")],
        ]
        sockets = [await RawSocket.open(site.port, cookie) for _ in beginnings]
        for socket, frames in zip(sockets, beginnings, strict=True):
            await socket.write(*frames)
        statistics = site.publisher.statistics()
        assert (statistics.attached, statistics.channels, statistics.sockets) == (0, 0, len(sockets))
        assert get_site(site.app).node.pages == {}

        for socket in sockets:
            async with socket:
                assert await socket.closed() == 4002
        assert closed(site) == {4002: len(sockets)}
        assert await is_served(site, "websocket")


# --- 35: two first requests at once -----------------------------------------------------------------------------------


async def test_threat_35_of_two_first_requests_the_page_whose_cookie_lost_needs_a_fresh_one(
    site: TestSite, transport: Transport
) -> None:
    """Each is given a session; the browser keeps the cookie that comes last."""
    async with (
        Visitor(site.url, transport) as visitor,
        Visitor(site.url, transport) as first,
        Visitor(site.url, transport) as second,
    ):
        lost, won = await asyncio.gather(first.token(), second.token())
        give(visitor, second.cookie)

        assert (await visitor.attach(won)).welcome["resumed"]
        assert await answer(visitor, lost) == BAD_TOKEN
        assert refused(site) == {"token": 1}
        assert (await visitor.renew({"token": lost}))[0] == 403
        assert refused(site) == {"token": 1, "renewal": 1}
        assert (await visitor.attach()).welcome["resumed"]


async def test_threat_35_a_page_whose_cookies_were_cleared_needs_a_fresh_one(
    site: TestSite, transport: Transport
) -> None:
    async with Visitor(site.url, transport) as visitor:
        token = await visitor.token()
        wire = await visitor.attach(token)
        visitor.http.cookie_jar.clear()
        wire.cut()
        with pytest.raises(SocketClosed):
            await wire.receive()

        assert await answer(visitor, token) == BAD_TOKEN
        assert (await visitor.renew({"token": token}))[0] == 403
        assert refused(site) == {"token": 1, "renewal": 1}
        assert (await visitor.attach()).welcome["resumed"]
