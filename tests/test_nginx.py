"""Behind nginx, by the settings of the guide: every transport, what is refused, what ends. `browser/test_nginx.py` has
the rest.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

import pagews
from pagews import DelegateTableDef, Limits
from tests.nginx import SERVER, Nginx, plain, without
from tests.sites import Detached, TestSite, serving
from tests.wire_client import Transport, Visitor

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
