"""What the tutorial and the how-to pages show runs as it stands."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from aiohttp import FormData, web
from pytest_aiohttp import AiohttpClient

import pagews
from pagews.testing import Browser, PageError, PageStandIn
from tests.markdown import ROOT, Example, blocks

JAVASCRIPT = ROOT / "docs" / "reference" / "javascript.md"
PATIENCE = 10.0

Open = Callable[[web.Application], Awaitable[Browser]]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    return Example(tmp_path, monkeypatch)


@pytest.fixture
async def open_browser(aiohttp_client: AiohttpClient) -> AsyncIterator[Open]:
    browsers: list[Browser] = []

    async def open_browser(app: web.Application) -> Browser:
        browsers.append(Browser(await aiohttp_client(app)))
        return browsers[-1]

    yield open_browser
    for browser in browsers:
        async with browser:
            pass


# --- tutorial ---------------------------------------------------------------------------------------------------------


def make_key() -> str:
    command = [sys.executable, "-m", "pagews", "key"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEWS_SECRET_KEY", make_key())


@pytest.mark.usefixtures("key")
async def test_tutorial_first_page(example: Example, open_browser: Open) -> None:
    app = example.write("docs/tutorial.md", files=2).load("app").app
    page = await (await open_browser(app)).open("/")

    assert await page.expect("line") == "Hello from the server."


@pytest.mark.usefixtures("key")
async def test_tutorial_job(example: Example, open_browser: Open) -> None:
    module = example.write("docs/tutorial.md").load("app")
    page = await (await open_browser(module.app)).open("/")
    module.job.PAUSE = 0

    assert await page.expect("line") == "Ready."
    started = await page.send("start", {"package": "asyncio"})
    await page.cut()
    await page.connect()
    progress = await progress_until_the_end(page)

    assert progress == [{"done": done, "of": started["files"]} for done in range(1, started["files"] + 1)]
    files = sorted(Path(asyncio.__file__).parent.glob("*.py"))
    lines = [message.data for message in page.received if message.delegate == "line"]
    assert lines[1:-1] == [f"{file.name}: {len(file.read_bytes().splitlines())}" for file in files]
    assert page.lost == []


async def progress_until_the_end(page: PageStandIn) -> list[object]:
    while True:
        line = await page.expect("line", PATIENCE)
        if line.endswith("in all."):
            return [message.data for message in page.received if message.delegate == "progress"]


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("data", "code"),
    [({"package": "antigravity"}, "no-such-package"), ({"package": 5}, "invalid-data"), (None, "invalid-data")],
)
async def test_tutorial_job_says_what_is_wrong(example: Example, open_browser: Open, data: object, code: str) -> None:
    page = await (await open_browser(example.write("docs/tutorial.md").load("app").app)).open("/")

    with pytest.raises(PageError) as error:
        await page.send("start", data)
    assert error.value.code == code


@pytest.mark.usefixtures("key")
async def test_tutorial_job_ends_with_the_application(example: Example, open_browser: Open) -> None:
    module = example.write("docs/tutorial.md").load("app")
    browser = await open_browser(module.app)
    page = await browser.open("/")
    module.job.PAUSE = 3600
    await page.send("start", {"package": "json"})
    [task] = [task for task in asyncio.all_tasks() if task.get_name() == "count"]

    await browser.client.server.close()

    assert task.cancelled()


@pytest.mark.usefixtures("key")
async def test_tutorial_page_is_told_of_a_restart(example: Example, open_browser: Open) -> None:
    example.write("docs/tutorial.md")
    first = await open_browser(example.load("app").app)
    page = await first.open("/")
    await page.expect("line")
    cookies = first.client.session.cookie_jar.filter_cookies(first.client.make_url("/"))
    await first.client.server.close()

    second = await open_browser(example.load("app").app)
    second.client.session.cookie_jar.update_cookies(cookies, second.client.make_url("/"))
    first.client = second.client
    await page.connect()

    assert page.lost == ["epoch"]


# --- how-to -----------------------------------------------------------------------------------------------------------


async def test_push_from_a_task(example: Example, open_browser: Open) -> None:
    browser = await open_browser(example.write("docs/how-to/push-from-a-task.md").load("app").app)
    page = await browser.open("/")
    response = await browser.client.post(f"/pages/{page.id}/note", data="hello")

    assert response.status == 204
    assert await page.expect("note") == "hello"
    assert re.fullmatch(r"\d\d:\d\d:\d\d", await page.expect("time"))


async def test_login_and_logout(example: Example, open_browser: Open) -> None:
    browser = await open_browser(example.write("docs/how-to/login-and-logout.md").load("app").app)
    before = await browser.open("/")
    assert "<button>Log in</button>" in before.html

    await browser.client.post("/login", data={"name": "ada"})
    assert await before.closed() == 4503
    during = await browser.open("/")
    assert "You are ada." in during.html
    await pagews.get_publisher(app_of(browser)).user("ada").push("greeting", "hello")
    assert await during.expect("greeting") == "hello"

    await browser.client.post("/logout")
    assert await during.closed() == 4503
    assert "<button>Log in</button>" in (await browser.open("/")).html


async def test_user_is_logged_out_everywhere(example: Example, open_browser: Open) -> None:
    browser = await open_browser(example.write("docs/how-to/login-and-logout.md").load("app").app)
    await browser.client.post("/login", data={"name": "ada"})
    page = await browser.open("/")

    await pagews.get_publisher(app_of(browser)).user("ada").revoke()

    assert await page.closed() == 4503
    assert "<button>Log in</button>" in (await browser.open("/")).html


async def test_topics(example: Example, open_browser: Open) -> None:
    browser = await open_browser(example.write("docs/how-to/topics.md").load("app").app)
    here = await browser.open("/")
    assert await here.expect("people") == 1
    there = await browser.open("/")
    assert await here.expect("people") == 2

    await there.send("say", {"text": "hi"})
    assert await here.expect("said") == "hi"

    await here.join("news")
    await pagews.get_publisher(app_of(browser)).topic("news").push("headline", "It works")
    assert await here.expect("headline") == "It works"
    with pytest.raises(PageError) as error:
        await here.join("room/secret")
    assert error.value.code == "not-authorized"

    await there.close()
    assert await here.expect("people") == 1


@pytest.mark.parametrize("path", ["/socket/custom", "/socket/members?password=open sesame"])
async def test_own_handler(example: Example, open_browser: Open, path: str) -> None:
    browser = await open_browser(example.write("docs/how-to/own-handler.md").load("app").app)
    async with browser.client.ws_connect(path) as socket:
        assert (await socket.receive(PATIENCE)).data == "Hello from info: opened"
        await socket.send_str("hi")
        assert (await socket.receive(PATIENCE)).data == "You said: hi"


async def test_own_handler_from_a_view_looks_at_the_request(example: Example, open_browser: Open) -> None:
    browser = await open_browser(example.write("docs/how-to/own-handler.md").load("app").app)

    assert (await browser.client.get("/socket/members")).status == 403
    assert (await browser.client.get("/socket/custom")).status == 426


async def test_handler_derived_from_the_default(
    example: Example, open_browser: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    audited = example.write("docs/how-to/own-handler.md").load("audit").Audited
    app = app_with(handler=audited)
    page = await (await open_browser(app)).open("/")
    await pagews.get_publisher(app).page(page.id).push("growl", {"text": "hi"})

    assert await page.expect("growl") == {"text": "hi"}
    assert capsys.readouterr().out == f"page {page.id} gets growl {{'text': 'hi'}}\n"
    await page.send("bytes", b"abc", qos=0)
    assert await page.closed() == 4400


async def test_content_security_policy(example: Example, open_browser: Open) -> None:
    browser = await open_browser(example.write("docs/how-to/content-security-policy.md").load("app").app)
    page = await browser.open("/")
    response = await browser.client.get("/")

    assert await page.expect("hello") == "It runs."
    [nonce] = re.findall(r"'nonce-([^']+)'", response.headers["Content-Security-Policy"])
    assert f'nonce="{nonce}"' in await response.text()


def test_tests_of_an_application(example: Example) -> None:
    example.write("docs/how-to/testing.md")
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=example.folder,
        env={**os.environ, "PYTHONPATH": f"{example.folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert re.search(r"^5 passed in", answer.stdout, re.MULTILINE), answer.stdout  # and no warning


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_behind_a_proxy(example: Example, open_browser: Open, scheme: str) -> None:
    browser = await open_browser(example.write("docs/how-to/behind-a-proxy.md").load("app").app)
    response = await browser.client.get("/", headers={"X-Forwarded-Proto": scheme})
    assert ("; Secure" in response.headers["Set-Cookie"]) == (scheme == "https")

    browser.client.session.cookie_jar.clear()
    assert (await browser.open("/")).connected


async def test_public_prefix(open_browser: Open) -> None:
    browser = await open_browser(app_with(public_prefix="/shop/pagews"))
    html = await (await browser.client.get("/")).text()

    assert 'src="/shop/pagews/static/pagews.js"' in html
    assert 'data-pagews="/shop/pagews"' in html


async def test_keys_are_rotated(open_browser: Open) -> None:
    old, new = make_key(), make_key()
    first = await open_browser(app_with(secret_key=old))
    await first.open("/")
    [cookie] = first.client.session.cookie_jar
    assert await session_with(open_browser, cookie.value, [new, old]) == await session_with(
        open_browser, cookie.value, old
    )
    assert await session_with(open_browser, cookie.value, new) is None


async def session_with(open_browser: Open, cookie: str, secret_key: str | list[str] | None) -> str | None:
    """The browser session that a cookie stands for, None when it is a fresh one."""
    browser = await open_browser(app_with(secret_key=secret_key))
    response = await browser.client.get("/session", headers={"Cookie": f"PAGEWS={cookie}"})
    return None if "Set-Cookie" in response.headers else await response.text()


async def test_exactly_once(example: Example, open_browser: Open) -> None:
    module = example.write("docs/how-to/exactly-once.md").load("app")
    browser = await open_browser(module.app)
    page = await browser.open("/")
    order = {"key": "8a1f", "dish": "pizza"}

    first, again = await page.send("order", order), await page.send("order", order)
    other = await page.send("order", {"key": "77c0", "dish": "pasta"})

    assert first == again != other
    with closing(sqlite3.connect(module.DATABASE)) as database:
        assert database.execute("SELECT dish FROM orders ORDER BY number").fetchall() == [("pizza",), ("pasta",)]
    assert pagews.get_publisher(module.app).statistics().entries == 2


async def test_troubleshooting_tabs_opened_at_once(open_browser: Open) -> None:
    app = app_with()
    browser = await open_browser(app)
    first = PageStandIn(browser, await (await browser.client.get("/")).text())
    browser.client.session.cookie_jar.clear()
    second = PageStandIn(browser, await (await browser.client.get("/")).text())

    with pytest.raises(pagews.ProtocolError) as error:
        await first.connect()
    renewal = await browser.client.post("/pagews/renew", json={"token": first.include["data-page"]})
    await second.connect()
    reloaded = await browser.open("/")

    assert error.value.code == 4500
    assert (renewal.status, (await renewal.json())["code"]) == (403, 4503)
    assert second.connected
    assert reloaded.connected
    await second.close()


async def test_troubleshooting_fixed_key_keeps_the_session(open_browser: Open) -> None:
    key = make_key()
    first = await open_browser(app_with(secret_key=key))
    session = await (await first.client.get("/session")).text()
    [cookie] = first.client.session.cookie_jar

    assert await session_with(open_browser, cookie.value, key) == session
    assert await session_with(open_browser, cookie.value, None) is None


async def test_login_is_no_business_of_a_socket(open_browser: Open) -> None:
    app = app_with()

    async def members(request: web.Request) -> web.StreamResponse:
        await pagews.login(request, "ada")
        return await pagews.websocket_start(request, handler=pagews.WebSocketHandler)

    app.router.add_get("/members", members)
    browser = await open_browser(app)
    before = await (await browser.client.get("/session")).text()
    async with browser.client.ws_connect("/members"):
        pass

    assert await (await browser.client.get("/user")).text() == "nobody"
    assert await (await browser.client.get("/session")).text() != before


async def test_login_with_users_of_the_application_is_refused(open_browser: Open) -> None:
    async def user(request: web.Request) -> str | None:
        return "ada"

    app = app_with(user=user)
    caught: list[Exception] = []

    async def login(request: web.Request) -> web.Response:
        with pytest.raises(pagews.ConfigurationError) as error:
            await pagews.login(request, "ada")
        caught.append(error.value)
        return web.Response()

    app.router.add_get("/login", login)
    await (await open_browser(app)).client.get("/login")

    assert "rotate_session" in str(caught)


def app_with(**settings: object) -> web.Application:
    """An application with one page, and views that say which browser session and user it is."""

    async def index(request: web.Request) -> web.Response:
        tag = pagews.script_tag(await pagews.open_page(request))
        return web.Response(text=tag, content_type="text/html")

    async def session(request: web.Request) -> web.Response:
        return web.Response(text=(await pagews.open_page(request)).session.id)

    async def user(request: web.Request) -> web.Response:
        user = (await pagews.open_page(request)).user
        return web.Response(text=user.id if user else "nobody")

    app = web.Application()
    pagews.setup(app, **{"debug": True, **settings})  # type: ignore[arg-type]  # settings of any kind
    app.router.add_get("/", index)
    app.router.add_get("/session", session)
    app.router.add_get("/user", user)
    return app


def app_of(browser: Browser) -> web.Application:
    app = browser.client.app
    assert isinstance(app, web.Application)
    return app


async def test_forms(example: Example, open_browser: Open) -> None:
    browser = await open_browser(example.write("docs/how-to/forms.md").load("app").app)
    page = await browser.open("/")
    hidden = dict(re.findall(r'name="(pagews\.\w+)" value="([^"]+)"', page.html))
    posted = hidden | {"item": "tea", "count": "2", "extras": "card"}
    async with browser.client.post("/pagews/form", data=posted, headers={"Accept": "text/html"}) as response:
        assert 'role="status">2 times tea<' in await response.text()
    order = {"item": "tea", "count": 3, "express": True, "extras": ["card"]}
    assert await page.send("order", order) == "3 times tea, express"
    with pytest.raises(PageError) as error:
        await page.send("order", order | {"count": 101})
    assert error.value.code == "too-many"
    with pytest.raises(PageError) as error:
        await page.send("order", order | {"count": "3"})
    assert error.value.code == "invalid-data"


async def test_forms_files(example: Example, open_browser: Open) -> None:
    module = example.write("docs/how-to/forms.md").load("photos")
    album = example.folder / "album"
    album.mkdir()
    browser = await open_browser(app_with(delegates=module.delegates))
    page = await browser.open("/")
    picture = ("beach.png", b"1234", "image/png")
    for (name, contents, kind), outcome in (
        (picture, {"ok": True, "value": "Beach: 4 bytes"}),
        (("", b"", "application/octet-stream"), failed("no-image", "Choose a picture first.")),
        (("beach.txt", b"1234", "text/plain"), failed("no-png", "Only PNG, please.")),
    ):
        form = FormData(default_to_multipart=True)
        form.add_field("pagews.token", page.include["data-page"])
        form.add_field("pagews.delegate", "photo")
        form.add_field("title", "Beach")
        form.add_field("image", contents, filename=name, content_type=kind)
        async with browser.client.post("/pagews/form", data=form, headers={"Accept": "application/json"}) as response:
            assert await response.json() == outcome
    assert await page.expect("status") == "Saving"
    assert [path.read_bytes() for path in album.iterdir()] == [b"1234"]


def failed(code: str, message: str) -> dict[str, object]:
    return {"ok": False, "code": code, "message": message}


def test_forms_validation_with_a_text_of_ones_own(example: Example) -> None:
    booking = example.write("docs/how-to/forms.md").load("booking").Booking

    assert msgspec.convert({"arrival": "2030-05-01", "nights": "3"}, booking, strict=False).nights == 3
    for nights in (None, 0, 15):
        with pytest.raises(msgspec.ValidationError) as error:
            msgspec.convert({"arrival": "2030-05-01", "nights": nights}, booking, strict=False)
        assert str(error.value) == "Stay for a night at least, and for 14 at most."


@pytest.mark.parametrize("carrier", ["stream", "websocket"])
async def test_page_in_node(example: Example, open_browser: Open, node: Path, carrier: str) -> None:
    browser = await open_browser(example.write("README.md").load("app").app)
    example.write("docs/reference/javascript.md")
    (example.folder / "pagews").symlink_to(ROOT)
    script = example.folder / "listen.mjs"
    flags: list[str] = []
    if carrier == "websocket":
        [class_of_it] = [block.code for block in blocks(JAVASCRIPT) if block.code.startswith("class WebSocketWith")]
        text = script.read_text().replace('transport: "stream"', "WebSocket: WebSocketWithCookies")
        script.write_text(text.replace("\nconst page", f"\n{class_of_it}\nconst page"))
        flags = ["--experimental-websocket"]
    running = await asyncio.create_subprocess_exec(
        node, *flags, script, str(browser.client.make_url("/pagews")), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            output, errors = await running.communicate()
    except TimeoutError:
        running.kill()
        await running.wait()
        raise
    assert (output.decode(), running.returncode) == ("HELLO\n", 0), errors.decode()
    assert pagews.get_publisher(app_of(browser)).statistics().refused == {}


async def test_keep_with_a_page(example: Example, open_browser: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example.write("docs/how-to/keep-with-a-page.md").load("app")
    monkeypatch.setattr(module, "SECONDS", 0)
    browser = await open_browser(module.app)
    page, other = await browser.open("/"), await browser.open("/")
    await page.send("guess", {"city": "Quito"})
    await page.send("guess", {"city": "Lima"})
    assert await page.expect("score") == {"tries": 1, "right": False}
    assert await page.expect("score") == {"tries": 2, "right": True}
    for _ in range(2):
        await page.send("start", {})
    assert await page.expect("time") == 0
    await pagews.get_publisher(module.app).page(page.id).push("end")
    await page.expect("end")
    assert len([message for message in page.received if message.delegate == "time"]) == 1
    await other.send("guess", {"city": "Lima"})
    assert await other.expect("score") == {"tries": 1, "right": True}
