"""The stand-in browser."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews.errors import ProtocolError
from pagews.testing import Browser, PageError, find_include

from .apps import application


def site() -> web.Application:
    delegates = pagews.DelegateTableDef()

    @delegates.on("echo")
    async def echo(page: pagews.Page, data: Any) -> Any:
        return data

    @delegates.on("ask back")
    async def ask_back(page: pagews.Page, data: Any) -> Any:
        return await page.ask("confirm", data)

    @delegates.on("crash")
    async def crash(page: pagews.Page, data: Any) -> Any:
        raise RuntimeError("a secret")

    return application(delegates=delegates)


async def test_a_page_without_an_include() -> None:
    with pytest.raises(AssertionError, match=r"put \{\{ pagews_script"):
        find_include("<p>nothing</p>")


async def test_expect_says_what_came_instead(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        await pagews.get_publisher(app).page(page.id).push("other", 1)
        await page.expect("other")
        await pagews.get_publisher(app).page(page.id).push("other", 2)
        with pytest.raises(AssertionError, match=r"no push to 'growl'.*other"):
            await page.expect("growl", timeout=0.05)
        with pytest.raises(AssertionError, match="unexpected push to 'other': 2"):
            page.refute("other")
        page.refute("growl")


async def test_delegates_may_wait_send_and_fail(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        done = asyncio.Event()

        async def sending(data: Any) -> None:
            assert await page.send("echo", data) == data
            done.set()

        def failing(data: Any) -> None:
            raise ValueError("no")

        page.on("go", sending)
        page.on("fail", failing)
        target = pagews.get_publisher(app).page(page.id)
        await target.push("fail")
        await target.push("go", b"raw")
        await asyncio.wait_for(done.wait(), 5)
        assert page.connected
        assert [str(error) for error in page.errors] == ["no"]


async def test_a_send_without_a_result_says_what_is_missing(aiohttp_client: AiohttpClient) -> None:
    async with Browser(await aiohttp_client(site())) as browser:
        page = await browser.open()
        with pytest.raises(
            TimeoutError, match=r"no result of send 'ask back' in 0.1 s; the page was asked \['confirm'\]"
        ):
            await page.send("ask back", 1, timeout=0.1)
        page.on("confirm", lambda data: "late")
        with pytest.raises(PageError):
            await page.join("room")


async def test_a_page_that_is_cut_off_says_so(aiohttp_client: AiohttpClient) -> None:
    async with Browser(await aiohttp_client(site())) as browser:
        page = await browser.open()
        await page.cut()
        with pytest.raises(TimeoutError, match=r"in 0.05 s; the page is cut off \(close code: 1006\): connect\(\)"):
            await page.send("echo", 1, timeout=0.05)


async def test_what_a_delegate_of_the_page_raised_is_said_where_something_does_not_come(
    aiohttp_client: AiohttpClient,
) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()

        def failing(data: Any) -> None:
            raise ValueError("not today")

        page.on("fail", failing)
        await pagews.get_publisher(app).page(page.id).push("fail")
        await page.expect("fail")
        with pytest.raises(AssertionError, match=r"no push to 'growl'.*page\.errors: \[ValueError\('not today'\)\]"):
            await page.expect("growl", timeout=0.05)
        with pytest.raises(TimeoutError, match=r"page\.errors: \[ValueError\('not today'\)\]"):
            await page.send("ask back", 1, timeout=0.05)


async def test_a_delegate_of_the_server_that_fails_leaves_its_reason_in_the_log(aiohttp_client: AiohttpClient) -> None:
    async with Browser(await aiohttp_client(site())) as browser:
        page = await browser.open()
        with pytest.raises(PageError) as caught:
            await page.send("crash")
        assert caught.value.code == "internal"
        assert "logging.getLogger" in caught.value.__notes__[0]


async def test_sends_wait_for_the_next_connect(aiohttp_client: AiohttpClient) -> None:
    async with Browser(await aiohttp_client(site())) as browser:
        page = await browser.open()
        await page.cut()
        sending = asyncio.create_task(page.send("echo", b"\x00", qos=2))
        await asyncio.sleep(0)
        await page.connect()
        assert await sending == b"\x00"
        assert page.cursor[0] is not None


async def test_a_socket_that_is_refused(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(site())
    page = await Browser(client).open()
    await page.cut()
    client.session.cookie_jar.clear()
    with pytest.raises(ProtocolError) as caught:
        await page.connect()
    assert caught.value.code == 4500
