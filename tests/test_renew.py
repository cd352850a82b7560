"""A fresh token, and the reason when a socket was refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews.site import get_site
from pagews.testing import Browser, find_include

from .apps import application


async def token_of(client: Any) -> str:
    async with client.get("/") as response:
        return find_include(await response.text())["data-page"] or ""


async def test_a_fresh_token_for_the_same_page(aiohttp_client: AiohttpClient) -> None:
    app = application()
    client = await aiohttp_client(app)
    text = await token_of(client)
    async with client.post("/pagews/renew", json={"token": text}) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        fresh = (await response.json())["token"]
    tokens = get_site(app).tokens
    old, new = tokens.read(text), tokens.read(fresh)
    assert old is not None
    assert new is not None
    assert (new.page, new.seq, new.session) == (old.page, old.seq, old.session)
    assert new.issued > old.issued


async def test_refusals_say_the_close_code(aiohttp_client: AiohttpClient) -> None:
    app = application()
    client, stranger = await aiohttp_client(app), await aiohttp_client(app)
    text = await token_of(client)
    await token_of(stranger)
    for who, sent, code in ((client, "nonsense", 4500), (stranger, text, 4503)):
        async with who.post("/pagews/renew", json={"token": sent}) as response:
            assert response.status == 403
            assert (await response.json())["code"] == code
    nobody = await aiohttp_client(app)
    async with nobody.post("/pagews/renew", json={"token": text}) as response:
        assert (await response.json())["code"] == 4500
    assert get_site(app).counters.refused["renewal"] == 3


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"token":1}', b'{"token":"x","adopt":1}', b"\xff", b"[" * 100_000, b'{"tok']
)
async def test_bodies_that_are_none(aiohttp_client: AiohttpClient, body: bytes) -> None:
    client = await aiohttp_client(application())
    headers = {"Content-Type": "application/json"}
    async with client.post("/pagews/renew", data=body, headers=headers) as response:
        assert response.status in (400, 413)


async def test_bodies_of_another_kind_or_size(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application())
    async with client.post("/pagews/renew", data=b'{"token":"x"}', headers={"Content-Type": "text/plain"}) as response:
        assert response.status == 415
    async with client.post("/pagews/renew", json={"token": "x" * 60_000}) as response:
        assert response.status == 413
    async with client.get("/pagews/renew") as response:
        assert response.status == 405


async def test_a_body_in_several_pieces(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application())
    body = json.dumps({"token": await token_of(client)}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50):
            await asyncio.sleep(0.001)
            yield body[start : start + 50]

    async with client.post("/pagews/renew", data=pieces(), headers={"Content-Type": "application/json"}) as response:
        assert response.status == 200


async def test_a_server_that_is_about_to_stop(aiohttp_client: AiohttpClient) -> None:
    app = application()
    client = await aiohttp_client(app)
    get_site(app).node.draining = True
    for method, path in (("POST", "/pagews/renew"), ("GET", "/pagews/socket")):
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"} if method == "GET" else {}
        async with client.request(method, path, json={"token": "x"}, headers=headers) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0


async def test_a_page_comes_back_with_a_renewed_token(aiohttp_client: AiohttpClient) -> None:
    app = application(limits=pagews.Limits(token_life=1.0))
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        tokens = get_site(app).tokens
        token = tokens.read(page._token, expired=True)
        assert token is not None
        page._token = tokens.renewed(token)
        await page.cut()
        await page.connect()
        assert page.welcome["resumed"]
