"""Before a page is attached: the upgrade and its Origin, and `/renew`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from websockets.exceptions import InvalidStatus

from pagews.site import get_site
from tests.bad_tokens import BAD_TOKEN, answer, expired, of_another_key, tampered
from tests.sites import TestSite, serving
from tests.wire_client import Visitor, new_document


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite()) as site:
        yield site


@pytest.fixture
async def visitor(site: TestSite) -> AsyncIterator[Visitor]:
    async with Visitor(site.url) as visitor:
        yield visitor


async def refused(visitor: Visitor, **how: Any) -> int:
    """The status that an upgrade is refused with."""
    with pytest.raises(InvalidStatus) as caught:
        await visitor.connect(**how)
    return caught.value.response.status_code


# --- the upgrade ------------------------------------------------------------------------------------------------------


async def test_a_plain_get_is_told_to_upgrade(site: TestSite, visitor: Visitor) -> None:
    async with visitor.http.get(f"{site.url}/pagews/socket") as response:
        html = await response.text()

    assert response.status == 426
    assert response.headers["Upgrade"] == "websocket"
    assert response.headers["X-Robots-Tag"] == "noindex"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.content_type == "text/html"
    assert html.startswith("<!doctype html>")


@pytest.mark.parametrize("protocols", [(), ("pagews.v2",), ("PAGEWS.V1",), ("chat", "soap")])
async def test_without_the_subprotocol_there_is_no_upgrade(
    site: TestSite, visitor: Visitor, protocols: tuple[str, ...]
) -> None:
    assert await refused(visitor, protocols=protocols) == 400
    assert site.publisher.statistics().refused["subprotocol"] == 1


async def test_a_browser_that_has_gone_during_its_upgrade_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    asked, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def user(request: web.Request) -> str | None:
        if request.path.endswith("/socket"):
            asked.set()
            await go.wait()
        return None

    @web.middleware
    async def watch(request: web.Request, handler: Any) -> Any:
        try:
            return await handler(request)
        finally:
            if request.path.endswith("/socket"):
                ended.set()

    site = TestSite(user=user)
    site.app.middlewares.insert(0, watch)
    async with serving(site), Visitor(site.url) as visitor:
        upgrading = asyncio.create_task(visitor.connect())
        await asked.wait()
        upgrading.cancel()
        await asyncio.wait([upgrading])
        # Any other request is read after the end of that connection.
        await visitor.token()
        go.set()
        await ended.wait()
        assert site.publisher.statistics().sockets == 0
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_the_subprotocol_is_chosen_from_several(visitor: Visitor) -> None:
    wire = await visitor.connect(protocols=("pagews.v9", "pagews.v1"))

    assert wire.ws.subprotocol == "pagews.v1"


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.org",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://127.0.0.1.example.org:{port}",
        "http://example.org:{port}",
        "http://0127.0.0.1:{port}",
        "http://localhost:{port}",
        "http://[::1]:{port}",
        "http://127.0.0.1:{port}.example.org",
        "http://example.org/127.0.0.1:{port}",
        "null",
        "file://",
        "ftp://127.0.0.1:{port}",
        "127.0.0.1:{port}",
        "http://127.0.0.1:port",
        "http://[127.0.0.1:{port}",
    ],
)
async def test_threat_1_a_foreign_origin_is_refused(site: TestSite, visitor: Visitor, origin: str) -> None:
    assert await refused(visitor, origin=origin.format(port=site.port)) == 403
    assert site.publisher.statistics().refused["origin"] == 1


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("example.org", "http://example.org"),
        ("example.org", "http://example.org:80"),
        ("example.org:8080", "http://EXAMPLE.org:8080"),
        ("example.org", "https://example.org"),  # a proxy ends TLS
        ("[::1]:8080", "http://[::1]:8080"),
        ("example.org", None),  # no browser
    ],
)
async def test_the_origin_of_the_host_is_accepted(
    site: TestSite, visitor: Visitor, host: str, origin: str | None
) -> None:
    wire = await visitor.connect(url=f"http://{host}", origin=origin, host="127.0.0.1", port=site.port)

    assert wire.ws.subprotocol == "pagews.v1"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("example.org", "http://example.org:8080"),
        ("example.org:8080", "http://example.org"),
        ("[::1]:8080", "http://[::2]:8080"),
        ("[::1]:8080", "http://[::1]:8081"),
        ("example.org", "http://www.example.org"),
        ("www.example.org", "http://example.org"),
    ],
)
async def test_threat_1_the_origin_of_another_host_is_refused(
    site: TestSite, visitor: Visitor, host: str, origin: str
) -> None:
    assert await refused(visitor, url=f"http://{host}", origin=origin, host="127.0.0.1", port=site.port) == 403


async def test_allowed_origins_replace_the_default() -> None:
    async with serving(TestSite(allowed_origins=["https://example.org"])) as site, Visitor(site.url) as visitor:
        assert await refused(visitor) == 403
        assert await refused(visitor, origin="http://example.org") == 403
        assert await refused(visitor, origin="https://example.org:444") == 403
        wire = await visitor.connect(origin="https://example.org")
        assert wire.ws.subprotocol == "pagews.v1"


async def test_compression_is_not_negotiated(visitor: Visitor) -> None:
    wire = await visitor.connect()

    assert wire.ws.response is not None
    assert "Sec-WebSocket-Extensions" not in wire.ws.response.headers


# --- renew ------------------------------------------------------------------------------------------------------------


async def test_renew_gives_a_token_that_is_as_good(visitor: Visitor) -> None:
    token = await visitor.token()
    document = new_document()
    page = (await visitor.attach(token, document=document)).page
    status, body = await visitor.renew({"token": token})

    assert status == 200
    assert set(body) == {"token"}
    assert body["token"] != token
    assert (await visitor.attach(body["token"], document=document, attempt=2)).page == page


async def test_renew_takes_a_token_that_has_expired(site: TestSite, visitor: Visitor) -> None:
    token = expired(await visitor.token(), site.key)
    assert await answer(visitor, token) == BAD_TOKEN
    status, body = await visitor.renew({"token": token})

    assert status == 200
    assert (await visitor.attach(body["token"])).welcome["resumed"]


async def test_renew_keeps_the_cursor_of_the_token(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token("/?topic=news")
    await site.publisher.topic("news").push("headline", 1)
    _, body = await visitor.renew({"token": token})
    wire = await visitor.attach(body["token"])

    assert (await wire.receive())[3:] == ["headline", 1]


async def test_renew_refuses_a_token_that_is_not_good(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token()
    for bad in (tampered(token, site.key), of_another_key(token, site.key), "garbage"):
        status, body = await visitor.renew({"token": bad})
        assert (status, body["code"]) == (403, 4500)
        assert body["reason"]


async def test_renew_says_that_the_identity_has_changed(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token()
    async with Visitor(site.url) as other:
        await other.token()
        assert (await other.renew({"token": token}))[1]["code"] == 4503
    await visitor.get("/login?user=ann")
    await visitor.token()
    status, body = await visitor.renew({"token": token})

    assert (status, body["code"]) == (403, 4503)


async def test_renew_without_a_session(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token()
    async with Visitor(site.url) as stranger:
        status, body = await stranger.renew({"token": token})

    assert (status, body["code"]) == (403, 4500)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_renew_takes_json_alone(visitor: Visitor, content_type: str) -> None:
    assert (await visitor.renew({"token": "t"}, headers={"Content-Type": content_type}))[0] == 415


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"{}", b'{"token":5}', b"\xff", b"[" * 9000])
async def test_renew_of_what_is_no_renewal(site: TestSite, visitor: Visitor, raw: bytes) -> None:
    assert (await visitor.renew(None, raw=raw))[0] == 400
    assert site.publisher.statistics().refused["malformed renewal"] == 1


async def test_renew_of_too_much(visitor: Visitor) -> None:
    assert (await visitor.renew(None, raw=json.dumps({"token": "x" * 60_000}).encode()))[0] == 413


@pytest.mark.parametrize("origin", ["null", "http://example.org"])
async def test_renew_from_another_site(visitor: Visitor, origin: str) -> None:
    token = await visitor.token()

    assert (await visitor.renew({"token": token}, headers={"Origin": origin}))[0] == 403


async def test_renew_by_get(site: TestSite, visitor: Visitor) -> None:
    assert await visitor.get("/pagews/renew") == 405


async def test_a_server_that_is_about_to_stop_takes_nobody(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token()
    get_site(site.app).node.draining = True

    assert await refused(visitor) == 503
    async with visitor.http.post(f"{site.url}/pagews/renew", json={"token": token}) as response:
        assert response.status == 503
        assert float(response.headers["Retry-After"]) > 0
