"""The browser session and its user."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import aiohttp_jinja2
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from aiohttp_session import SimpleCookieStorage
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews.errors import ProtocolError
from pagews.testing import Browser
from pagews.tokens import new_key

from .apps import KEY, application


async def log_in(request: web.Request) -> web.Response:
    await pagews.login(request, request.query["user"])
    return web.Response()


async def log_out(request: web.Request) -> web.Response:
    await pagews.logout(request)
    return web.Response()


async def rotate(request: web.Request) -> web.Response:
    await pagews.rotate_session(request)
    return web.Response()


async def whoami(request: web.Request) -> web.Response:
    page = await pagews.open_page(request)
    return web.json_response({"session": page.session.id, "user": page.user and page.user.id})


async def keep(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    session["kept"] = session.get("kept", 0) + 1
    return web.json_response(dict(session))


def site(**options: Any) -> web.Application:
    app = application(**options)
    app.router.add_post("/login", log_in)
    app.router.add_post("/logout", log_out)
    app.router.add_post("/rotate", rotate)
    app.router.add_get("/whoami", whoami)
    app.router.add_get("/keep", keep)
    return app


async def who(client: TestClient[Any, Any]) -> dict[str, Any]:
    async with client.get("/whoami") as response:
        assert response.status == 200
        return dict(await response.json())


async def test_a_browser_keeps_its_session(aiohttp_client: AiohttpClient) -> None:
    app = site()
    one, two = await aiohttp_client(app), await aiohttp_client(app)
    assert await who(one) == await who(one)
    assert (await who(one))["session"] != (await who(two))["session"]


async def test_the_cookie(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(site())
    async with client.get("/") as response:
        cookie = response.headers["Set-Cookie"]
    value = cookie.removeprefix("PAGEWS=").partition(";")[0]
    assert b"pagews.session" not in base64.urlsafe_b64decode(value)
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    async with client.get("/") as response:
        assert "Set-Cookie" not in response.headers


async def test_no_page_no_cookie(aiohttp_client: AiohttpClient) -> None:
    app = site()

    async def plain(request: web.Request) -> web.Response:
        return web.Response(text="plain")

    app.router.add_get("/plain", plain)
    client = await aiohttp_client(app)
    async with client.get("/plain") as response:
        assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("value", ["\xff", "nonsense", "gAAAAAB", '"'])
async def test_threat_34_a_cookie_that_is_none_of_ours_is_a_fresh_session(
    aiohttp_client: AiohttpClient, value: str
) -> None:
    client = await aiohttp_client(site())
    async with client.get("/", headers={"Cookie": f"PAGEWS={value}"}) as response:
        assert response.status == 200
        assert "Set-Cookie" in response.headers


async def test_threat_11_several_keys(aiohttp_client: AiohttpClient) -> None:
    new = new_key()
    old_client = await aiohttp_client(site(secret_key=KEY))
    before = await who(old_client)
    cookies = {cookie.key: cookie.value for cookie in old_client.session.cookie_jar}
    rotated = await aiohttp_client(site(secret_key=[new, KEY]), cookies=cookies)
    assert await who(rotated) == before
    dropped = await aiohttp_client(site(secret_key=new), cookies=cookies)
    assert await who(dropped) != before


async def test_login_and_logout_rotate_the_session_and_close_its_pages(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(site())
    browser = Browser(client)
    page = await browser.open()
    before = await who(client)
    assert before["user"] is None
    async with asyncio.timeout(1):
        await client.post("/login", params={"user": "ann"})
        assert await page.closed() == 4503
    after = await who(client)
    assert after["user"] == "ann"
    assert after["session"] != before["session"]
    page = await browser.open()
    other_user: TestClient[Any, Any] = await aiohttp_client(client.server)
    assert (await who(other_user))["user"] is None
    async with asyncio.timeout(1):
        await client.post("/logout")
        assert await page.closed() == 4503
    assert (await who(client))["user"] is None


async def test_the_old_page_cannot_come_back(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(site())
    page = await Browser(client).open()
    await client.post("/rotate")
    await page.closed()
    with pytest.raises(ProtocolError) as caught:
        await page.connect()
    assert caught.value.code == 4500


async def test_threat_6_an_old_cookie_is_a_fresh_session_after_rotation(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(site())
    await client.post("/login", params={"user": "ann"})
    stolen = {cookie.key: cookie.value for cookie in client.session.cookie_jar}
    known = await who(client)
    await client.post("/rotate")
    thief: TestClient[Any, Any] = await aiohttp_client(client.server, cookies=stolen)
    found = await who(thief)
    assert found["user"] is None
    assert found["session"] != known["session"]
    assert (await who(client))["user"] == "ann"


async def test_revoking_a_session_and_a_user(aiohttp_client: AiohttpClient) -> None:
    app = site()
    phone, desk = await aiohttp_client(app), await aiohttp_client(app)
    for client in (phone, desk):
        await client.post("/login", params={"user": "ann"})
    on_phone, on_desk = await Browser(phone).open(), await Browser(desk).open()
    publisher = pagews.get_publisher(app)
    await publisher.session((await who(phone))["session"]).revoke()
    assert await on_phone.closed() == 4503
    assert on_desk.connected
    assert (await who(phone))["user"] is None
    await publisher.user("ann").revoke()
    assert await on_desk.closed() == 4503
    assert (await who(desk))["user"] is None
    await desk.post("/login", params={"user": "ann"})
    assert (await who(desk))["user"] == "ann"
    await Browser(desk).open()


async def test_the_application_keeps_the_user_itself(aiohttp_client: AiohttpClient) -> None:
    users = {"now": "ann"}

    async def user(request: web.Request) -> str | None:
        return users["now"]

    client = await aiohttp_client(site(user=user))
    page = await Browser(client).open()
    assert (await who(client))["user"] == "ann"
    users["now"] = "bob"
    await page.cut()
    with pytest.raises(ProtocolError) as caught:
        await page.connect()
    assert caught.value.code == 4503


async def test_the_applications_own_storage_before_setup(aiohttp_client: AiohttpClient) -> None:
    app = web.Application()
    aiohttp_session.setup(app, SimpleCookieStorage(cookie_name="OWN"))
    pagews.setup(app, secret_key=KEY)
    app.router.add_get("/whoami", whoami)
    app.router.add_get("/keep", keep)
    client = await aiohttp_client(app)
    found = await who(client)
    async with client.get("/keep") as response:
        kept = await response.json()
    assert kept["pagews.session"] == found["session"]
    assert kept["kept"] == 1
    assert {cookie.key for cookie in client.session.cookie_jar} == {"OWN"}


async def test_a_storage_that_is_given(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(site(sessions=SimpleCookieStorage(cookie_name="GIVEN")))
    found = await who(client)
    assert {cookie.key for cookie in client.session.cookie_jar} == {"GIVEN"}
    assert await who(client) == found


async def test_a_session_set_up_too_late() -> None:
    app = application()
    aiohttp_session.setup(app, SimpleCookieStorage())
    runner = web.AppRunner(app)
    with pytest.raises(pagews.ConfigurationError, match=r"aiohttp_session.setup\(\) before pagews.setup\(\)"):
        await runner.setup()


async def test_a_user_id_that_cannot_be_one(aiohttp_client: AiohttpClient) -> None:
    app = site()

    async def bad(request: web.Request) -> web.Response:
        with pytest.raises(ValueError, match="a user id"):
            await pagews.login(request, "")
        with pytest.raises(TypeError, match="a user id"):
            await pagews.login(request, 7)  # type: ignore[arg-type]  # the mistake that is tested
        return web.Response()

    app.router.add_get("/bad", bad)
    client = await aiohttp_client(app)
    async with client.get("/bad") as response:
        assert response.status == 200
    assert (await who(client))["user"] is None


async def test_a_page_that_is_rendered_by_the_request_that_logs_in(aiohttp_client: AiohttpClient) -> None:
    app = site()

    async def welcome(request: web.Request) -> web.StreamResponse:
        if "before" in request.query:
            await pagews.open_page(request)
        await pagews.login(request, "ann")
        return aiohttp_jinja2.render_template("page.html", request, {})

    app.router.add_get("/welcome", welcome)
    async with Browser(await aiohttp_client(app)) as browser:
        for path in ("/welcome", "/welcome?before=1"):
            page = await browser.open(path)
            (attached,) = await pagews.get_publisher(app).page(page.id).pages()
            assert attached.user is not None
            assert attached.user.id == "ann"


async def test_login_when_the_application_keeps_the_user_itself(aiohttp_client: AiohttpClient) -> None:
    async def user(request: web.Request) -> str | None:
        return "ann"

    client = await aiohttp_client(site(user=user))
    async with client.post("/login", params={"user": "bob"}) as response:
        assert response.status == 500
