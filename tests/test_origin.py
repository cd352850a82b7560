"""The Origin check."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews.origin import check_origin
from pagews.site import get_site

from .apps import application


def asked(host: str, origin: str | None) -> web.Request:
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    return make_mocked_request("GET", "/", headers)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("example.org", "https://example.org"),
        ("example.org", "http://example.org"),
        ("example.org", "https://EXAMPLE.org:443"),
        ("example.org:443", "https://example.org"),
        ("localhost:8080", "http://localhost:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("[::1]", "http://[::1]"),
        ("example.org", None),
    ],
)
def test_origins_of_this_site(host: str, origin: str | None) -> None:
    check_origin(asked(host, origin), get_site(application()))


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "https://evil.org", "https://example.org.evil.org", "https://evilexample.org"),
        *("https://example.org:8443", "http://example.org:443", "file://", "https://", "ftp://example.org"),
        *("https://example.org:port", "https://[", "https://example.org@evil.org", "example.org"),
    ],
)
def test_threat_1_foreign_origins(origin: str, caplog: pytest.LogCaptureFixture) -> None:
    site = get_site(application())
    with pytest.raises(web.HTTPForbidden):
        check_origin(asked("example.org", origin), site)
    assert site.counters.refused["origin"] == 1
    assert repr(origin) in caplog.text
    assert "'example.org'" in caplog.text


def test_allowed_origins_replace_the_default() -> None:
    site = get_site(application(allowed_origins=["https://app.example.org"]))
    check_origin(asked("api.example.org", "https://app.example.org"), site)
    for origin in ("https://api.example.org", "https://app.example.org:443", "http://app.example.org"):
        with pytest.raises(web.HTTPForbidden):
            check_origin(asked("api.example.org", origin), site)


@pytest.mark.parametrize(
    "origins",
    [
        *("https://example.org", ["example.org"], ["https://example.org/"], ["ftp://x"], ["null"], [""]),
        # No browser writes them so: they would let nobody in.
        *(["https://Example.org"], ["HTTPS://example.org"], ["https://example.org:443"], ["http://example.org:80"]),
        *(["https://bücher.example"], ["https://ann@example.org"], ["https://example.org:"], ["https://example.org?"]),
        *(["https://["], ["https://example.org:port"], ["https://example.org:99999"]),
    ],
)
def test_threat_1_allowed_origins_that_are_none(origins: Any) -> None:
    with pytest.raises(pagews.ConfigurationError, match=r"https?://example\.org"):
        application(allowed_origins=origins)


@pytest.mark.parametrize("origin", ["http://example.org:8080", "https://[::1]:8443", "https://[::1]", "http://a:443"])
def test_allowed_origins_as_browsers_write_them(origin: str) -> None:
    assert get_site(application(allowed_origins=[origin])).allowed_origins == {origin}


async def test_a_foreign_page_gets_nothing(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application())
    headers = {"Origin": "https://evil.org", "Upgrade": "websocket", "Connection": "Upgrade"}
    async with client.get("/pagews/socket", headers=headers) as response:
        assert response.status == 403
    async with client.post("/pagews/renew", headers=headers, json={"token": "x"}) as response:
        assert response.status == 403
