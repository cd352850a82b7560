"""`setup()`: what it makes, and what it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews.testing import Browser, PageError
from pagews.tokens import ENVIRONMENT, new_key

from .apps import KEY, application


async def no_coroutine(request: web.Request) -> str | None:
    return None


@pytest.mark.parametrize(
    ("options", "what_to_do"),
    [
        ({"secret_key": "short"}, "python -m pagews key"),
        ({"secret_key": None}, "python -m pagews key"),
        ({"broker": "amqp://nowhere"}, "'redis://HOST:PORT' or a pagews.Broker"),
        ({"broker": 7}, "'redis://HOST:PORT' or a pagews.Broker"),
        ({"prefix": "pagews"}, "give a path such as"),
        ({"prefix": "/"}, "a path of its own"),
        ({"prefix": "/{x}"}, "give a path such as"),
        ({"public_prefix": "app"}, "give a path such as"),
        ({"sessions": object()}, "AbstractStorage"),
        ({"user": lambda request: None}, "async def"),
        ({"authorize": "yes"}, "async def"),
        ({"limits": {"heartbeat": 3}}, "Limits"),
        ({"handler": pagews.WebSocketHandler}, "subclass of pagews.PageHandler"),
        ({"handler": pagews.PageHandler()}, "subclass of pagews.PageHandler"),
        ({"delegates": [object()]}, "give a pagews.DelegateTableDef"),
        ({"trusted_proxies": "127.0.0.1"}, "give a list, such as ['127.0.0.1']"),
        ({"trusted_proxies": ["localhost"]}, "'10.0.0.0/8'"),
        ({"trusted_proxies": None}, "give a list"),
        ({"authorize": no_coroutine}, "async def may_join(page, topic)"),
        ({"secret_key": 5}, "several are a list"),
        ({"secret_key": [5]}, "several are a list"),
        ({"allowed_origins": ["https://*.example.org"]}, "write it as browsers do"),
    ],
)
def test_mistakes_that_setup_finds(options: dict[str, Any], what_to_do: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    app = web.Application()
    with pytest.raises(pagews.ConfigurationError) as caught:
        pagews.setup(app, **({"secret_key": KEY} | options))
    assert what_to_do in str(caught.value)


def test_a_key_that_is_none_is_not_replaced_for_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, "c2hvcnQ=")
    with pytest.raises(pagews.ConfigurationError, match="has 5 bytes, and must have 32"):
        pagews.setup(web.Application(), debug=True)


def test_setting_up_twice() -> None:
    with pytest.raises(pagews.ConfigurationError, match="once"):
        pagews.setup(application(), secret_key=KEY)


def test_setting_up_a_sub_app_that_is_already_added() -> None:
    app, sub = web.Application(), web.Application()
    app.add_subapp("/sub", sub)
    with pytest.raises(pagews.ConfigurationError, match="is part of another"):
        pagews.setup(sub, secret_key=KEY)


async def test_setting_up_after_the_start(aiohttp_client: AiohttpClient) -> None:
    app = web.Application()
    await aiohttp_client(app)
    with pytest.raises(pagews.ConfigurationError, match="has started"):
        pagews.setup(app, secret_key=KEY)


def test_setting_up_what_is_no_application() -> None:
    with pytest.raises(pagews.ConfigurationError, match=r"takes the web\.Application"):
        pagews.setup(object())  # type: ignore[arg-type]  # the mistake that is tested


def test_a_route_that_is_taken() -> None:
    app = web.Application()
    app.router.add_get("/pagews/socket", no_coroutine)  # type: ignore[arg-type]  # never called
    with pytest.raises(pagews.ConfigurationError, match="give another prefix="):
        pagews.setup(app, secret_key=KEY)


def test_a_name_in_two_tables() -> None:
    one, two = pagews.DelegateTableDef(), pagews.DelegateTableDef()

    async def delegate(page: pagews.Page, data: Any) -> None: ...

    one.on("x")(delegate)
    two.on("x")(delegate)
    with pytest.raises(pagews.ConfigurationError, match="two tables"):
        application(delegates=[one, two])
    app = application(delegates=one)
    with pytest.raises(pagews.ConfigurationError, match="two tables"):
        pagews.add_delegates(app, two)


def test_before_the_start_there_is_no_publisher() -> None:
    with pytest.raises(pagews.ConfigurationError, match="has not started"):
        pagews.get_publisher(application())
    with pytest.raises(pagews.ConfigurationError, match="is not set up"):
        pagews.get_publisher(web.Application())


async def test_a_random_key_while_debugging(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    app = application(secret_key=None, debug=True)
    assert "a random one is used" in caplog.text
    async with Browser(await aiohttp_client(app)) as browser:
        assert (await browser.open()).connected
    with pytest.raises(pagews.ConfigurationError):
        application(secret_key="short", debug=True)


async def test_the_key_of_the_environment(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, f"{new_key()} {KEY}")
    async with Browser(await aiohttp_client(application(secret_key=None))) as browser:
        assert (await browser.open()).connected


async def test_another_prefix_and_a_broker_of_ones_own(aiohttp_client: AiohttpClient) -> None:
    app = application(prefix="/live/", broker=pagews.MemoryBroker())
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        assert page.include["data-pagews"] == "/live"


async def test_the_client_script(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application())
    async with client.get("/pagews/static/pagews.js") as response:
        assert response.status == 200
        assert response.content_type == "text/javascript"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        etag = response.headers["ETag"]
    async with client.get("/pagews/static/pagews.js", headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    for name in ("__init__.py", "nothing.js", "%2e%2e%2fapp.py"):
        async with client.get(f"/pagews/static/{name}") as response:
            assert response.status == 404


async def test_for_the_client_script_nobody_is_asked_who_is_there(aiohttp_client: AiohttpClient) -> None:
    """It is there also while the broker is away, which says whether a session lasts."""
    asked: list[str] = []

    async def user(request: web.Request) -> None:
        asked.append(request.path)

    client = await aiohttp_client(application(user=user))
    async with client.get("/pagews/static/pagews.js", headers={"Accept": "*/*"}) as response:
        assert response.status == 200
    assert asked == []


async def test_stopping_sends_pages_and_bare_sockets_away(aiohttp_client: AiohttpClient) -> None:
    app = application()
    app.router.add_get("/bare", pagews.websocket(pagews.WebSocketHandler))
    client = await aiohttp_client(app)
    page = await Browser(client).open()
    bare = await client.ws_connect("/bare")
    await client.server.close()
    assert await page.closed() == 1012
    assert (await bare.receive()).data == 1012
    await bare.close()
    with pytest.raises(pagews.ConfigurationError, match="has not started"):
        pagews.get_publisher(app)


async def test_a_drain_sends_away_in_groups_and_those_who_wait_for_a_delegate_behind_its_result(
    aiohttp_client: AiohttpClient,
) -> None:
    delegates, gate, release = pagews.DelegateTableDef(), asyncio.Event(), asyncio.Event()

    @delegates.on("slow")
    async def slow(page: pagews.Page, data: Any) -> str:
        gate.set()
        await release.wait()
        return "done"

    app = application(delegates=delegates, limits=pagews.Limits(drain_window=1.0))
    client = await aiohttp_client(app)
    async with Browser(client) as browser:
        pages = [await browser.open() for _ in range(60)]
        sending = asyncio.create_task(pages[0].send("slow", qos=2))
        behind = asyncio.create_task(pages[0].send("slow", qos=1))
        await gate.wait()
        draining = asyncio.create_task(pagews.drain(app))
        closing = [asyncio.create_task(page.closed()) for page in pages[1:]]
        # Whichever group a page is in: when the first has been sent away, the second has not.
        await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
        assert any(page.connected for page in pages)
        assert {await closed for closed in closing} == {1012}
        assert not draining.done()
        assert pages[0].connected
        release.set()
        assert (await sending, await behind) == ("done", "done")
        assert await pages[0].closed() == 1012
        await draining
        async with client.get("/pagews/socket", headers={"Upgrade": "websocket", "Connection": "Upgrade"}) as response:
            assert response.status == 503


async def test_a_drain_waits_for_a_delegate_no_longer_than_the_grace(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    delegates, gate, release = pagews.DelegateTableDef(), asyncio.Event(), asyncio.Event()

    @delegates.on("slow")
    async def slow(page: pagews.Page, data: Any) -> None:
        gate.set()
        await release.wait()

    app = application(delegates=delegates, limits=pagews.Limits(drain_grace=0.05))
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        await page.send("slow", qos=0)
        await gate.wait()
        await pagews.drain(app)
        assert await page.closed() == 1012
        assert pagews.get_publisher(app).statistics().dropped == {"delegates at drain": 1}
        assert "delegates still run after the drain grace of 0.05 s" in caplog.text
        release.set()


async def test_a_drain_ends_tasks_of_pages_without_the_pages_being_gone(aiohttp_client: AiohttpClient) -> None:
    app = application()
    events: list[str] = []

    async def listen(app: web.Application) -> None:
        async def gone(page: pagews.Page) -> None:
            events.append("gone")

        pagews.get_publisher(app).on_gone.append(gone)

    app.on_startup.append(listen)
    async with Browser(await aiohttp_client(app)) as browser:
        stand_in = await browser.open()
        (page,) = await pagews.get_publisher(app).page(stand_in.id).pages()
        await page.set("step", 1)

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                events.append("ended")

        task = page.create_task(work())
        await asyncio.sleep(0)
        await pagews.drain(app)
        with pytest.raises(asyncio.CancelledError):
            await task
        late = page.create_task(work())
        with pytest.raises(asyncio.CancelledError):
            await late
        assert await page.get("step") == 1
        assert events == ["ended"]


async def test_a_page_that_is_asked_for_with_an_upgrade_header(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application())
    async with client.get("/", headers={"Upgrade": "websocket"}) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "private, no-cache"


async def test_a_handler_that_forgets_the_inherited_terminate_leaves_nothing(aiohttp_client: AiohttpClient) -> None:
    class Forgetful(pagews.PageHandler):
        __slots__ = ()

        async def websocket_terminate(self, reason: int, context: pagews.Context) -> None:
            raise RuntimeError("boom")

    app = application(handler=Forgetful)
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        publisher = pagews.get_publisher(app)
        assert await publisher.page(page.id).pages()
        await page.close()
        with pytest.raises(pagews.AskTimeout):
            await publisher.page(page.id).ask("anything", timeout=0.01)
        assert publisher.statistics().attached == 0
        assert publisher.statistics().failed["websocket_terminate"] == 1
        record = publisher.node.broker._records[page.id]  # type: ignore[attr-defined]  # of the embedded broker
        assert not record.attached


async def test_a_callback_that_still_runs_does_not_hold_up_the_stop(aiohttp_client: AiohttpClient) -> None:
    entered, released = asyncio.Event(), asyncio.Event()

    class Slow(pagews.WebSocketHandler):
        async def websocket_handle(self, frame: pagews.Text | pagews.Binary, context: pagews.Context) -> None:
            entered.set()
            await released.wait()

    app = application(limits=pagews.Limits(drain_grace=0.05))
    app.router.add_get("/slow", pagews.websocket(Slow))
    client = await aiohttp_client(app)
    socket = await client.ws_connect("/slow")
    await socket.send_str("x")
    await entered.wait()
    async with asyncio.timeout(1):
        await pagews.drain(app)
        assert (await socket.receive()).data == 1012
    released.set()
    await socket.close()


async def test_as_many_and_as_long_topics_as_the_limits_allow(aiohttp_client: AiohttpClient) -> None:
    app = application()
    topics = [f"{number:03d}/{'x' * 150}" for number in range(100)]

    async def many(request: web.Request) -> web.Response:
        page = await pagews.open_page(request, topics=topics)
        return web.Response(text=str(pagews.script_tag(page)), content_type="text/html")

    async def more(request: web.Request) -> web.Response:
        with pytest.raises(ValueError, match="shorten them"):
            await pagews.open_page(request, topics=[topic + "y" * 40 for topic in topics])
        return web.Response()

    app.router.add_get("/many", many)
    app.router.add_get("/more", more)
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open("/many")
        await pagews.get_publisher(app).topic(topics[-1]).push("d", 1)
        assert await page.expect("d") == 1
        async with browser.client.get("/more") as response:
            assert response.status == 200


async def test_a_result_that_is_too_large_and_an_authorize_that_hangs(aiohttp_client: AiohttpClient) -> None:
    delegates = pagews.DelegateTableDef()

    @delegates.on("large")
    async def large(page: pagews.Page, data: Any) -> str:
        return "x" * 1000

    async def hang(page: pagews.Page, topic: str) -> bool:
        await asyncio.Event().wait()
        return True

    limits = pagews.Limits(message_down=100, callback=0.05)
    async with Browser(
        await aiohttp_client(application(delegates=delegates, authorize=hang, limits=limits))
    ) as browser:
        page = await browser.open()
        for failing in (page.send("large"), page.join("room")):
            with pytest.raises(PageError) as caught:
                await failing
            assert caught.value.code == "internal"
        assert page.connected
