"""Requests that no page of the site has made: of other sites, with addresses that lie, with cookies that are none."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Final

import aiohttp_jinja2
import pytest
from aiohttp import web
from websockets.exceptions import InvalidStatus

import pagews
from tests.raw_http import RawAnswer, RawSocket, ask_raw, frame
from tests.sites import TestSite, serving
from tests.test_routes import ROUTES, URLENCODED, Route
from tests.threats import FOREIGN, Desk, is_served, refused
from tests.wire_client import Transport, Visitor, new_document


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def site(desk: Desk) -> AsyncIterator[TestSite]:
    site = TestSite(delegates=desk.delegates)
    site.app.router.add_get("/form", _form)
    async with serving(site):
        yield site


async def _form(request: web.Request) -> web.Response:
    await pagews.open_page(request)
    environment = aiohttp_jinja2.get_env(request.app)
    text = environment.from_string("{{ pagews_form('echo') }}</form>").render()
    return web.Response(text=text, content_type="text/html")


async def raw(site: TestSite, path: str, *headers: str | bytes, origin: str = "", target: str = "") -> RawAnswer:
    """The request of `tests.test_routes` that passes all checks of a route, but for what is given."""
    route: Route = ROUTES[path]
    lines: list[str | bytes] = [f"Host: 127.0.0.1:{site.port}", f"Origin: {origin or site.url}", *headers]
    lines += [f"Content-Type: {route.kinds[0]}"] if route.kinds else []
    if path == "socket":
        lines += ["Upgrade: websocket"]
    return await ask_raw(site.port, f"{route.method} {target}/pagews/{path}", *lines, body=route.body)


# --- 1: other sites ---------------------------------------------------------------------------------------------------


async def test_threat_1_every_request_of_a_page_is_asked_where_it_comes_from(
    site: TestSite, desk: Desk, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    async with Visitor(site.url, transport) as visitor:
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        hello = ["hello", {"token": token, "document": document, "attempt": 5_000_000}]
        with pytest.raises(InvalidStatus, match="403"):
            await visitor.connect(origin=FOREIGN)
        bodies = {"stream": hello, "poll": hello, "post": [hello, ["send", 1, 1, "echo", "forged"]]}
        for path, body in bodies.items():
            line = visitor.line(origin=FOREIGN)
            assert (await line.request(f"/pagews/{path}", json.dumps(body).encode())).status == 403
            line.cut()

        assert desk.given == []
        assert refused(site) == {"origin": 4}
        told = [record.getMessage() for record in caplog.records]
        assert told == [f"refused a request from origin {FOREIGN!r} to host '127.0.0.1:{site.port}'"] * 4
        assert await wire.ask("send", 1, 1, "echo", "honest") == ["result", 1, True, "honest"]
    assert await is_served(site, transport)


async def test_threat_1_allowed_origins_are_compared_as_a_whole(transport: Transport) -> None:
    allowed = "https://app.example"
    alike = [
        *(f"{allowed}:443", f"{allowed}:8443", f"{allowed}.evil.example", "https://xapp.example", "http://app.example"),
        *(f"{allowed}/", "https://APP.example", "null", "https://app.exampl"),
    ]
    path = transport.replace("websocket", "socket")
    async with serving(TestSite(allowed_origins=[allowed])) as site:
        for origin in [*alike, site.url]:
            assert (await raw(site, path, origin=origin)).status == 403
        assert refused(site) == {"origin": len(alike) + 1}

        assert (await raw(site, path, origin=allowed)).status == ROUTES[path].status
        assert refused(site) == {"origin": len(alike) + 1, **ROUTES[path].refused}


# --- 2: addresses that lie --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_threat_2_an_absolute_address_does_not_say_where_the_site_is(
    site: TestSite, path: str, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoofed = f"{scheme}://evil.example"

    assert (await raw(site, path, target=spoofed, origin=spoofed)).status == 403
    assert refused(site) == {"origin": 1}
    assert repr(spoofed) in caplog.text
    assert f"'127.0.0.1:{site.port}'" in caplog.text
    # The same address from a page of this site: it is the Host header that counts.
    assert (await raw(site, path, target=spoofed)).status == ROUTES[path].status
    assert refused(site) == {"origin": 1, **ROUTES[path].refused}
    assert await is_served(site, "websocket")


@pytest.mark.parametrize("path", ROUTES)
async def test_threat_2_what_is_configured_counts_alone(path: str) -> None:
    async with serving(TestSite(allowed_origins=["https://app.example"])) as site:
        assert (await raw(site, path, target=FOREIGN, origin=FOREIGN)).status == 403
        assert refused(site) == {"origin": 1}
        assert (await raw(site, path, target=FOREIGN, origin="https://app.example")).status == ROUTES[path].status


@pytest.mark.parametrize("target", ["https://evil.example", "https://127.0.0.1", "http://evil.example:1", ""])
async def test_threat_2_neither_cookie_nor_form_follow_such_an_address(site: TestSite, desk: Desk, target: str) -> None:
    host = f"Host: 127.0.0.1:{site.port}"
    answer = await ask_raw(site.port, f"GET {target}/form?a=1", host, "Accept: text/html")
    [cookie] = answer.all("set-cookie")
    html = answer.body.decode()
    # The connection is not encrypted, whatever the address says: the browser would never send a Secure cookie back.
    assert "secure" not in cookie.lower()
    assert "evil" not in html
    fields = dict(re.findall(r'name="(pagews\.[^"]+)" value="([^"]*)"', html))
    assert fields["pagews.back"] == "/form?a=1#pagews-echo"

    body = "&".join([f"{name}={value.replace('#', '%23')}" for name, value in fields.items()])
    headers = [host, f"Origin: {site.url}", f"Cookie: {cookie.partition(';')[0]}", f"Content-Type: {URLENCODED}"]
    posted = await ask_raw(site.port, f"POST {target}/pagews/form", *headers, body=body.encode())
    assert posted.status == 303
    assert posted.all("location") == ["/form?a=1#pagews-echo"]
    assert desk.given == [{}]
    assert refused(site) == {}


# --- 3: posts of other sites ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/plain", URLENCODED, "multipart/form-data; boundary=b"])
async def test_threat_3_another_site_posts_with_the_visitors_cookie(site: TestSite, desk: Desk, kind: str) -> None:
    """With the Origin that a browser sends, and without one: what is checked next is the kind of the body."""
    async with Visitor(site.url) as visitor:
        token = await visitor.token()
        hello = {"token": token, "document": new_document(), "attempt": 1}
        body = json.dumps([["hello", hello], ["send", 1, 1, "echo", "forged"]]).encode()
        for path in ("stream", "poll", "post", "renew"):
            for origin, status in ((FOREIGN, 403), (None, 415)):
                line = visitor.line(origin=origin)
                assert (await line.request(f"/pagews/{path}", body, Content_Type=kind)).status == status
                line.cut()

    assert desk.given == []
    assert refused(site) == {"origin": 4, "media type": 4}
    assert await is_served(site, "poll")


@pytest.mark.parametrize("origin", [FOREIGN, "null", None])
async def test_threat_3_a_form_of_another_site_lacks_the_token(site: TestSite, desk: Desk, origin: str | None) -> None:
    async with Visitor(site.url) as visitor:
        await visitor.token()
        line = visitor.line(origin=origin)
        body = b"pagews.delegate=echo&pagews.back=/&name=forged"
        answer = await line.request("/pagews/form", body, Content_Type=URLENCODED, Sec_Fetch_Site="cross-site")
        line.cut()

    assert answer.status == 403
    assert desk.given == []
    assert refused(site) == ({"token": 1} if origin is None else {"origin": 1})
    assert await is_served(site, "websocket")


# --- 34: cookies that are none ----------------------------------------------------------------------------------------

#: Bytes that a cookie should not have, and what aiohttp-session's own storage answers with 500.
BYTES: Final = (
    b"PAGEWS=\xff",
    b"PAGEWS=\xff\xfe\x80",
    b"PAGEWS=%FF",
    b"PAGEWS=\xed\xa0\x80",
    b"\xff=\xff; PAGEWS",
    b"=",
)


@pytest.mark.parametrize("cookie", BYTES, ids=repr)
@pytest.mark.parametrize("path", ROUTES)
async def test_threat_34_on_every_route_such_a_cookie_is_no_session(site: TestSite, path: str, cookie: bytes) -> None:
    assert (await raw(site, path, b"Cookie: " + cookie)).status == ROUTES[path].status
    assert refused(site) == ROUTES[path].refused


@pytest.mark.parametrize("cookie", BYTES, ids=repr)
async def test_threat_34_a_view_begins_a_fresh_session(site: TestSite, cookie: bytes) -> None:
    host = f"Host: 127.0.0.1:{site.port}"
    answer = await ask_raw(site.port, "GET /", host, b"Cookie: " + cookie, "Accept: text/html")

    assert answer.status == 200
    [fresh] = answer.all("set-cookie")
    [token] = re.findall(rb'data-page="([^"]+)"', answer.body)
    async with Visitor(site.url) as visitor:
        wire = await visitor.open(cookie=fresh.partition(";")[0])
        await wire.hello(token.decode())
        assert (await wire.receive())[0] == "welcome"


@pytest.mark.parametrize("path", ["socket", "stream", "poll", "post", "form"])
async def test_threat_34_a_token_with_such_a_cookie_is_refused_like_any_other(site: TestSite, path: str) -> None:
    async with Visitor(site.url) as visitor:
        token = await visitor.token()
        hello = json.dumps(["hello", {"token": token, "document": new_document(), "attempt": 1}]).encode()
        cookie = b"Cookie: PAGEWS=\xff"
        if path == "socket":
            async with await RawSocket.open(site.port, cookie) as socket:
                await socket.write(frame(0x81, hello))
                assert await socket.closed() == 4500
        else:
            bodies = {"post": b"[%b]" % hello, "form": b"pagews.back=/&pagews.token=" + token.encode()}
            host, kind = f"Host: 127.0.0.1:{site.port}", f"Content-Type: {ROUTES[path].kinds[0]}"
            answer = await ask_raw(site.port, f"POST /pagews/{path}", host, kind, cookie, body=bodies.get(path, hello))
            assert answer.status == 403 if path == "form" else b'["close",4500,"' in answer.body
        assert refused(site) == {"token": 1}
        assert (await visitor.attach(token)).welcome["resumed"]
