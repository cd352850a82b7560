"""Sessions that end by themselves while a page is open."""

from __future__ import annotations

import secrets
import time
from typing import Final

import aiohttp_session
import pytest
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from tests.bad_tokens import BAD_TOKEN
from tests.sites import TestSite, serving
from tests.wire_client import Closed, Transport, Visitor

#: Seconds that a session lives; aiohttp-session counts whole ones.
LIFE: Final = 1


@pytest.fixture
def storage() -> aiohttp_session.AbstractStorage:
    return EncryptedCookieStorage(secrets.token_bytes(32), max_age=LIFE)


async def test_threat_7_a_session_that_ends_while_its_socket_is_open(
    storage: aiohttp_session.AbstractStorage, transport: Transport
) -> None:
    async with serving(TestSite(sessions=storage)) as site, Visitor(site.url, transport) as visitor:
        before = time.time()
        token = await visitor.token()
        cookie = visitor.cookie
        wire = await visitor.attach(token)

        assert await wire.closed() == Closed(4503, "the session has ended")
        assert LIFE <= time.time() - before < LIFE + 5
        assert site.publisher.statistics().closed[4503] == 1
        # Its page asks for a fresh token, and comes again with the same one: neither is of use.
        code, told = await visitor.renew({"token": token}, headers={"Cookie": cookie})
        assert (code, told["code"]) == (403, 4500)
        late = await visitor.open(cookie=cookie)
        await late.hello(token)
        assert await late.closed() == BAD_TOKEN
        assert site.publisher.statistics().refused == {"renewal": 1, "token": 1}
        assert (await visitor.attach()).welcome["resumed"]


async def test_threat_7_who_has_left_is_not_waited_for(
    storage: aiohttp_session.AbstractStorage, transport: Transport
) -> None:
    async with serving(TestSite(sessions=storage)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        await wire.send("bye")
        assert (await wire.closed()).code == 1000
        later = await visitor.attach()

        assert await later.closed() == Closed(4503, "the session has ended")
        assert site.publisher.statistics().closed[4503] == 1
