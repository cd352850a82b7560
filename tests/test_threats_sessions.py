"""Sessions that end by themselves while a page is open."""

from __future__ import annotations

import time
from typing import Final

import aiohttp_session
import pytest

from pagews.site import get_site
from tests.bad_tokens import BAD_TOKEN
from tests.sites import TestSite, serving
from tests.wire_client import Closed, Transport, Visitor

#: Seconds that a session lives; aiohttp-session counts whole ones.
LIFE: Final = 1


@pytest.fixture
def storage() -> aiohttp_session.AbstractStorage:
    return aiohttp_session.SimpleCookieStorage(max_age=LIFE)


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


async def test_a_session_that_has_ended_can_begin_anew(storage: aiohttp_session.AbstractStorage) -> None:
    async with serving(TestSite(sessions=storage)) as site, Visitor(site.url) as visitor:
        first = await visitor.attach()
        old = visitor.cookie
        await first.closed()

        # A browser whose clock is slow still sends the old one.
        async with visitor.http.get(f"{site.url}/login?user=ann", headers={"Cookie": old}) as response:
            assert response.status == 200
        second = await visitor.attach()

        assert get_site(site.app).node.pages[second.page].user_id == "ann"
