"""What every route of a site checks of a request before it does anything for it: where it comes from, and its kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import aiohttp
import pytest

from tests.sites import TestSite, serving
from tests.wire_client import Visitor

JSON: Final = "application/json"
URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data; boundary=b"


class Route(NamedTuple):
    """A route, and a request that passes all checks: its body, and what comes of it.

    Attributes:
        kinds: the media types that it takes; none: it has no body.
        status, refused: what answers that request, and counts.
    """

    method: str
    kinds: tuple[str, ...]
    body: bytes
    status: int
    refused: dict[str, int]


ROUTES: Final = {
    "socket": Route("GET", (), b"", 400, {"subprotocol": 1}),
    "stream": Route("POST", (JSON,), b"[]", 200, {"malformed frame": 1}),
    "poll": Route("POST", (JSON,), b"[]", 200, {"malformed frame": 1}),
    "post": Route("POST", (JSON,), b"[]", 200, {"malformed frame": 1}),
    "renew": Route("POST", (JSON,), b"[]", 400, {"malformed renewal": 1}),
    "form": Route("POST", (URLENCODED, MULTIPART), b"--b--\r\n", 400, {"malformed form": 1}),
}

#: Origins of no page of this site, which is at {url}.
FOREIGN: Final = (
    *("null", "", "file://", "http://example.org", "https://example.org", "http://127.0.0.1", "http://127.0.0.1:1"),
    *("{url}.example.org", "http://example.org/{url}", "http://localhost:{port}", "ftp://127.0.0.1:{port}"),
)

#: Media types that no route takes: the last of those that the form of another site can have, and some that look alike.
STRANGE: Final = ("text/plain", "text/json", "application/jsonp", "application/json-seq", "multipart/mixed", "")

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

#: Each route with every media type that it takes, as it may be written.
PASSING: Final = [
    (path, written)
    for path, route in ROUTES.items()
    for kind in route.kinds or ("",)
    for written in ([kind, kind.upper(), f"{kind}; charset=utf-8"] if kind else [""])
]

#: Each route with every media type that it does not take.
REFUSED: Final = [
    (path, kind)
    for path, route in ROUTES.items()
    for kind in (*STRANGE, JSON, URLENCODED, MULTIPART)
    if route.kinds and kind not in route.kinds
]


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite()) as site:
        yield site


@pytest.fixture
async def visitor(site: TestSite) -> AsyncIterator[Visitor]:
    async with Visitor(site.url) as visitor:
        yield visitor


async def ask(visitor: Visitor, path: str, *, kind: str | None = None, **more: str | None) -> aiohttp.ClientResponse:
    """A request that passes, but for what is given: a media type of its own, "" for none, and more headers."""
    route = ROUTES[path]
    kind = next(iter(route.kinds), "") if kind is None else kind
    headers = {"Content-Type": kind} if kind else {}
    if path == "socket":
        headers |= {"Connection": "Upgrade", "Upgrade": "websocket"}
    headers |= {name.replace("_", "-"): value for name, value in more.items() if value is not None}
    async with visitor.http.request(
        route.method,
        f"{visitor.url}/pagews/{path}",
        data=route.body or None,
        headers=headers,
        skip_auto_headers=["Content-Type"],
    ) as response:
        await response.read()
    return response


def test_the_table_is_whole() -> None:
    routes = {(route.method, route.resource.canonical) for route in TestSite().app.router.routes() if route.resource}
    ours = {(method, path) for method, path in routes if path.startswith("/pagews/")}
    files = {(method, "/pagews/static/{name}") for method in ("GET", "HEAD")}

    assert ours == files | {(route.method, f"/pagews/{path}") for path, route in ROUTES.items()}


@pytest.mark.parametrize(("path", "kind"), PASSING)
@pytest.mark.parametrize("origin", [None, "{url}", "https://127.0.0.1:{port}"])
async def test_what_passes(site: TestSite, visitor: Visitor, path: str, kind: str, origin: str | None) -> None:
    origin = origin and origin.format(url=site.url, port=site.port)

    assert (await ask(visitor, path, kind=kind, origin=origin)).status == ROUTES[path].status
    assert site.publisher.statistics().refused == ROUTES[path].refused


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("origin", FOREIGN)
async def test_threat_1_a_foreign_origin(site: TestSite, visitor: Visitor, path: str, origin: str) -> None:
    # Whatever else there is to say of it.
    for kind in (None, "text/plain"):
        response = await ask(visitor, path, kind=kind, origin=origin.format(url=site.url, port=site.port))
        assert response.status == 403
        assert "Set-Cookie" not in response.headers
        assert "Access-Control-Allow-Origin" not in response.headers

    assert site.publisher.statistics().refused == {"origin": 2}
    assert site.publisher.statistics().sockets == 0


@pytest.mark.parametrize("path", ROUTES)
async def test_origins_that_are_allowed_replace_the_default(path: str) -> None:
    async with serving(TestSite(allowed_origins=["https://example.org"])) as site, Visitor(site.url) as visitor:
        route = ROUTES[path]
        assert (await ask(visitor, path, origin=site.url)).status == 403
        assert (await ask(visitor, path, origin="http://example.org")).status == 403
        assert (await ask(visitor, path, origin="https://example.org")).status == route.status

        assert site.publisher.statistics().refused == {"origin": 2, **route.refused}


@pytest.mark.parametrize(("path", "kind"), REFUSED)
async def test_threat_3_a_media_type_that_is_not_taken(site: TestSite, visitor: Visitor, path: str, kind: str) -> None:
    response = await ask(visitor, path, kind=kind, origin=site.url)

    assert response.status == 415
    assert "Set-Cookie" not in response.headers
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert site.publisher.statistics().refused == {"media type": 1}


@pytest.mark.parametrize("path", [path for path, route in ROUTES.items() if route.kinds])
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "identity", ""])
async def test_threat_13_a_body_that_is_compressed(site: TestSite, visitor: Visitor, path: str, encoding: str) -> None:
    for kind in ROUTES[path].kinds:
        line = visitor.line()
        answer = await line.request(f"/pagews/{path}", b"\x1f\x8b", Content_Type=kind, Content_Encoding=encoding or " ")
        line.cut()
        assert answer.status == 415

    assert site.publisher.statistics().refused == {"media type": len(ROUTES[path].kinds)}


@pytest.mark.parametrize(
    ("path", "method"),
    [(path, method) for path, route in ROUTES.items() for method in METHODS if method != route.method],
)
async def test_another_method(site: TestSite, visitor: Visitor, path: str, method: str) -> None:
    # Also what a browser asks before a request of another site that is no form's.
    headers = {"Origin": "http://example.org", "Access-Control-Request-Method": ROUTES[path].method}
    async with visitor.http.request(method, f"{site.url}/pagews/{path}", headers=headers) as response:
        assert response.status == 405
        assert "Access-Control-Allow-Origin" not in response.headers
