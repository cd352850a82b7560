"""What application code holds of a page, a session, a user and a topic."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews import EncodingError, Page
from pagews.testing import Browser, PageStandIn

from .rig import turn
from .views import site


async def facade(app: web.Application, page_id: str) -> Page:
    """A page as the server's signals and delegates get it."""
    (page,) = await pagews.get_publisher(app).page(page_id).pages()
    return page


async def test_every_kind_of_target(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser, Browser(await aiohttp_client(app)) as other:
        one, two = await browser.open("/open?topic=news"), await browser.open("/open")
        three = await other.open("/open?topic=news")
        publisher = pagews.get_publisher(app)
        (page,) = await publisher.page(one.id).pages()
        await publisher.page(one.id).push("page", 1)
        await page.session.push("session", 2)
        await publisher.topic("news").push("topic", 3, qos=0)
        await publisher.session(page.session.id).push("end")
        for stand_in, expected in ((one, ["page", "session", "topic", "end"]), (two, ["session", "end"])):
            await stand_in.expect("end")
            assert [message.delegate for message in stand_in.received] == expected
        assert [message.to for message in one.received] == ["page", "session", "topic:news", "session"]
        assert [message.seq > 0 for message in one.received] == [True, True, False, True]
        assert await three.expect("topic") == 3
        assert {page.id for page in await publisher.topic("news").pages()} == {one.id, three.id}
        assert page.topics == {"news"}
        assert page.attached
        assert page.app is app
        assert page.user is None
        assert page.session == publisher.session(page.session.id)
        assert page.session.id not in repr(page.session)
        assert len({page.session, publisher.session(page.session.id)}) == 1


async def test_subscribe_and_unsubscribe(aiohttp_client: AiohttpClient) -> None:
    app = site(limits=pagews.Limits(topics=2))
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open("/open?topic=a")
        publisher = pagews.get_publisher(app)
        page = await facade(app, stand_in.id)
        await page.subscribe("b")
        await publisher.topic("b").push("d", 1)
        assert await stand_in.expect("d") == 1
        with pytest.raises(ValueError, match=r"limits\.topics"):
            await page.subscribe("c")
        await page.unsubscribe("a")
        await publisher.topic("a").push("d", 2)
        await publisher.topic("b").push("end")
        await stand_in.expect("end")
        stand_in.refute("d")
        assert page.topics == {"b"}


async def test_subscribing_after_leaving_every_topic(aiohttp_client: AiohttpClient) -> None:
    app = site(limits=pagews.Limits(topics=2))
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open("/open?topic=a&topic=b")
        page = await facade(app, stand_in.id)
        await page.unsubscribe("a")
        await page.unsubscribe("b")
        await page.subscribe("c")
        await pagews.get_publisher(app).topic("c").push("d", 1)
        assert await stand_in.expect("d") == 1


async def test_what_a_page_that_is_gone_listens_to_cannot_be_changed(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open("/open?topic=a")
        page = await facade(app, stand_in.id)
        await page.close(4509, "for good")
        with pytest.raises(pagews.PageGone):
            await page.subscribe("b")
        with pytest.raises(pagews.PageGone):
            await page.unsubscribe("a")


async def test_closing_a_page(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        target = pagews.get_publisher(app).page(page.id)
        await target.close(1012, "come back")
        assert await page.closed() == 1012
        await page.connect()
        await target.close(4509, "for good")
        assert await page.closed() == 4509
        with pytest.raises(pagews.PageGone):
            await target.ask("anything")


@pytest.mark.parametrize("code", [70000, 999, 1005, 1006, 1015, 2000, "1000"])
async def test_close_codes_that_may_not_be_sent(aiohttp_client: AiohttpClient, code: Any) -> None:
    app = site()
    await aiohttp_client(app)
    with pytest.raises(ValueError, match="close code"):
        await pagews.get_publisher(app).page("p").close(code)


async def test_a_page_that_is_closed_before_it_connects_may_connect(aiohttp_client: AiohttpClient) -> None:
    app = site()
    opened = list[Page]()

    async def view(request: web.Request) -> web.Response:
        opened.append(await pagews.open_page(request))
        await opened[0].close(4501)
        return web.Response(text=str(pagews.script_tag(opened[0])), content_type="text/html")

    app.router.add_get("/view", view)
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open("/view")
        assert stand_in.id == opened[0].id
        assert opened[0].attached


# --- variables and tasks of a page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 0, -1.5, "é\n", [], [1, [None]], {"a": {"b": "c"}}, ""])
async def test_a_variable_comes_back_as_json_has_it(aiohttp_client: AiohttpClient, value: object) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await facade(app, (await browser.open()).id)
        assert await page.get("v") is None
        assert await page.get("v", "nothing") == "nothing"
        await page.set("v", value)
        assert await page.get("v", "nothing") == value
        await page.set("v", None)
        assert await page.get("v", "nothing") == "nothing"


async def test_what_is_kept_is_not_the_object(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await facade(app, (await browser.open()).id)
        basket = {"items": [1], "owner": float("nan"), "raw": b"\x00"}
        await page.set("basket", basket)
        basket["items"] = []
        assert await page.get("basket") == {"items": [1], "owner": None, "raw": "AA=="}
        (await page.get("basket"))["items"].append(2)
        assert await page.get("basket") == {"items": [1], "owner": None, "raw": "AA=="}


async def test_incr_and_append_are_one_step(aiohttp_client: AiohttpClient) -> None:
    delegates = pagews.DelegateTableDef()

    @delegates.on("visit")
    async def visit(page: Page, data: Any) -> int:
        await page.append("seen", data)
        return await page.incr("visits")

    app = site(delegates=delegates)
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open()
        counted = await asyncio.gather(*(stand_in.send("visit", number) for number in range(20)))
        assert sorted(counted) == list(range(1, 21))
        page = await facade(app, stand_in.id)
        assert await page.get("seen") == list(range(20))
        assert await page.incr("visits", -20) == 0


async def test_what_a_variable_cannot_be(aiohttp_client: AiohttpClient) -> None:
    app = site(limits=pagews.Limits(variable_bytes=100))
    async with Browser(await aiohttp_client(app)) as browser:
        page: Any = await facade(app, (await browser.open()).id)
        await page.set("text", "x")
        for call, error in (
            (page.set("v", object()), EncodingError),
            (page.append("v", object()), EncodingError),
            (page.set("v", "x" * 100), pagews.LimitExceeded),
            (page.append("v", "x" * 100), pagews.LimitExceeded),
            (page.set("", 1), ValueError),
            (page.get("a\nb"), ValueError),
            (page.set(7, 1), TypeError),
            (page.incr("n", 1.5), TypeError),
            (page.incr("n", True), TypeError),
            (page.incr("text"), TypeError),
            (page.append("text", 1), TypeError),
            (page.incr("n", 2**53), ValueError),
        ):
            with pytest.raises(error):
                await call
        assert [await page.get(name) for name in ("v", "n", "text")] == [None, None, "x"]
        assert pagews.get_publisher(app).statistics().refused == {"variables": 2}


async def test_variables_survive_a_cut_and_end_with_the_page(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open()
        page = await facade(app, stand_in.id)
        await page.set("step", 3)
        await stand_in.cut()
        assert await page.get("step") == 3
        await stand_in.connect()
        assert await page.get("step") == 3
        await page.close(4509, "enough")
        assert await page.get("step", "gone") == "gone"
        with pytest.raises(pagews.PageGone):
            await page.set("step", 4)


async def test_what_a_view_stores_is_there_for_the_delegate(aiohttp_client: AiohttpClient) -> None:
    delegates = pagews.DelegateTableDef()

    @delegates.on("what")
    async def what(page: Page, data: Any) -> Any:
        return await page.get("article")

    async def view(request: web.Request) -> web.Response:
        page = await pagews.open_page(request, topics=["a"])
        await page.set("article", 17)
        await pagews.open_page(request, topics=["b"])
        return web.Response(text=str(pagews.script_tag(page)), content_type="text/html")

    app = site(delegates=delegates)
    app.router.add_get("/view", view)
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open("/view")
        assert await stand_in.send("what") == 17
        assert (await facade(app, stand_in.id)).topics == {"a", "b"}


async def test_a_fork_has_neither_variables_nor_tasks(aiohttp_client: AiohttpClient) -> None:
    app = site()
    client = await aiohttp_client(app)
    async with Browser(client) as browser:
        original = await browser.open()
        page = await facade(app, original.id)
        await page.set("v", 1)
        go_on = asyncio.Event()
        task = page.create_task(go_on.wait())
        node = pagews.get_publisher(app).node
        copy = PageStandIn(browser, original.html)
        await copy.connect()
        assert copy.id != original.id
        fork = await facade(app, copy.id)
        assert await fork.get("v") is None
        await fork.close(4509, "enough")
        await turn()
        assert not task.done()
        assert node.tasks._tasks.keys() == {original.id}
        go_on.set()
        assert await task is True
        await copy.close()


async def test_a_task_of_a_page_ends_when_it_is_gone(aiohttp_client: AiohttpClient) -> None:
    begun: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
    delegates = pagews.DelegateTableDef()

    @delegates.on("start")
    async def start(page: Page, data: Any) -> None:
        async def count() -> None:
            number = 0
            while True:
                number += 1
                await page.push("number", number)
                await asyncio.sleep(0)

        begun.put_nowait(page.create_task(count()))

    app = site(delegates=delegates, limits=pagews.Limits(grace=0.05, heartbeat=0.2))
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open()
        await stand_in.send("start")
        task = await begun.get()
        await stand_in.expect("number")
        await stand_in.cut()
        await stand_in.connect()
        await stand_in.expect("number")
        assert not task.done()
        await stand_in.close()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(5):
                await task
