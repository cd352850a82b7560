"""Forms that take their time, of a browser whose session ends meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web

import pagews
from pagews import form_body
from pagews.memory_broker import MemoryBroker
from pagews.site import get_site
from tests.posted_forms import END, HTML, JSON, Clerk, Slow, own, post_form
from tests.sites import TestSite, serving
from tests.wire_client import Visitor


async def user_of(request: web.Request) -> str | None:
    """Of an application that keeps its users itself, in its session."""
    return (await aiohttp_session.get_session(request)).get("uid")


async def enter(request: web.Request) -> web.Response:
    (await aiohttp_session.get_session(request))["uid"] = request.query["user"]
    await pagews.rotate_session(request)
    return web.Response()


async def leave(request: web.Request) -> web.Response:
    (await aiohttp_session.get_session(request)).pop("uid", None)
    await pagews.rotate_session(request)
    return web.Response()


async def who(request: web.Request) -> web.Response:
    return web.json_response((await get_site(request).identities.load(request)).user_id)


class Shop:
    """A site with a clerk. `paths`: where one logs in and out."""

    def __init__(self, clerk: Clerk, *, keeps_users: bool = False, **setup: Any) -> None:
        self.site = TestSite(delegates=clerk.delegates, user=user_of if keeps_users else None, **setup)
        router = self.site.app.router
        router.add_get("/who", who)
        router.add_get("/enter", enter)
        router.add_get("/leave", leave)
        self.login, self.logout = ("/enter", "/leave") if keeps_users else ("/login", "/logout")


async def user(visitor: Visitor) -> Any:
    """Who is at the browser."""
    async with visitor.http.get(f"{visitor.url}/who") as response:
        return await response.json()


@pytest.mark.parametrize("keeps_users", [False, True], ids=["login", "user="])
@pytest.mark.parametrize(("before", "after"), [(None, "alice"), ("alice", None), ("alice", "bob")])
async def test_answer_of_a_form_undoes_no_login_and_no_logout(
    keeps_users: bool, before: str | None, after: str | None
) -> None:
    clerk = Clerk(waits=True)
    shop = Shop(clerk, keeps_users=keeps_users)
    async with serving(shop.site) as site, Visitor(site.url) as visitor:
        if before:
            await visitor.get(f"{shop.login}?user={before}")
        body = own(await visitor.token(), "keep") + END
        posting = asyncio.create_task(post_form(visitor, body, HTML))
        async with asyncio.timeout(10):
            await clerk.began.wait()
        await visitor.get(f"{shop.login}?user={after}" if after else shop.logout)
        clerk.go.set()
        answer = await posting

        assert (answer.status, answer.location, answer.cookie) == (303, "/x#f", "")
        assert await user(visitor) == after
        assert clerk.users == [before]
        # Of a session that lasts the outcome is kept.
        answer = await post_form(visitor, own(await visitor.token(), "keep") + END, HTML)
        assert answer.cookie != ""
        assert await user(visitor) == after


@pytest.mark.parametrize("keeps_users", [False, True], ids=["login", "user="])
@pytest.mark.parametrize("accept", [JSON, HTML])
async def test_form_whose_session_ends_while_its_files_come_does_not_run(
    keeps_users: bool, accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk, begun, taken = Clerk(), asyncio.Event(), []

    class Noted(pagews.Upload):
        def __init__(self, *what: str) -> None:
            super().__init__(*what)
            taken.append(self)
            begun.set()

    monkeypatch.setattr(form_body, "Upload", Noted)
    shop = Shop(clerk, keeps_users=keeps_users)
    async with serving(shop.site) as site, Visitor(site.url) as visitor:
        await visitor.get(f"{shop.login}?user=alice")
        slow = Slow(own(await visitor.token(), "keep"))
        posting = asyncio.create_task(post_form(visitor, slow.body(), accept))
        async with asyncio.timeout(10):
            await begun.wait()
        await visitor.get(shop.logout)
        slow.go.set()
        answer = await posting

        assert (answer.status, answer.cookie) == (403, "")
        assert accept == HTML or json.loads(answer.text)["code"] == "refused"
        assert clerk.users == []
        assert get_site(site.app).counters.refused == {"identity": 1}
        assert await user(visitor) is None
        assert [upload.file.closed for upload in taken] == [True]


async def test_form_of_a_user_who_is_logged_out_everywhere_does_not_run() -> None:
    clerk = Clerk()
    shop = Shop(clerk)
    async with serving(shop.site) as site, Visitor(site.url) as visitor:
        await visitor.get("/login?user=alice")
        slow = Slow(own(await visitor.token(), "keep"))
        posting = asyncio.create_task(post_form(visitor, slow.body()))
        async with asyncio.timeout(10):
            while not get_site(site.app).uploads:  # noqa: ASYNC110  # nobody is told of such a begin
                await asyncio.sleep(0)
        await site.publisher.user("alice").revoke()
        slow.go.set()
        assert (await posting).status == 403
        assert clerk.users == []


class Away(MemoryBroker):
    """A broker that goes away. `questions`: those that it does not answer any more."""

    questions: frozenset[str] = frozenset()

    async def revoked(self, channel: str) -> float | None:
        self._check("revoked")
        return await super().revoked(channel)

    async def claim_send(self, *what: Any, **options: Any) -> Any:
        self._check("claim_send")
        return await super().claim_send(*what, **options)

    def _check(self, question: str) -> None:
        if question in self.questions:
            raise pagews.BrokerUnavailable("away")


async def test_outcome_is_not_kept_while_nobody_knows_whether_the_session_lasts() -> None:
    clerk, broker = Clerk(waits=True), Away()
    async with serving(Shop(clerk, broker=broker).site) as site, Visitor(site.url) as visitor:
        posting = asyncio.create_task(post_form(visitor, own(await visitor.token(), "keep") + END, HTML))
        async with asyncio.timeout(10):
            await clerk.began.wait()
        broker.questions = frozenset({"revoked"})
        clerk.go.set()
        answer = await posting
        # It has run: the browser is not told to send it again.
        assert (answer.status, answer.cookie) == (303, "")


@pytest.mark.parametrize("accept", [JSON, HTML])
@pytest.mark.parametrize("question", ["revoked", "claim_send"])
async def test_form_while_the_broker_is_away(question: str, accept: str, caplog: pytest.LogCaptureFixture) -> None:
    clerk, broker = Clerk(), Away()
    async with serving(Shop(clerk, broker=broker).site) as site, Visitor(site.url) as visitor:
        body = own(await visitor.token(), "keep", document="d" * 32, id="1") + END
        broker.questions = frozenset({question})
        answer = await post_form(visitor, body, accept)

        assert answer.status == 503
        assert answer.retry_after.isdecimal()
        assert accept == HTML or json.loads(answer.text)["code"] == "limit"
        assert clerk.users == []
        assert get_site(site.app).counters.refused["broker away"] == (question == "claim_send")
        assert caplog.text == ""
        broker.questions = frozenset()
        assert (await post_form(visitor, own(await visitor.token(), "keep") + END)).status == 200
