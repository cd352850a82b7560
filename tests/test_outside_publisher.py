"""The push API in a program that serves no pages, beside an application on the same Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

import pagews
from pagews import Limits, Publisher
from pagews.redis_broker import RedisBroker
from pagews.testing import Browser
from tests.redis_server import RedisServer
from tests.views import site


@pytest.fixture
def app(redis: RedisServer) -> web.Application:
    return site(broker=redis.url)


@pytest.fixture
async def browser(aiohttp_client: AiohttpClient, app: web.Application) -> AsyncIterator[Browser]:
    async with Browser(await aiohttp_client(app)) as browser:
        yield browser


@pytest.fixture
async def publisher(redis: RedisServer) -> AsyncIterator[Publisher]:
    async with Publisher(redis.url) as publisher:
        yield publisher


async def test_every_target_is_reached(browser: Browser, publisher: Publisher) -> None:
    page = await browser.open("/open?topic=news")
    [here] = await publisher.topic("news").pages()
    assert here.id == page.id

    for target in (publisher.page(page.id), here, here.session, publisher.topic("news")):
        qos: Any
        for qos in (0, 1):
            await target.push("growl", target.id, qos=qos)
            assert await page.expect("growl") == target.id


async def test_key_is_one_for_all_processes(browser: Browser, publisher: Publisher, redis: RedisServer) -> None:
    page = await browser.open("/open?topic=news")
    async with Publisher(redis.url) as second:
        for each in (publisher, second):
            await each.topic("news").push("order", 7, key="order-7")
        await second.topic("news").push("end")

    await page.expect("end")
    assert [message.delegate for message in page.received] == ["order", "end"]


async def test_page_is_asked(browser: Browser, publisher: Publisher) -> None:
    page = await browser.open("/open?topic=news")
    page.on("confirm", lambda data: data + 1)

    assert await publisher.page(page.id).ask("confirm", 1) == 2
    receipt = await publisher.topic("news").push("confirm", 2, qos=2)
    assert await receipt.wait() == [pagews.Ack(page.id, True, 3)]


async def test_page_is_closed(browser: Browser, publisher: Publisher) -> None:
    page = await browser.open("/open")

    await publisher.page(page.id).close(4500, "for the test")

    assert await page.closed() == 4500
    with pytest.raises(pagews.PageGone):
        await publisher.page(page.id).ask("confirm")


async def test_session_is_revoked(browser: Browser, publisher: Publisher) -> None:
    page = await browser.open("/open?topic=news")
    [here] = await publisher.topic("news").pages()

    await here.session.revoke()

    assert await page.closed() == 4503


async def test_variables_are_shared(browser: Browser, publisher: Publisher, app: web.Application) -> None:
    await browser.open("/open?topic=news")
    [here] = await publisher.topic("news").pages()
    await here.set("seen", 1)

    [there] = await pagews.get_publisher(app).topic("news").pages()
    assert await there.incr("seen") == 2


async def test_program_has_no_application(browser: Browser, publisher: Publisher) -> None:
    await browser.open("/open?topic=news")
    [here] = await publisher.topic("news").pages()
    assert not here.attached

    with pytest.raises(pagews.ConfigurationError, match="made by a program"):
        _ = here.app


async def test_size_is_limited(redis: RedisServer) -> None:
    async with Publisher(redis.url, limits=Limits(message_down=100)) as publisher:
        with pytest.raises(pagews.MessageTooLarge):
            await publisher.topic("news").push("d", "x" * 100)
        assert publisher.statistics().pushed == 0


async def test_outside_of_async_with_there_is_no_target(redis: RedisServer) -> None:
    publisher = Publisher(redis.url)
    makers: list[Any] = [publisher.page, publisher.session, publisher.user, publisher.topic]
    for make in makers:
        with pytest.raises(pagews.ConfigurationError, match="async with"):
            make("x")
    async with publisher:
        await publisher.topic("x").push("d")
    with pytest.raises(pagews.ConfigurationError, match="async with"):
        publisher.topic("x")


@pytest.mark.parametrize("broker", ["memory://", "localhost:6379", "http://localhost"])
def test_broker_that_nobody_shares(broker: str) -> None:
    with pytest.raises(pagews.ConfigurationError):
        Publisher(broker)


async def test_broker_is_away(own_redis: RedisServer) -> None:
    own_redis.kill()
    before = asyncio.all_tasks()

    with pytest.raises(pagews.BrokerUnavailable):
        async with Publisher(own_redis.url, limits=Limits(broker=0.2)):
            raise AssertionError("it was not reached")

    assert asyncio.all_tasks() == before


async def test_broker_that_evicts(own_redis: RedisServer) -> None:
    await own_redis.config("maxmemory-policy", "allkeys-lru")

    with pytest.raises(pagews.ConfigurationError, match="noeviction"):
        async with Publisher(own_redis.url):
            raise AssertionError("it would lose messages")


# --- what is the site's -----------------------------------------------------------------------------------------------


async def test_settings_of_the_log_stay(aiohttp_client: AiohttpClient, redis: RedisServer) -> None:
    await aiohttp_client(site(broker=redis.url, limits=Limits(retention=1000, channel_entries=7)))
    async with Publisher(redis.url):
        pass

    retention, entries = await redis.command("HMGET", "pagews:log", "retention", "entries")
    assert (float(retention), entries) == (1000, "7")


@pytest.mark.parametrize("user", [None, "ann  of  cleves"])
async def test_page_that_is_closed_here_is_told_there(
    aiohttp_client: AiohttpClient, redis: RedisServer, user: str | None
) -> None:
    async def who(request: web.Request) -> str | None:
        return user

    app = site(broker=redis.url, user=who)
    gone = listen_to_ends(app)
    async with Browser(await aiohttp_client(app)) as browser, Publisher(redis.url) as publisher:
        page = await browser.open("/open")
        await publisher.page(page.id).close(4500)

        ended = await asyncio.wait_for(gone.get(), 5)
        assert (ended.id, ended.user and ended.user.id) == (page.id, user)


async def test_page_that_ends_by_itself_is_told_there(aiohttp_client: AiohttpClient, redis: RedisServer) -> None:
    app = site(broker=redis.url, limits=Limits(grace=0.01))
    gone = listen_to_ends(app)
    async with Browser(await aiohttp_client(app)) as browser, Publisher(redis.url) as publisher:
        page = await browser.open("/open")
        await page.close()
        # The end of a page is found by a probe; this program's come first.
        broker = publisher.node.broker
        assert isinstance(broker, RedisBroker)
        async with asyncio.timeout(5):
            while gone.empty():
                await broker.probe()

        assert (await gone.get()).id == page.id


def listen_to_ends(app: web.Application) -> asyncio.Queue[pagews.Page]:
    gone: asyncio.Queue[pagews.Page] = asyncio.Queue()

    async def listen(app: web.Application) -> None:
        pagews.get_publisher(app).on_gone.append(gone.put)

    app.on_startup.append(listen)
    return gone
