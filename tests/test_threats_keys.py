"""Secret keys that are rotated, clocks that differ, and keys that are none."""

from __future__ import annotations

import base64
import time
from contextlib import AsyncExitStack
from typing import Final

import pytest
from aiohttp import web

import pagews
from pagews.site import get_site
from pagews.tokens import CLOCK_SKEW, ENVIRONMENT, EXAMPLE_KEY, SecretKey, Tokens, new_key
from tests.apps import KEY
from tests.bad_tokens import BAD_TOKEN, answer
from tests.redis_server import RedisServer
from tests.sites import TestSite, serving
from tests.threats import Desk, give, is_served, lives, refused
from tests.two_workers import LIMITS, OpenPage
from tests.wire_client import Transport, Visitor, new_document

# --- 11: rotated keys and other clocks --------------------------------------------------------------------------------


async def test_threat_11_what_an_older_key_has_encrypted_is_good_and_what_is_written_is_of_the_first(
    transport: Transport,
) -> None:
    """Token and cookie, both."""
    old, new = new_key(), new_key()
    async with (
        serving(TestSite(secret_key=old)) as before,
        serving(TestSite(secret_key=[new, old])) as after,
        serving(TestSite(secret_key=new)) as at_last,
    ):
        async with Visitor(before.url, transport) as visitor:
            token, cookie = await visitor.token(), visitor.cookie
        async with Visitor(after.url, transport) as visitor:
            wire = await visitor.open(cookie=cookie)
            await wire.hello(token)
            assert (await wire.receive())[0] == "welcome"
            assert refused(after) == {}
            give(visitor, cookie)
            assert (await visitor.renew({"token": token}))[0] == 200
            await visitor.get("/login?user=ann")
            fresh, cookie = await visitor.token(), visitor.cookie
        async with Visitor(at_last.url, transport) as visitor:
            wire = await visitor.open(cookie=cookie)
            await wire.hello(fresh)
            assert (await wire.receive())[0] == "welcome"
            wire = await visitor.open(cookie=cookie)
            await wire.hello(token)
            assert await wire.closed() == BAD_TOKEN
            assert refused(at_last) == {"token": 1}


@pytest.mark.parametrize("behind", [CLOCK_SKEW + 5, 3 * 3600.0, -LIMITS.token_life - 5])
async def test_threat_11_beyond_a_minute_of_skew_a_token_is_renewed(transport: Transport, behind: float) -> None:
    """The worker that reads is behind the one that has written; or far ahead of it, which is the token's end."""
    site = TestSite(delegates=Desk().delegates)
    async with serving(site), Visitor(site.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        let_clock_differ(site, CLOCK_SKEW - 5)
        assert (await visitor.attach(token, document=document)).welcome["resumed"]
        let_clock_differ(site, behind)
        assert await answer(visitor, token) == BAD_TOKEN
        assert refused(site) == {"token": 1}

        status, body = await visitor.renew({"token": token})
        assert status == 200
        wire = await visitor.attach(body["token"], document=document, attempt=2)
        assert wire.welcome["resumed"]
        assert await lives(wire)
        assert refused(site) == {"token": 1}


def let_clock_differ(site: TestSite, behind: float) -> None:
    """Let the tokens be read by a clock that is so many seconds behind."""
    tokens = Tokens([site.key.encode()], LIMITS.token_life, clock=lambda: time.time() - behind)
    get_site(site.app).tokens = tokens


# --- fault 30: a new key is deployed ----------------------------------------------------------------------------------


async def test_fault_30_a_key_is_rotated_and_open_pages_go_on(redis: RedisServer, transport: Transport) -> None:
    """Worker after worker is started anew with other keys, and the page moves from one to the next, and back."""
    old, new = new_key(), new_key()

    def worker(*keys: str) -> TestSite:
        return TestSite(secret_key=keys, broker=redis.url, limits=LIMITS, delegates=Desk().delegates)

    first, second, third, last = worker(old), worker(old, new), worker(new, old), worker(new)
    async with AsyncExitStack() as stack:
        for site in (first, second, third, last):
            await stack.enter_async_context(serving(site))
        visitor = await stack.enter_async_context(Visitor(first.url, transport))
        async with OpenPage(visitor, await visitor.token("/?topic=news")) as page:
            for number, site in enumerate([first, second, third, second, first, third]):
                await page.attach(site.url)
                await first.publisher.topic("news").push("show", number)
                await page.until_shown(*range(number + 1))
            assert page.lost == [None] * 7
            # What is written from now on is of the new key, and outlives the old one.
            assert await visitor.get("/login?user=ann") == 200
            await page.until(lambda: page.closed is not None)
        async with OpenPage(visitor, await visitor.token("/?topic=news")) as page:
            await page.attach(last.url)
            await second.publisher.topic("news").push("show", "new")
            await page.until_shown("new")
            assert page.lost == [None, None]
        # A poll of before may come late, and be told that a newer one is there; no token and no cookie was refused.
        assert {reason for site in (first, second, last) for reason in refused(site)} <= {"superseded"}


async def test_fault_30_a_page_takes_a_token_of_the_new_key_before_the_old_one_ends(transport: Transport) -> None:
    """Half of a token's life after the deploy, every page that is open has one."""
    old, new = new_key(), new_key()
    async with serving(TestSite(key=old)) as before, Visitor(before.url, transport) as visitor:
        token, cookie = await visitor.token(), visitor.cookie
    site = TestSite(key=new, secret_key=[new, old])
    async with serving(site), Visitor(site.url, transport) as visitor:
        half = LIMITS.token_life / 2 + 60
        keys = [new.encode(), old.encode()]
        get_site(site.app).tokens = Tokens(keys, LIMITS.token_life, clock=lambda: time.time() + half)
        wire = await visitor.open(cookie=cookie)
        await wire.hello(token)
        _, welcome = await wire.receive()

        assert Tokens([new.encode()], LIMITS.token_life, lambda: time.time() + half).read(welcome["token"]) is not None
        assert refused(site) == {}


# --- 36: keys that are none -------------------------------------------------------------------------------------------

KEYS_THAT_ARE_NONE: Final[dict[str, tuple[SecretKey, str]]] = {
    "missing": ([], "there is no secret key"),
    "empty": ("", "must have 32"),
    "a password": ("correct horse battery staple", "not URL-safe base64"),
    "short": (base64.urlsafe_b64encode(b"x" * 31), "has 31 bytes, and must have 32"),
    "long": (base64.urlsafe_b64encode(b"x" * 33), "has 33 bytes, and must have 32"),
    "the example of the documentation": (EXAMPLE_KEY, "the one from the documentation"),
    "a good one and the example": ([KEY, EXAMPLE_KEY], "the one from the documentation"),
    "a good one and a short one": ([KEY, "c2hvcnQ="], "has 5 bytes"),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("what", KEYS_THAT_ARE_NONE)
def test_threat_36_without_a_good_key_it_does_not_start(what: str, debug: bool) -> None:
    key, why = KEYS_THAT_ARE_NONE[what]
    app = web.Application()
    with pytest.raises(pagews.ConfigurationError, match=why) as caught:
        pagews.setup(app, secret_key=key, debug=debug)

    assert "python -m pagews key" in str(caught.value)
    assert ENVIRONMENT in str(caught.value)
    assert list(app.router.routes()) == []


@pytest.mark.parametrize("value", [None, "", " , ", "short", EXAMPLE_KEY, f"{KEY} {EXAMPLE_KEY}"])
def test_threat_36_nor_with_one_of_the_environment(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    if value is not None:
        monkeypatch.setenv(ENVIRONMENT, value)
    with pytest.raises(pagews.ConfigurationError, match="python -m pagews key"):
        pagews.setup(web.Application())


async def test_threat_36_the_key_that_is_made_while_debugging_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    site = TestSite(secret_key=None, debug=True, delegates=Desk().delegates)
    assert "a random one is used" in caplog.text
    assert "python -m pagews key" in caplog.text
    async with serving(site):
        assert await is_served(site, "websocket")
