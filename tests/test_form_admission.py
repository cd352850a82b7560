"""What a form takes of its visitor's share, and who is asked for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from websockets.exceptions import InvalidStatus

import pagews
from pagews import Limits
from pagews.site import Site, get_site
from tests.posted_forms import END, HTML, JSON, Clerk, Slow, own, part, post_form
from tests.sites import TestSite, serving
from tests.wire_client import Visitor

#: Of whom the tests' own proxy says that it has connected.
ONE: Final = {"X-Forwarded-For": "203.0.113.7"}
OTHER: Final = {"X-Forwarded-For": "198.51.100.9"}


async def until_uploading(site: Site, count: int) -> None:
    """Wait until so many forms with files are under way."""
    async with asyncio.timeout(10):
        while site.uploads.total() < count:  # noqa: ASYNC110  # nobody is told of such a begin
            await asyncio.sleep(0)


# --- how much -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [JSON, HTML])
async def test_form_is_one_of_the_messages_of_its_page(accept: str) -> None:
    clerk, limits = Clerk(), Limits(rate=1 / 60)
    async with serving(TestSite(delegates=clerk.delegates, limits=limits)) as site, Visitor(site.url) as visitor:
        pagews_site, token = get_site(site.app), await visitor.token()
        known = pagews_site.tokens.read(token)
        assert known is not None
        now = asyncio.get_running_loop().time()
        bucket = pagews_site.buckets.of(known.page, now)
        for _ in range(limits.burst - 1):
            assert bucket.take(now, limits.rate, limits.burst)

        last = await post_form(visitor, own(token, "keep") + END, accept)
        assert last.status == (200 if accept == JSON else 303)
        for _ in range(2):
            answer = await post_form(visitor, own(token, "keep") + END, accept)
            assert (answer.status, answer.retry_after, answer.cookie) == (429, "60", "")
            assert accept == HTML or json.loads(answer.text)["code"] == "limit"
        assert pagews_site.counters.refused == {"rate": 2}
        assert len(clerk.users) == 1
        # Another page is not held up.
        assert (await post_form(visitor, own(await visitor.token(), "keep") + END)).status == 200


@pytest.mark.parametrize(
    ("limits", "counter"),
    [
        (Limits(sockets=1), "sockets"),
        (Limits(address_sockets=1), "sockets of an address"),
        (Limits(session_sockets=1), "sockets of a session"),
    ],
)
@pytest.mark.parametrize("accept", [JSON, HTML])
async def test_form_counts_as_a_socket_until_its_delegate_has_ended(limits: Limits, counter: str, accept: str) -> None:
    clerk = Clerk(waits=True)
    site = TestSite(delegates=clerk.delegates, limits=limits, trusted_proxies=["127.0.0.1"])
    async with serving(site), Visitor(site.url) as visitor:
        token = await visitor.token()
        first = asyncio.create_task(post_form(visitor, own(token, "keep") + END, **ONE))
        async with asyncio.timeout(10):
            await clerk.began.wait()

        slow = Slow(own(token, "keep"))
        answer = await post_form(visitor, slow.body(), accept, **ONE)  # refused before its file has come
        slow.go.set()
        assert answer.status == 503
        assert answer.retry_after.isdecimal()
        assert accept == HTML or json.loads(answer.text)["code"] == "limit"
        with pytest.raises(InvalidStatus):
            await visitor.connect(headers=ONE)
        assert get_site(site.app).counters.refused == {counter: 2}
        async with Visitor(site.url) as other:
            status = (await post_form(other, own("", "keep") + END, **OTHER)).status
            assert status == 403, "a stranger is refused for what it is"

        clerk.go.set()
        assert (await first).status == 200
        assert (await post_form(visitor, own(token, "keep") + END, **ONE)).status == 200
        assert len(clerk.users) == 2


async def test_who_has_many_sessions_has_half_of_the_places_for_files() -> None:
    clerk, limits = Clerk(), Limits(uploads=6, session_uploads=2)
    site = TestSite(delegates=clerk.delegates, limits=limits, trusted_proxies=["127.0.0.1"])
    async with serving(site), Visitor(site.url) as one, Visitor(site.url) as two:
        under_way = []
        for count, visitor in enumerate((one, one, two), 1):
            slow = Slow(own(await visitor.token(), "keep"))
            under_way.append((slow, asyncio.create_task(post_form(visitor, slow.body(), **ONE))))
            await until_uploading(get_site(site.app), count)

        file = part('form-data; name="f"; filename="a"', b"1") + END
        for address, status in ((ONE, 503), (OTHER, 200)):
            body = own(await two.token(), "keep") + file
            assert (await post_form(two, body, **address)).status == status
        assert get_site(site.app).counters.refused == {"uploads": 1}
        for slow, posting in under_way:
            slow.go.set()
            assert (await posting).status == 200
        assert not get_site(site.app).uploads


async def test_files_that_come_drop_by_drop_do_not_keep_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagews.requests.LEAST_RATE", 1)
    monkeypatch.setattr("pagews.form_body.FILES_RATE", 10_000_000)
    clerk, answered = Clerk(), asyncio.Event()
    limits = Limits(upload=200_000, stuck=1)
    async with serving(TestSite(delegates=clerk.delegates, limits=limits)) as site, Visitor(site.url) as visitor:
        begin = own(await visitor.token(), "keep") + part('form-data; name="f"; filename="a"', b"x" * 50_000)[:-2]

        async def drops() -> AsyncIterator[bytes]:
            yield begin
            for _ in range(100):
                if not answered.is_set():
                    yield b"x" * 20
                    await asyncio.sleep(0.04)  # that is what it does
            yield b"\r\n" + END

        answer = await post_form(visitor, drops())
        answered.set()
        assert answer.status == 408
        assert get_site(site.app).counters.refused == {"slow body": 1}
        assert not get_site(site.app).uploads
        assert clerk.users == []


# --- who ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["socket", "stream", "poll", "post", "form", "renew"])
async def test_of_another_site_nobody_is_asked_who_is_there(path: str) -> None:
    asked: list[str] = []

    async def user(request: web.Request) -> None:
        asked.append(request.path)

    kind = "application/x-www-form-urlencoded" if path == "form" else JSON
    async with serving(TestSite(user=user)) as site, aiohttp.ClientSession() as stranger:
        headers = {"Origin": "https://evil.example", "Content-Type": kind, "Accept": "*/*"}
        method = "GET" if path == "socket" else "POST"
        async with stranger.request(method, f"{site.url}/pagews/{path}", data=b"{}", headers=headers) as response:
            assert response.status == 403
        assert asked == []


async def test_form_delegate_of_an_application_that_opens_pages_by_its_request() -> None:
    request_of: ContextVar[web.Request] = ContextVar("request")
    table = pagews.DelegateTableDef()

    @table.on("another")
    async def another(page: pagews.Page, data: Any) -> list[Any]:
        opened = await pagews.open_page(request_of.get(), topics=["news"])
        tags = [pagews.script_tag(opened), pagews.form_tag(opened, "another")]
        return [opened.id != page.id, opened.session.id == page.session.id, *("data-page=" in tag for tag in tags)]

    @web.middleware
    async def remember(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_of.set(request)
        return await handler(request)

    site = TestSite(delegates=table)
    site.app.middlewares.append(remember)
    async with serving(site), Visitor(site.url) as visitor:
        answer = await post_form(visitor, own(await visitor.token(), "another") + END)
        assert json.loads(answer.text) == {"ok": True, "value": [True, True, True, False]}
