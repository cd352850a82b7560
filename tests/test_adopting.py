"""A page takes on the identity that its browser has now, without being rendered anew: `/renew` with `adopt`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

import pagews
from pagews import DelegateTableDef, MemoryBroker
from pagews.identity import GAP
from pagews.site import get_site
from tests.bad_tokens import BAD_TOKEN, answer, expired, of_another_key, tampered
from tests.browser.journal import Journal
from tests.redis_server import RedisServer
from tests.sites import House, Served, TestSite, serving
from tests.two_workers import two_workers
from tests.wire_client import Closed, SocketClosed, Transport, Visitor, Wire

ENDED = Closed(4503, "the session has ended")

table = DelegateTableDef()


@table.on("who")
async def who(page: pagews.Page, data: Any) -> list[Any]:
    return [page.user and page.user.id, sorted(page.topics), await page.get("kept")]


@table.on("keep")
async def keep(page: pagews.Page, data: Any) -> None:
    await page.set("kept", data)


@table.on("join")
async def join(page: pagews.Page, data: str) -> None:
    await page.subscribe(data)


async def adopt(visitor: Visitor, token: str) -> str:
    """The token of the page that comes in the place of another one's."""
    status, body = await visitor.renew({"token": token, "adopt": True})
    assert (status, set(body)) == (200, {"token"})
    return str(body["token"])


async def ask(wire: Wire, delegate: str, data: Any = None, *, number: int = 1) -> Any:
    """The value of a send."""
    kind, _, ok, value = await wire.ask("send", number, 1, delegate, data)
    assert (kind, ok) == ("result", True), value
    return value


async def heard(wire: Wire) -> Any:
    """The data of the push that comes next."""
    kind, _, _, _, data, *_ = await wire.receive()
    assert kind == "push"
    return data


async def session_of(site: Served, wire: Wire) -> str:
    """The browser session of an attached page."""
    [page] = await site.publisher.page(wire.page).pages()
    return page.session.id


def told_by(site: Served) -> Journal:
    """Notes what the application is told, in whatever process: each time the page's id, and who its user was."""
    journal = Journal()

    def noting(name: str) -> Callable[[pagews.Page], Any]:
        async def note(page: pagews.Page) -> None:
            journal.note(name, (page.id, page.user and page.user.id))

        return note

    for worker in site.workers:
        publisher = get_site(worker.app).publisher
        publisher.on_attach.append(noting("attach"))
        publisher.on_gone.append(noting("gone"))
    return journal


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=table)) as site:
        yield site


@pytest.fixture
async def visitor(site: TestSite) -> AsyncIterator[Visitor]:
    async with Visitor(site.url) as visitor:
        yield visitor


# --- who comes in whose place -----------------------------------------------------------------------------------------


async def test_login_keeps_the_id_and_nothing_else(house: House) -> None:
    site = house(delegates=table)
    journal = told_by(site)
    async with serving(site), Visitor(site.url) as visitor:
        token = await visitor.token("/?topic=rendered")
        old = await visitor.attach(token)
        before = await session_of(site, old)
        await ask(old, "keep", "a secret of the first")
        await ask(old, "join", "joined", number=2)
        await visitor.get("/login?user=ann")
        assert await old.closed() == ENDED
        past = [
            site.publisher.page(old.page),
            site.publisher.session(before),
            site.publisher.user("ann"),
            *(site.publisher.topic(topic) for topic in ("rendered", "joined")),
        ]
        for target in past:
            await target.push("show", "past")

        new = await visitor.attach(await adopt(visitor, token))

        assert (new.page, new.welcome["resumed"], new.welcome["forked"]) == (old.page, True, False)
        assert await ask(new, "who") == ["ann", [], None]
        assert await journal.wait("gone") == [(old.page, None)]
        assert await journal.wait("attach", 2) == [(old.page, None), (old.page, "ann")]
        for target in (past[1], *past[3:]):
            await target.push("show", "of the first")
        await site.publisher.session(await session_of(site, new)).push("show", 1)
        await site.publisher.user("ann").push("show", 2)
        await site.publisher.page(new.page).push("show", 3)
        assert [await heard(new) for _ in range(3)] == [1, 2, 3]


async def test_a_page_that_was_taken_on_begins_anew(house: House) -> None:
    """As any page does: it can keep, ask, resume, and ends once."""
    site = house(delegates=table)
    journal = told_by(site)
    async with serving(site), Visitor(site.url) as visitor:
        token = await visitor.token()
        old = await visitor.attach(token)
        await visitor.get("/login?user=ann")
        await old.closed()
        token = await adopt(visitor, token)
        new = await visitor.attach(token, document="d" * 32)
        await ask(new, "keep", "anew")
        await ask(new, "join", "news", number=2)
        await site.break_off(new)
        await site.publisher.topic("news").push("show", "while it was away")
        new = await visitor.attach(token, document="d" * 32, attempt=2)

        assert await heard(new) == "while it was away"
        assert await ask(new, "who", number=3) == ["ann", ["news"], "anew"]
        [page] = await site.publisher.page(new.page).pages()
        await page.close(4503)
        assert (await new.closed()).code == 4503
        assert await journal.wait("gone", 2) == [(old.page, None), (old.page, "ann")]


async def test_logout_is_another_page(house: House) -> None:
    site = house(delegates=table)
    journal = told_by(site)
    async with serving(site), Visitor(site.url) as visitor:
        await visitor.get("/login?user=ann")
        token = await visitor.token()
        old = await visitor.attach(token)
        before = await session_of(site, old)
        await visitor.get("/logout")
        await old.closed()
        new = await visitor.attach(await adopt(visitor, token))

        assert new.page != old.page
        assert await ask(new, "who") == [None, [], None]
        assert await journal.wait("gone") == [(old.page, "ann")]
        for target in (site.publisher.user("ann"), site.publisher.session(before), site.publisher.page(old.page)):
            await target.push("show", "for ann")
        await site.publisher.page(new.page).push("show", "for nobody")
        assert await heard(new) == "for nobody"


@pytest.mark.parametrize(("then", "is_kept"), [("ann", True), ("bob", False)])
async def test_login_after_a_login(site: TestSite, visitor: Visitor, then: str, is_kept: bool) -> None:
    await visitor.get("/login?user=ann")
    token = await visitor.token()
    old = await visitor.attach(token)
    await visitor.get(f"/login?user={then}")
    new = await visitor.attach(await adopt(visitor, token))

    assert (new.page == old.page) is is_kept
    assert await ask(new, "who") == [then, [], None]


async def test_an_identity_in_between_is_another_page(visitor: Visitor) -> None:
    token = await visitor.token()
    old = await visitor.attach(token)
    await visitor.get("/login?user=bob")
    await visitor.get("/login?user=ann")

    new = await visitor.attach(await adopt(visitor, token))
    assert new.page != old.page
    assert (await ask(new, "who"))[0] == "ann"


async def test_the_same_identity_is_another_page(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token("/?topic=news")
    old = await visitor.attach(token)
    new = await visitor.attach(await adopt(visitor, token))

    assert new.page != old.page
    assert await session_of(site, new) == await session_of(site, old)
    assert await ask(new, "who") == [None, [], None]


async def test_users_that_the_application_keeps() -> None:
    user = "ann"

    async def current(request: web.Request) -> str:
        return user

    async with serving(TestSite(delegates=table, user=current)) as site, Visitor(site.url) as visitor:
        token = await visitor.token()
        old = await visitor.attach(token)
        user = "bob"  # and its session has not been rotated
        new = await visitor.attach(await adopt(visitor, token))

        assert new.page != old.page
        assert (await ask(new, "who"))[0] == "bob"


async def test_an_expired_token_is_as_good(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token()
    old = await visitor.attach(token)
    await visitor.get("/login?user=ann")

    new = await visitor.attach(await adopt(visitor, expired(token, site.key)))
    assert new.page == old.page


# --- what a token gains -----------------------------------------------------------------------------------------------


async def test_a_stolen_token_gains_a_page_of_the_thiefs_own(house: House) -> None:
    site = house(delegates=table)
    journal = told_by(site)
    async with serving(site), Visitor(site.url) as victim, Visitor(site.url) as thief:
        stolen = await victim.token("/?topic=news")
        old = await victim.attach(stolen)
        await ask(old, "keep", "a secret")
        await thief.token()
        for logged_in in (False, True):  # with a session that has come after another one, too
            if logged_in:
                await thief.get("/login?user=mallory")
            new = await thief.attach(await adopt(thief, stolen))
            assert new.page != old.page
            assert await ask(new, "who") == ["mallory" if logged_in else None, [], None]
        await victim.get("/login?user=ann")
        await old.closed()
        new = await thief.attach(await adopt(thief, stolen))

        assert new.page != old.page
        assert (await ask(new, "who"))[0] == "mallory"
        assert journal["gone"] == []
        kept = await victim.attach(await adopt(victim, stolen))
        assert kept.page == old.page


async def test_a_planted_session_gains_nothing(site: TestSite) -> None:
    """Who has planted a session before the login has its cookie, and tokens of its pages."""
    async with Visitor(site.url) as thief, Visitor(site.url) as victim:
        token = await thief.token()
        planted = thief.cookie.removeprefix("PAGEWS=")
        victim.http.cookie_jar.update_cookies({"PAGEWS": planted}, URL(site.url))
        await victim.get("/login?user=ann")

        status, _ = await thief.renew({"token": token, "adopt": True})
        assert (status, thief.cookie) == (503, f"PAGEWS={planted}")


@pytest.mark.parametrize("spoil", [tampered, of_another_key, lambda token, key: "nonsense", lambda token, key: ""])
async def test_a_bad_token_gains_what_none_does(
    site: TestSite, visitor: Visitor, spoil: Callable[[str, str], str]
) -> None:
    token = await visitor.token()
    old = await visitor.attach(token)
    await visitor.get("/login?user=ann")

    new = await visitor.attach(await adopt(visitor, spoil(token, site.key)))
    assert new.page != old.page
    assert (await ask(new, "who"))[0] == "ann"


async def test_the_old_token_cannot_end_the_page_that_came_in_its_place(house: House) -> None:
    site = house(delegates=table)
    async with serving(site), Visitor(site.url) as visitor:
        token = await visitor.token()
        old = await visitor.attach(token)
        await visitor.get("/login?user=ann")
        await old.closed()
        first = await visitor.attach(await adopt(visitor, token))
        second = await visitor.attach(await adopt(visitor, token))

        assert first.page == old.page != second.page
        await ask(first, "keep", 1)
        assert await ask(first, "who", number=2) == ["ann", [], 1]


async def test_the_old_token_is_of_no_use(site: TestSite, transport: Transport) -> None:
    """What the old document still sends is refused, though its browser has the new cookie by now."""
    async with Visitor(site.url, transport) as visitor:
        token = await visitor.token()
        document = "d" * 32
        old = await visitor.attach(token, document=document)
        await visitor.get("/login?user=ann")
        await old.closed()
        new = await visitor.attach(await adopt(visitor, token))
        await ask(new, "keep", "of ann")

        assert await answer(visitor, token) == BAD_TOKEN
        hello = ["hello", {"token": token, "document": document, "attempt": 9}]
        send = ["send", 7, 1, "keep", "of the first"]
        said = await visitor.line().request("/pagews/post", json.dumps([hello, send]).encode())
        assert json.loads(said.body) == [["close", *BAD_TOKEN]]
        assert (await ask(new, "who", number=2))[2] == "of ann"


# --- before the new cookie is there -----------------------------------------------------------------------------------


async def renew_with(visitor: Visitor, cookie: str, body: object) -> tuple[int, Any, bool]:
    """What `/renew` says to a cookie: the status, Retry-After, and whether there is a new cookie."""
    jar = aiohttp.DummyCookieJar()
    async with (
        aiohttp.ClientSession(cookie_jar=jar) as http,
        http.post(f"{visitor.url}/pagews/renew", json=body, headers={"Cookie": cookie, "Origin": visitor.url}) as said,
    ):
        return said.status, said.headers.get("Retry-After"), "Set-Cookie" in said.headers


@pytest.mark.parametrize("change", ["/login?user=ann", "/logout"])
@pytest.mark.parametrize("asks_for", ["the old page's place", "a new page"])
async def test_the_cookie_of_a_session_that_has_just_ended_gets_no_other(
    house: House, change: str, asks_for: str
) -> None:
    """Else it would be nobody, and if its cookie comes to the browser behind that of the login, stay nobody."""
    async with serving(house()) as site, Visitor(site.url) as visitor:
        token = await visitor.token()
        body = {"token": token, "adopt": True} if asks_for == "the old page's place" else {"token": None}
        old = visitor.cookie
        await visitor.get(change)

        assert await renew_with(visitor, old, body) == (503, "0", False)
        assert (await visitor.renew(body))[0] == 200
        assert site.total(lambda statistics: statistics.refused.get("renewal", 0)) == 1


@pytest.mark.parametrize("ended", ["session", "user"])
@pytest.mark.parametrize("seconds", [0.0, GAP + 1])
async def test_who_was_thrown_out_is_nobody_a_little_later(ended: str, seconds: float) -> None:
    # By another clock than the session's, and so far from now: a login is ended by what comes behind its beginning.
    broker = MemoryBroker(wall=lambda: time.time() + seconds)
    async with serving(TestSite(delegates=table, broker=broker)) as site, Visitor(site.url) as visitor:
        await visitor.get("/login?user=ann")
        token = await visitor.token()
        old = await visitor.attach(token)
        [page] = await site.publisher.page(old.page).pages()
        assert page.user is not None
        await (page.session if ended == "session" else page.user).revoke()
        assert await old.closed() == ENDED
        status, body = await visitor.renew({"token": token, "adopt": True})

        assert status == (503 if seconds == 0 else 200)
        if status == 200:
            new = await visitor.attach(body["token"])
            assert new.page != old.page
            assert await ask(new, "who") == [None, [], None]


async def test_who_was_thrown_out_is_not_who_was_there_before() -> None:
    broker = MemoryBroker(wall=lambda: time.time() - GAP - 1)
    async with serving(TestSite(delegates=table, broker=broker)) as site, Visitor(site.url) as visitor:
        token = await visitor.token()
        old = await visitor.attach(token)
        await visitor.get("/login?user=ann")
        [page] = await site.publisher.page((await visitor.attach()).page).pages()
        await page.session.revoke()

        assert (await visitor.renew({"token": None}))[0] == 200  # which begins a session
        assert (await visitor.attach(await adopt(visitor, token))).page != old.page


class Leaving(MemoryBroker):
    """Goes away when it is to end a page."""

    async def end(self, page_id: str) -> None:
        raise pagews.BrokerUnavailable("away")


async def test_a_broker_that_goes_away() -> None:
    async with serving(TestSite(broker=Leaving())) as site, Visitor(site.url) as visitor:
        token = await visitor.token()
        await visitor.get("/login?user=ann")
        cookie = visitor.cookie
        assert await renew_with(visitor, cookie, {"token": token, "adopt": True}) == (503, "2", False)


# --- workers ----------------------------------------------------------------------------------------------------------


async def test_login_at_one_worker_reaches_the_pages_of_another(redis: RedisServer, transport: Transport) -> None:
    async with two_workers(redis.url, delegates=table) as (a, b), Visitor(a.url, transport) as visitor:
        token = await visitor.token("/?topic=news")
        old = await visitor.attach(token)
        before = await session_of(a, old)
        hearing = asyncio.create_task(old.receive())
        if transport == "poll":
            await a.waiting()
        began = time.monotonic()
        async with visitor.http.get(f"{b.url}/login?user=ann") as response:  # its cookie is for the host, at any port
            assert response.status == 200
        for target in (b.publisher.session(before), b.publisher.page(old.page), b.publisher.topic("news")):
            await target.push("show", "of the first")

        with pytest.raises(SocketClosed) as end:
            await hearing
        assert (end.value.code, time.monotonic() - began < 1) == (4503, True)
        visitor.url = b.url
        new = await visitor.attach(await adopt(visitor, token))
        assert new.page == old.page
        hearing = asyncio.create_task(new.receive())
        await a.publisher.user("ann").push("show", "for ann")
        assert (await hearing)[2:] == ["user", "show", "for ann"]
