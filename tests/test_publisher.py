"""The push API: targets, qos, asking, receipts, signals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews import EncodingError, MessageTooLarge, Page
from pagews.testing import Browser, PageStandIn

from .apps import application
from .rig import turn


async def open_page(request: web.Request) -> web.Response:
    page = await pagews.open_page(request, topics=request.query.getall("topic", []))
    return web.Response(text=str(pagews.script_tag(page)), content_type="text/html")


def site(**options: Any) -> web.Application:
    app = application(**options)
    app.router.add_get("/open", open_page)
    return app


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


@pytest.mark.parametrize("data", [None, True, 1.5, "é", [1, {"a": [None]}], {"k": "v"}, b"\x00\xff", b""])
@pytest.mark.parametrize("qos", [0, 1])
async def test_any_data(aiohttp_client: AiohttpClient, data: object, qos: Any) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        await pagews.get_publisher(app).page(page.id).push("d", data, qos=qos)
        assert await page.expect("d") == data


async def test_what_is_refused_at_the_call_takes_no_number(aiohttp_client: AiohttpClient) -> None:
    app = site(limits=pagews.Limits(message_down=100))
    await aiohttp_client(app)
    publisher = pagews.get_publisher(app)
    target, position = publisher.page("p"), publisher.node.broker.position
    push: Any = target.push
    for call, error in (
        (push("d", object()), EncodingError),
        (push("d", "x" * 100), MessageTooLarge),
        (push("pagews.dom", 1), ValueError),
        (push("", 1), ValueError),
        (push(7, 1), TypeError),
        (push("d", 1, qos=3), ValueError),
        (push("d", 1, ttl=0), ValueError),
        (push("d", 1, qos=0, key="k"), ValueError),
        (target.ask("pagews.dom"), ValueError),
    ):
        with pytest.raises(error):
            await call
    assert publisher.node.broker.position == position
    with pytest.raises(ValueError, match="a topic"):
        publisher.topic("")
    with pytest.raises(TypeError, match="a user id"):
        publisher.user(7)  # type: ignore[arg-type]  # the mistake that is tested
    assert publisher.statistics().pushed == 0


async def test_ttl_and_idempotency_key(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        target = pagews.get_publisher(app).page(page.id)
        await page.cut()
        await target.push("short", 1, ttl=0.000001)
        for _ in range(3):
            await target.push("order", 7, key="order-7")
        await target.push("end")
        await page.connect()
        await page.expect("end")
        assert [message.delegate for message in page.received] == ["order", "end"]


async def ask(page: PageStandIn, app: web.Application, **options: Any) -> Any:
    return await pagews.get_publisher(app).page(page.id).ask("confirm", {"text": "Sure?"}, **options)


async def test_ask(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        page.on("confirm", lambda data: data["text"] == "Sure?")
        assert await ask(page, app) is True

        async def later(data: Any) -> bytes:
            await asyncio.sleep(0)
            return b"raw"

        page.on("confirm", later)
        assert await ask(page, app) == b"raw"

        def refuse(data: Any) -> None:
            raise ValueError("never")

        page.on("confirm", refuse)
        with pytest.raises(pagews.RemoteError) as caught:
            await ask(page, app)
        assert (caught.value.code, caught.value.message) == ("ValueError", "never")


async def test_an_ask_survives_a_cut(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        await page.cut()
        page.on("confirm", lambda data: 42)
        asking = asyncio.create_task(ask(page, app))
        await turn()
        await page.connect()
        assert await asking == 42


async def test_an_ask_that_nobody_answers(aiohttp_client: AiohttpClient) -> None:
    app = site(limits=pagews.Limits(grace=0.05, heartbeat=0.2))
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        await page.cut()
        with pytest.raises(pagews.AskTimeout, match=r"'confirm' was not answered in 0.01 s"):
            await ask(page, app, timeout=0.01)
        await page.connect()
        page.refute("confirm")
        gone = asyncio.create_task(ask(page, app))
        await turn()
        await page.close()
        with pytest.raises(pagews.PageGone):
            await gone
        with pytest.raises(pagews.PageGone):
            await ask(page, app)


async def test_an_ask_to_a_page_that_never_was(aiohttp_client: AiohttpClient) -> None:
    app = site()
    await aiohttp_client(app)
    with pytest.raises(pagews.AskTimeout):
        await pagews.get_publisher(app).page("nobody").ask("confirm", timeout=0.01)


async def test_receipts_of_qos_2(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        one, two = await browser.open("/open?topic=t"), await browser.open("/open?topic=t")
        one.on("alarm", lambda data: "one")
        two.on("alarm", lambda data: data["missing"])
        receipt = await pagews.get_publisher(app).topic("t").push("alarm", {}, qos=2)
        acks = {ack.page_id: ack for ack in await receipt.wait(count=2, timeout=5)}
        assert (acks[one.id].ok, acks[one.id].value) == (True, "one")
        assert not acks[two.id].ok
        assert isinstance(acks[two.id].value, pagews.RemoteError)
        assert len(await receipt.wait(count=3, timeout=0.01)) == 2
        assert len(await receipt.wait()) == 1
        found = []
        async for ack in receipt:
            found.append(ack.page_id)
            if len(found) == 2:
                break
        assert set(found) == {one.id, two.id}


async def test_answers_that_nobody_asked_for_are_counted_and_confirmed(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        mine, foreign = await browser.open("/open"), await browser.open("/open")
        publisher = pagews.get_publisher(app)
        mine.on("d", lambda data: None)
        receipt = await publisher.page(mine.id).push("d", qos=2)
        await foreign._write(["ack", receipt.id, True, "forged"])
        await foreign._write(["ack", 12345, True, None])
        await foreign.send("nothing", qos=0)
        assert [ack.page_id for ack in await receipt.wait(count=1)] == [mine.id]
        await publisher.page(foreign.id).push("end")
        await foreign.expect("end")
        assert publisher.statistics().refused["answer nobody waits for"] == 2


async def test_signals(aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture) -> None:
    app = site(limits=pagews.Limits(grace=0.05, heartbeat=0.2))
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def subscribe(app: web.Application) -> None:
        publisher = pagews.site.get_site(app).publisher

        @publisher.on_attach
        async def attach(page: Page) -> None:
            await told.put(("attach", page.id))
            raise RuntimeError("a receiver that fails harms nobody")

        @publisher.on_detach
        async def detach(page: Page) -> None:
            await told.put(("detach", page.id))

        @publisher.on_gone
        async def gone(page: Page) -> None:
            assert not page.attached
            await told.put(("gone", page.id))

    app.on_startup.insert(0, subscribe)
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        await page.cut()
        await page.connect()
        await page.close()
        async with asyncio.timeout(5):
            events = [await told.get() for _ in range(5)]
    assert [name for name, _ in events] == ["attach", "detach", "attach", "detach", "gone"]
    assert {page_id for _, page_id in events} == {page.id}
    assert "a receiver of a signal failed" in caplog.text


async def test_subscribe_and_unsubscribe(aiohttp_client: AiohttpClient) -> None:
    app = site(limits=pagews.Limits(topics=2))
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open("/open?topic=a")
        publisher = pagews.get_publisher(app)
        (page,) = await publisher.page(stand_in.id).pages()
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


async def test_statistics(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        await pagews.get_publisher(app).page(page.id).push("d")
        await page.expect("d")
        statistics = pagews.get_publisher(app).statistics()
        assert (statistics.attached, statistics.sockets, statistics.pushed, statistics.delivered) == (1, 1, 1, 1)
        assert (statistics.channels, statistics.entries) == (1, 1)


async def test_a_receiver_that_waits_for_a_cancelled_task_ends_no_signals(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    app = site()
    told: asyncio.Queue[str] = asyncio.Queue()

    async def attach(page: Page) -> None:
        await told.put(page.id)
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    async def subscribe(app: web.Application) -> None:
        pagews.get_publisher(app).on_attach.append(attach)

    app.on_startup.append(subscribe)
    async with Browser(await aiohttp_client(app)) as browser, asyncio.timeout(5):
        for _ in range(2):
            page = await browser.open()
            assert await told.get() == page.id
    assert "a receiver of a signal failed" in caplog.text


async def test_a_repeated_push_with_a_key_and_a_receipt(aiohttp_client: AiohttpClient) -> None:
    app = site()
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        page.on("order", lambda data: "done")
        target = pagews.get_publisher(app).page(page.id)
        first = await target.push("order", 7, qos=2, key="order-7")
        again = await target.push("order", 7, qos=2, key="order-7")
        assert [ack.value for ack in await again.wait(1)] == ["done"]
        assert first is again
        assert len(page.received) == 1


@pytest.mark.parametrize("timeout", [None, 0, -1, "5", float("inf")])
async def test_time_limits_that_are_none(aiohttp_client: AiohttpClient, timeout: Any) -> None:
    app = site()
    await aiohttp_client(app)
    target = pagews.get_publisher(app).page("p")
    with pytest.raises(ValueError, match="give seconds above zero"):
        await target.ask("d", timeout=timeout)


@pytest.mark.parametrize("code", [70000, 999, 1005, 1006, 1015, 2000, "1000"])
async def test_close_codes_that_may_not_be_sent(aiohttp_client: AiohttpClient, code: Any) -> None:
    app = site()
    await aiohttp_client(app)
    with pytest.raises(ValueError, match="close code"):
        await pagews.get_publisher(app).page("p").close(code)


async def test_subscribing_after_leaving_every_topic(aiohttp_client: AiohttpClient) -> None:
    app = site(limits=pagews.Limits(topics=2))
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open("/open?topic=a&topic=b")
        (page,) = await pagews.get_publisher(app).page(stand_in.id).pages()
        await page.unsubscribe("a")
        await page.unsubscribe("b")
        await page.subscribe("c")
        await pagews.get_publisher(app).topic("c").push("d", 1)
        assert await stand_in.expect("d") == 1


# --- variables and tasks of a page ------------------------------------------------------------------------------------


async def facade(app: web.Application, page_id: str) -> Page:
    (page,) = await pagews.get_publisher(app).page(page_id).pages()
    return page


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
