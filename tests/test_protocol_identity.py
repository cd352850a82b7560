"""Who may attach a page: its token, its browser session and its user."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import aiohttp_session
import pytest
from aiohttp import web

from pagews import Limits
from pagews.site import get_site
from pagews.tokens import Tokens, new_key
from tests.bad_tokens import (
    BAD_TOKEN,
    answer,
    expired,
    of_another_content,
    of_another_key,
    of_another_purpose,
    tampered,
)
from tests.sites import TestSite, serving
from tests.wire_client import Closed, Transport, Visitor, new_document


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite()) as site:
        yield site


# --- the token --------------------------------------------------------------------------------------------------------


async def test_the_token_of_ones_own_session_is_welcomed(visitor: Visitor) -> None:
    wire = await visitor.attach()

    assert set(wire.welcome) == {
        *("page", "epoch", "seq", "resumed", "lost", "forked", "heartbeat", "token", "limits"),
    }
    assert wire.welcome["resumed"] is True
    assert wire.welcome["lost"] is None
    assert wire.welcome["forked"] is False
    assert wire.welcome["heartbeat"] == Limits().heartbeat
    assert wire.welcome["limits"] == {"message": Limits().message_up}


async def test_threat_5_the_token_of_another_session_is_refused(
    site: TestSite, visitor: Visitor, transport: Transport
) -> None:
    async with Visitor(site.url, transport) as other:
        stolen = await other.token()
        await visitor.token()

        assert await answer(visitor, stolen) == BAD_TOKEN
        assert site.publisher.statistics().refused == {"token": 1}


async def test_threat_5_a_token_without_the_cookie_is_refused(visitor: Visitor) -> None:
    token = await visitor.token()
    wire = await visitor.open(cookie="none=1")
    await wire.hello(token)

    assert await wire.closed() == BAD_TOKEN


@pytest.mark.parametrize("cookie", ["PAGEWS=garbage", "PAGEWS=", "PAGEWS=\xe4\xf6", "=;,="])
async def test_threat_34_a_cookie_that_is_none_of_ours_is_no_session(visitor: Visitor, cookie: str) -> None:
    token = await visitor.token()
    wire = await visitor.open(cookie=cookie)
    await wire.hello(token)

    assert await wire.closed() == BAD_TOKEN


@pytest.mark.parametrize(
    "spoil",
    [
        tampered,
        expired,
        of_another_key,
        of_another_content,
        of_another_purpose,
        lambda token, key: token[:-4],
        lambda token, key: "garbage",
        lambda token, key: "\0",
        lambda token, key: "\u2028\u00e9",
        lambda token, key: "x" * 8192,
    ],
)
async def test_threat_5_a_token_that_is_not_good_is_refused_like_any_other(
    site: TestSite, visitor: Visitor, spoil: Callable[[str, str], str]
) -> None:
    token = await visitor.token()

    assert await answer(visitor, spoil(token, site.key)) == BAD_TOKEN


async def test_threat_11_a_token_of_an_older_key_is_good(transport: Transport) -> None:
    old, new = new_key(), new_key()
    async with serving(TestSite(key=old)) as before, serving(TestSite(secret_key=[new, old])) as after:
        async with Visitor(before.url, transport) as visitor:
            token = await visitor.token()
            cookie = visitor.cookie
        async with Visitor(after.url, transport) as visitor:
            wire = await visitor.open(cookie=cookie)
            await wire.hello(token)
            kind, welcome = await wire.receive()

    assert (kind, welcome["lost"]) == ("welcome", "epoch")


async def test_a_token_past_half_of_its_life_is_replaced(site: TestSite, visitor: Visitor) -> None:
    later = move_clock(site)
    token = await visitor.token()
    later(0.4)
    assert (await visitor.attach(token)).welcome["token"] is None
    later(0.6)
    fresh = (await visitor.attach(token, document=(document := new_document()))).welcome["token"]
    later(1.1)

    assert await answer(visitor, token) == BAD_TOKEN
    assert (await visitor.attach(fresh, document=document, attempt=2)).welcome["resumed"]


async def test_a_token_is_replaced_while_its_page_is_open(site: TestSite, visitor: Visitor) -> None:
    later = move_clock(site)
    token = await visitor.token()
    document = new_document()
    wire = await visitor.attach(token, document=document)
    later(0.6)
    if wire.transport == "poll":  # the next one brings it, and does not wait for anything else
        kind, welcome = await wire.receive()
        assert (kind, welcome["resumed"]) == ("welcome", True)
        fresh = welcome["token"]
    else:
        kind, fresh = await wire.ask("pong")
        assert kind == "token"
    # Not again: the next frame answers the next send.
    await wire.send("pong")
    assert (await wire.ask("send", 1, 1, "none", None))[0] == "result"
    later(1.1)

    assert await answer(visitor, token) == BAD_TOKEN
    assert (await wire.ask("send", 2, 1, "none", None))[0] == "result"
    assert (await visitor.attach(fresh, document=document, attempt=2)).page == wire.page


def move_clock(site: TestSite) -> Callable[[float], None]:
    """Lets the site's tokens age: call it with a share of their life."""
    life, share = Limits().token_life, [0.0]
    get_site(site.app).tokens = Tokens([site.key.encode()], life, clock=lambda: time.time() + share[0] * life)

    def later(of_its_life: float) -> None:
        share[0] = of_its_life

    return later


# --- who it is --------------------------------------------------------------------------------------------------------


async def test_another_user_needs_a_fresh_page(transport: Transport) -> None:
    user: list[str | None] = [None]

    async def current(request: web.Request) -> str | None:
        return user[0]

    async with serving(TestSite(user=current)) as site, Visitor(site.url, transport) as visitor:
        anonymous = await visitor.token()
        user[0] = "ann"
        assert await answer(visitor, anonymous) == Closed(4503, "the user has changed")
        of_ann = await visitor.token()
        assert (await visitor.attach(of_ann)).welcome["resumed"]
        user[0] = "bob"
        assert await answer(visitor, of_ann) == Closed(4503, "the user has changed")
        user[0] = None
        assert await answer(visitor, of_ann) == Closed(4503, "the user has changed")


@pytest.mark.parametrize("change", ["/login?user=ann", "/logout"])
async def test_threat_6_login_and_logout_close_the_pages_of_the_session_at_once(
    site: TestSite, change: str, transport: Transport
) -> None:
    async with Visitor(site.url, transport) as visitor, Visitor(site.url, transport) as other:
        first = await visitor.token()
        wires = [await visitor.attach(first), await visitor.attach(await visitor.token())]
        bystander = await other.attach()
        before = time.monotonic()
        assert await visitor.get(change) == 200

        for wire in wires:
            assert await wire.closed() == Closed(4503, "the session has ended")
        assert time.monotonic() - before < 1
        assert (await answer(visitor, first)).code in (4500, 4503)
        assert await bystander.ask("send", 1, 1, "none", None) == [
            *("result", 1, False),
            {"code": "unknown-delegate", "message": "the server has no delegate 'none'"},
        ]
        assert (await visitor.attach()).welcome["resumed"]


async def test_threat_6_the_cookie_of_a_session_that_has_ended_is_not_accepted_again(visitor: Visitor) -> None:
    token = await visitor.token()
    cookie = visitor.cookie
    await visitor.get("/logout")
    wire = await visitor.open(cookie=cookie)
    await wire.hello(token)

    assert (await wire.closed()).code in (4500, 4503)


async def test_a_revoked_session_ends(site: TestSite, visitor: Visitor) -> None:
    wire = await visitor.attach()
    [page] = await site.publisher.page(wire.page).pages()
    await page.session.revoke()

    assert await wire.closed() == Closed(4503, "the session has ended")


async def test_a_revoked_user_ends_until_the_next_login(site: TestSite, transport: Transport) -> None:
    async with Visitor(site.url, transport) as visitor, Visitor(site.url, transport) as other:
        await visitor.get("/login?user=ann")
        await other.get("/login?user=bob")
        token = await visitor.token()
        wire, bystander = await visitor.attach(token), await other.attach()
        await site.publisher.user("ann").revoke()

        assert await wire.closed() == Closed(4503, "the session has ended")
        assert (await answer(visitor, token)).code in (4500, 4503)
        await visitor.get("/login?user=ann")
        await visitor.attach()
        assert (await bystander.ask("send", 1, 1, "none", None))[0] == "result"


async def test_an_applications_own_session_storage(transport: Transport) -> None:
    async with (
        serving(TestSite(sessions=aiohttp_session.SimpleCookieStorage())) as site,
        Visitor(site.url, transport) as visitor,
    ):
        assert (await visitor.attach()).welcome["resumed"]
