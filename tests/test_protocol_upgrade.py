"""Before a page is attached: the upgrade, the Origin, the token and who it belongs to, and `/renew`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from websockets.exceptions import InvalidStatus

from pagews import Limits
from pagews.encryption import Encryption
from pagews.site import get_site
from pagews.tokens import Tokens, new_key
from tests.sites import TestSite, serving
from tests.wire_client import Closed, Visitor, new_document

BAD_TOKEN = Closed(4500, "the token is not good for this browser session")


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


async def answer(visitor: Visitor, token: str) -> Closed:
    """How the server closes a socket that says hello with `token`."""
    wire = await visitor.connect()
    await wire.hello(token)
    return await wire.closed()


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
async def test_a_foreign_origin_is_refused(site: TestSite, visitor: Visitor, origin: str) -> None:
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
async def test_the_origin_of_another_host_is_refused(site: TestSite, visitor: Visitor, host: str, origin: str) -> None:
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


async def test_the_token_of_another_session_is_refused(site: TestSite, visitor: Visitor) -> None:
    async with Visitor(site.url) as other:
        stolen = await other.token()
        await visitor.token()

        assert await answer(visitor, stolen) == BAD_TOKEN
        assert site.publisher.statistics().refused == {"token": 1}


async def test_a_token_without_the_cookie_is_refused(visitor: Visitor) -> None:
    token = await visitor.token()
    wire = await visitor.connect(cookie="none=1")
    await wire.hello(token)

    assert await wire.closed() == BAD_TOKEN


@pytest.mark.parametrize("cookie", ["PAGEWS=garbage", "PAGEWS=", "PAGEWS=\xe4\xf6", "=;,="])
async def test_a_cookie_that_is_none_of_ours_is_no_session(visitor: Visitor, cookie: str) -> None:
    token = await visitor.token()
    wire = await visitor.connect(cookie=cookie)
    await wire.hello(token)

    assert await wire.closed() == BAD_TOKEN


def tampered(token: str, key: str) -> str:
    middle = len(token) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


def expired(token: str, key: str) -> str:
    read = Tokens([key.encode()], 1).read(token)
    assert read is not None
    return Tokens([key.encode()], 1, lambda: time.time() - 13 * 3600).renewed(read)


def of_another_key(token: str, key: str) -> str:
    return encryption(new_key()).encrypt(decrypted(token, key))


def of_another_content(token: str, key: str) -> str:
    return encryption(key).encrypt(b'["page2"]')


def of_another_purpose(token: str, key: str) -> str:
    return Encryption([key.encode()], "session cookie").encrypt(decrypted(token, key))


def encryption(key: str) -> Encryption:
    return Encryption([key.encode()], "page token")


def decrypted(token: str, key: str) -> bytes:
    raw = encryption(key).decrypt(token)
    assert raw is not None
    return raw


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
async def test_a_token_that_is_not_good_is_refused_like_any_other(
    site: TestSite, visitor: Visitor, spoil: Callable[[str, str], str]
) -> None:
    token = await visitor.token()

    assert await answer(visitor, spoil(token, site.key)) == BAD_TOKEN


async def test_a_token_of_an_older_key_is_good() -> None:
    old, new = new_key(), new_key()
    async with serving(TestSite(key=old)) as before, serving(TestSite(secret_key=[new, old])) as after:
        async with Visitor(before.url) as visitor:
            token = await visitor.token()
            cookie = visitor.cookie
        async with Visitor(after.url) as visitor:
            wire = await visitor.connect(cookie=cookie)
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
    kind, fresh = await wire.ask("pong")
    assert kind == "token"
    # Not again: the next frame answers the next send.
    await wire.send("pong")
    assert (await wire.ask("send", 1, 1, "none", None))[0] == "result"
    later(1.1)

    assert (await visitor.attach(fresh, document=document, attempt=2)).page == wire.page


def move_clock(site: TestSite) -> Callable[[float], None]:
    """Lets the site's tokens age: call it with a share of their life."""
    life, share = Limits().token_life, [0.0]
    get_site(site.app).tokens = Tokens([site.key.encode()], life, clock=lambda: time.time() + share[0] * life)

    def later(of_its_life: float) -> None:
        share[0] = of_its_life

    return later


# --- who it is --------------------------------------------------------------------------------------------------------


async def test_another_user_needs_a_fresh_page() -> None:
    user: list[str | None] = [None]

    async def current(request: web.Request) -> str | None:
        return user[0]

    async with serving(TestSite(user=current)) as site, Visitor(site.url) as visitor:
        anonymous = await visitor.token()
        user[0] = "ann"
        assert await answer(visitor, anonymous) == Closed(4503, "the user has changed")
        assert site.publisher.statistics().refused == {"identity": 1}
        of_ann = await visitor.token()
        assert (await visitor.attach(of_ann)).welcome["resumed"]
        user[0] = "bob"
        assert await answer(visitor, of_ann) == Closed(4503, "the user has changed")
        user[0] = None
        assert await answer(visitor, of_ann) == Closed(4503, "the user has changed")


@pytest.mark.parametrize("change", ["/login?user=ann", "/logout"])
async def test_login_and_logout_close_the_pages_of_the_session_at_once(site: TestSite, change: str) -> None:
    async with Visitor(site.url) as visitor, Visitor(site.url) as other:
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


async def test_the_cookie_of_a_session_that_has_ended_is_not_accepted_again(visitor: Visitor) -> None:
    token = await visitor.token()
    cookie = visitor.cookie
    await visitor.get("/logout")
    wire = await visitor.connect(cookie=cookie)
    await wire.hello(token)

    assert (await wire.closed()).code in (4500, 4503)


async def test_a_revoked_session_ends(site: TestSite, visitor: Visitor) -> None:
    wire = await visitor.attach()
    [page] = await site.publisher.page(wire.page).pages()
    await page.session.revoke()

    assert await wire.closed() == Closed(4503, "the session has ended")


async def test_a_revoked_user_ends_until_the_next_login(site: TestSite) -> None:
    async with Visitor(site.url) as visitor, Visitor(site.url) as other:
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


async def test_an_applications_own_session_storage() -> None:
    async with serving(TestSite(sessions=aiohttp_session.SimpleCookieStorage())) as site, Visitor(site.url) as visitor:
        assert (await visitor.attach()).welcome["resumed"]


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
