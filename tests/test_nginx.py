"""Behind nginx, by the settings of the guide: every transport, what is refused, what ends. `browser/test_nginx.py` has
the rest.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import pagews
from pagews import DelegateTableDef, Limits
from tests.nginx import FORWARDED, SERVER, Nginx, plain, within, without
from tests.sites import Detached, TestSite, serving
from tests.wire_client import Transport, Visitor, new_document

delegates = DelegateTableDef()


@delegates.on("echo")
async def echo(page: pagews.Page, data: object) -> object:
    return data


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=delegates)) as site:
        yield site


@pytest.fixture
async def nginx(nginx_program: Path, tmp_path: Path, site: TestSite) -> AsyncIterator[Nginx]:
    async with Nginx(nginx_program, tmp_path, plain(SERVER), site.port) as nginx:
        yield nginx


async def test_a_conversation(site: TestSite, nginx: Nginx, transport: Transport) -> None:
    async with Visitor(nginx.url, transport) as visitor:
        wire = await visitor.attach()
        for number in range(5):
            await site.publisher.page(wire.page).push("count", number)
            assert (await wire.receive())[4] == number
        assert await wire.ask("send", 1, 2, "echo", "x" * 10_000) == ["result", 1, True, "x" * 10_000]


async def test_a_browser_that_is_gone_is_noticed(nginx_program: Path, tmp_path: Path, transport: Transport) -> None:
    site = TestSite()
    detached = Detached(site)
    async with (
        serving(site),
        Nginx(nginx_program, tmp_path, plain(SERVER), site.port) as nginx,
        Visitor(nginx.url, transport) as visitor,
    ):
        wire = await visitor.attach()
        await site.break_off(wire)
        assert await detached.next() == wire.page


async def test_other_sites_are_refused_and_this_one_is_not(nginx: Nginx) -> None:
    async with Visitor(nginx.url) as visitor:
        token = {"token": await visitor.token()}
        statuses = [
            (await visitor.renew(token, headers={"Origin": origin}))[0]
            # Whether it was https before a proxy that ends TLS is not for this process to say.
            for origin in (nginx.url, nginx.url.replace("http:", "https:"), "https://example.com", "null")
        ]
        assert statuses == [200, 200, 403, 403]


async def test_every_address_knows_its_own_origin_behind_tls(
    nginx_program: Path, tmp_path: Path, site: TestSite
) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        Nginx(nginx_program, tmp_path, SERVER, site.port) as nginx,
        # Nobody vouches for the certificate of a test.
        aiohttp.ClientSession(f"{nginx.url}/", connector=aiohttp.TCPConnector(ssl=False), cookie_jar=jar) as client,
    ):
        assert nginx.url.startswith("https://")
        async with client.get("/") as response:
            [token] = re.findall(r'data-page="([^"]+)"', await response.text())
        hello = ["hello", {"token": token, "document": new_document(), "attempt": 1, "transport": "poll"}]
        form = {"pagews.token": token, "pagews.delegate": "echo", "pagews.back": "/", "text": "x"}
        requests: dict[str, dict[str, Any]] = {
            "stream": {"json": hello},
            "poll": {"json": hello},
            "post": {"json": [hello, ["send", 1, 1, "echo", "x"]]},
            "renew": {"json": {"token": token}},
            "form": {"data": form, "allow_redirects": False},
        }

        async def statuses(origin: str) -> dict[str, int]:
            found = {}
            for path, body in requests.items():
                async with client.post(f"/pagews/{path}", headers={"Origin": origin}, **body) as response:
                    found[path] = response.status
            try:
                async with client.ws_connect("/pagews/socket", origin=origin, protocols=["pagews.v1"]):
                    found["socket"] = 101
            except aiohttp.WSServerHandshakeError as error:
                found["socket"] = error.status
            return found

        port = nginx.url.rpartition(":")[2]
        foreign = ["https://example.com", f"https://127.0.0.1.example.com:{port}", "https://127.0.0.1", "null"]
        for origin in foreign:
            assert set((await statuses(origin)).values()) == {403}
        assert site.publisher.statistics().refused == {"origin": len(foreign) * (len(requests) + 1)}
        assert site.publisher.statistics().attached == 0
        taken = dict.fromkeys(requests, 200) | {"form": 303, "socket": 101}
        assert await statuses(nginx.url) == taken


async def test_a_proxy_that_does_not_keep_the_host(nginx_program: Path, tmp_path: Path) -> None:
    settings = without(plain(SERVER), "proxy_set_header Host")
    for allowed, status in ([], 403), (["https://example.org"], 200):
        directory = tmp_path / str(status)
        directory.mkdir()
        async with (
            serving(TestSite(allowed_origins=allowed)) as site,
            Nginx(nginx_program, directory, settings, site.port) as nginx,
            Visitor(nginx.url) as visitor,
        ):
            token = {"token": await visitor.token()}
            assert (await visitor.renew(token, headers={"Origin": "https://example.org"}))[0] == status


async def test_visitors_are_told_apart(nginx_program: Path, tmp_path: Path) -> None:
    site = TestSite(trusted_proxies=["127.0.0.1"], limits=Limits(address_sockets=1))
    async with (
        serving(site),
        Nginx(nginx_program, tmp_path, within(plain(SERVER), FORWARDED), site.port) as nginx,
        aiohttp.ClientSession(nginx.url) as client,
        AsyncExitStack() as sockets,
    ):

        async def come(address: str) -> None:
            # As by a proxy of one's own in front of this one.
            headers = {"X-Forwarded-For": address}
            await sockets.enter_async_context(
                client.ws_connect("/pagews/socket", headers=headers, protocols=["pagews.v1"])
            )

        await come("203.0.113.1")
        await come("203.0.113.2")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await come("203.0.113.1")
        assert refusal.value.status == 503


async def test_a_form_that_is_larger_than_nginx_takes_unasked(nginx_program: Path, tmp_path: Path) -> None:
    size = 2 * 1024 * 1024
    # The site itself reads it, and says what it lacks.
    for settings, status in (SERVER, 400), (without(SERVER, "client_max_body_size"), 413):
        directory = tmp_path / str(status)
        directory.mkdir()
        async with (
            serving(TestSite()) as site,
            Nginx(nginx_program, directory, plain(settings), site.port) as nginx,
            aiohttp.ClientSession() as client,
        ):
            form = aiohttp.FormData()
            form.add_field("file", io.BytesIO(b"x" * size), filename="file")
            async with client.post(f"{nginx.url}/pagews/form", data=form) as response:
                assert response.status == status


def test_the_guide_leaves_room_for_the_limits() -> None:
    def setting(name: str) -> int:
        found = re.search(rf"{name} (\d+)[sm];", SERVER)
        assert found is not None
        return int(found[1])

    limits = Limits()
    assert setting("proxy_read_timeout") > 2 * limits.heartbeat
    assert setting("client_max_body_size") * 1024 * 1024 > limits.upload
    assert limits.upload > limits.post


async def test_settings_that_nginx_does_not_take_end_the_test(nginx_program: Path, tmp_path: Path) -> None:
    settings = plain(SERVER).replace("proxy_read_timeout 60s", "proxy_read_timeout soon")
    with pytest.raises(AssertionError, match="proxy_read_timeout"):
        async with Nginx(nginx_program, tmp_path, settings, 1):
            pass
