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

from .rig import turn
from .views import site


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


async def test_receivers_that_are_too_slow_miss_where_pages_are_but_not_that_they_are_gone(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagews.publisher.SIGNALS", 3)
    app = site()
    go_on, told = asyncio.Event(), list[str]()

    async def subscribe(app: web.Application) -> None:
        publisher = pagews.get_publisher(app)

        @publisher.on_attach
        async def attach(page: Page) -> None:
            await go_on.wait()
            told.append("attach")

        @publisher.on_detach
        async def detach(page: Page) -> None:
            told.append("detach")

        @publisher.on_gone
        async def gone(page: Page) -> None:
            told.append("gone")

    app.on_startup.append(subscribe)
    async with Browser(await aiohttp_client(app)) as browser:
        publisher = pagews.get_publisher(app)
        first = await browser.open()
        await turn()  # its receiver runs: it does not wait any more
        await browser.open()
        await browser.open()
        for code in (1012, 4509):
            await publisher.page(first.id).close(code)
            await first.closed()
            await turn()
            if code == 1012:
                await first.connect()
        go_on.set()
        await publisher._events.join()
        assert told == ["attach", "attach", "attach", "detach", "gone"]
        assert publisher.statistics().dropped == {"signals": 2}


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
