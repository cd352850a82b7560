"""The demo site answers, and each panel's server side does what its panel shows."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp import FormData, web
from pytest_aiohttp import AiohttpClient

import pagews
from demo import ask, job, reconnect, transport
from demo.app import create_app
from demo.source import PANELS
from pagews.testing import Browser, PageError, PageStandIn
from pagews.tokens import new_key

HTML = {"Accept": "text/html"}


@pytest.fixture
async def browser(aiohttp_client: AiohttpClient) -> AsyncIterator[Browser]:
    async with Browser(await aiohttp_client(create_app(new_key()))) as browser:
        yield browser


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/tab", "/nostream", "/side-by-side", *(f"/source/{name}" for name in PANELS)])
async def test_page_answers_under_a_strict_policy(browser: Browser, path: str) -> None:
    response = await browser.client.get(path, headers=HTML)
    html = await response.text()

    assert response.status == 200
    policy = response.headers["Content-Security-Policy"]
    nonces = re.findall(r"'nonce-([^']+)'", policy)
    assert set(re.findall(r'<script[^>]* nonce="([^"]+)"', html)) == set(nonces)
    assert len(re.findall(r"<script", html)) == (3 if nonces else 0)
    assert "require-trusted-types-for 'script'; trusted-types pagews;" in policy
    assert "unsafe" not in policy
    assert not re.search(r"\sstyle=|<style|\son\w+=", html)


async def test_nonce_is_new_for_every_response(browser: Browser) -> None:
    policies = {(await browser.client.get("/", headers=HTML)).headers["Content-Security-Policy"] for _ in range(3)}

    assert len(policies) == 3


async def test_every_file_that_a_page_names_is_there(browser: Browser) -> None:
    html = await (await browser.client.get("/", headers=HTML)).text()
    names = set(re.findall(r'(?:src|href)="(/(?:static|pagews)/[^"]+)"', html))
    assert names >= {"/static/demo.js", "/static/demo.css", "/static/icon.svg", "/pagews/static/pagews.js"}

    for name in names:
        assert (await browser.client.get(name)).status == 200, name


async def test_every_module_that_a_script_imports_is_there(browser: Browser) -> None:
    script = await (await browser.client.get("/static/demo.js")).text()
    names = re.findall(r'from "\./([^"]+)"', script)
    assert names

    for name in names:
        assert (await browser.client.get(f"/static/{name}")).status == 200, name


async def test_source_of_anything_else_is_not_shown(browser: Browser) -> None:
    assert (await browser.client.get("/source/policy", headers=HTML)).status == 404


@pytest.mark.parametrize("path", ["/", "/tab", "/nostream"])
async def test_visitor_forces_a_transport(browser: Browser, path: str) -> None:
    for said, forced in (("poll", 'data-transport="poll"'), ("stream", 'data-transport="stream"'), ("x", None)):
        html = await (await browser.client.get(f"{path}?transport={said}", headers=HTML)).text()
        assert re.findall(r"data-transport=\S+?(?=[ >])", html) == ([forced] if forced else [])


@pytest.mark.parametrize("path", ["/", "/tab", "/nostream"])
async def test_transport_that_there_is_not_is_said(browser: Browser, path: str) -> None:
    for said, told in (("<pigeon>", True), ("poll", False)):
        html = await (await browser.client.get(path, params={"transport": said}, headers=HTML)).text()
        assert ("There is no transport “&lt;pigeon&gt;”" in html) == told


@pytest.mark.parametrize("path", ["/", "/tab", "/nostream", "/side-by-side", "/source/echo"])
async def test_links_keep_the_transport(browser: Browser, path: str) -> None:
    html = await (await browser.client.get(f"{path}?transport=poll", headers=HTML)).text()
    links = set(re.findall(r'(?:href|<iframe src)="(/(?!static/|pagews/)[^"]*)"', html))
    chosen = {"/#reconnect", *(f"/?transport={name}#reconnect" for name in transport.CHOICES)}
    assert links
    assert [link for link in links - chosen if "?transport=poll" not in link] == []


async def test_login_keeps_the_transport(browser: Browser) -> None:
    for path, form in (("/?transport=poll#targets", {}), ("/tab?transport=poll", {"from": "/tab"})):
        form |= {"user": "ann", "transport": "poll"}
        response = await browser.client.post("/login", data=form, allow_redirects=False)
        assert response.headers["Location"] == path


class _Buttons(HTMLParser):
    """Finds the buttons that do nothing without a script, and are shown without one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.count = 0
        self.dead: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        works = "data-scripted" in attributes or (tag == "form" and attributes.get("method") == "post")
        if tag == "button":
            self.count += 1
            if not any(works for _, works in self.open):
                self.dead.append(str(attributes))
        self.open.append((tag, works))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass  # what has no end tag, such as an input


@pytest.mark.parametrize("path", ["/", "/tab", "/nostream"])
async def test_without_a_script_no_button_is_dead(browser: Browser, path: str) -> None:
    html = await (await browser.client.get(path, headers=HTML)).text()
    found = _Buttons()
    found.feed(html)
    assert found.count > 1
    assert found.dead == []
    assert re.search(r"<noscript><p[^>]*>JavaScript is off", html)


async def test_quiet_page_gets_what_was_pushed_before_it_connects(browser: Browser) -> None:
    page = await browser.open("/nostream")
    assert not page.connected

    await page.connect()

    assert "while this page was rendered" in (await page.expect("note"))["text"]


# --- panels -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The panels at a pace for tests, not for eyes."""
    monkeypatch.setattr(reconnect, "RATE", 1000.0)
    monkeypatch.setattr(reconnect, "TOTAL", 200)
    monkeypatch.setattr(job, "PACE", 0.0)


@pytest.mark.usefixtures("quick")
async def test_stream_survives_cuts_from_both_sides(browser: Browser) -> None:
    page = await browser.open("/")
    assert await page.send("stream_start", {"run": 1}) == {"rate": 1000.0, "total": 200}
    await page.expect("number")

    await page.send("cut", {"seconds": 0.5}, qos=0)
    assert await page.closed() == 1012
    await page.connect()
    await page.cut()
    await page.connect()

    assert await page.expect("stream_end") == {"run": 1, "sent": 200}
    numbers = [message.data["number"] for message in page.received if message.delegate == "number"]
    assert numbers == list(range(1, 201))


async def test_stream_stops_when_told(browser: Browser) -> None:
    page = await browser.open("/")
    await page.send("stream_start", {"run": 1})

    assert await page.send("stream_stop") is True
    assert await page.send("stream_stop") is False


async def test_stream_ends_with_its_page(browser: Browser) -> None:
    watcher, page = await browser.open("/"), await browser.open("/")
    await enter(watcher, "Watcher")
    await enter(page, "Page")
    for there in (["Watcher"], ["Page", "Watcher"]):
        assert await watcher.expect("chat_people") == there
    await page.send("stream_start", {"run": 1})
    stream = app_of(browser)[reconnect.STREAMS].tasks[page.id]

    await pagews.get_publisher(app_of(browser)).page(page.id).close(4501, "for the test")

    assert await watcher.expect("chat_people") == ["Watcher"]
    await asyncio.wait([stream], timeout=5)
    assert stream.cancelled()
    assert page.id not in app_of(browser)[reconnect.STREAMS].tasks


@pytest.mark.parametrize("data", [None, {"seconds": -1}, {"seconds": 3600}, {"seconds": "soon"}])
async def test_cut_takes_no_other_delay(browser: Browser, data: Any) -> None:
    page = await browser.open("/")

    with pytest.raises(PageError) as raised:
        await page.send("cut", data)

    assert raised.value.code == "invalid-data"
    assert page.connected


@pytest.mark.usefixtures("quick")
async def test_job_says_how_far_it_is(browser: Browser) -> None:
    page = await browser.open("/")
    await page.send("job_start")

    end = await page.expect("job_end", timeout=30)

    steps = [message.data for message in page.received if message.delegate == "job_progress"]
    assert [step["done"] for step in steps] == list(range(1, end["packages"] + 1))
    assert steps[-1]["lines"] == end["lines"] > 10_000
    assert len([message for message in page.received if message.delegate == "job_log"]) == end["packages"]


async def test_job_can_be_cancelled(browser: Browser) -> None:
    page = await browser.open("/")
    await page.send("job_start")
    await page.expect("job_progress")

    assert await page.send("job_cancel") is True
    assert await page.send("job_cancel") is False


async def test_no_more_jobs_than_the_limit(browser: Browser) -> None:
    limit = app_of(browser)[job.JOBS].limit
    pages = [await browser.open("/") for _ in range(limit + 1)]
    for page in pages[:limit]:
        await page.send("job_start")

    with pytest.raises(PageError) as raised:
        await pages[limit].send("job_start")

    assert raised.value.code == "busy"


async def enter(page: PageStandIn, name: str) -> list[dict[str, str]]:
    """What the chat panel does when a visitor comes in; returns what was said before."""
    await page.send("chat_name", {"name": name})
    await page.join("chat")
    lines: list[dict[str, str]] = await page.send("chat_arrive")
    return lines


async def test_chat_carries_lines_and_who_is_there(browser: Browser) -> None:
    ann, bob = await browser.open("/"), await browser.open("/")
    await enter(ann, "Ann")
    assert await ann.expect("chat_people") == ["Ann"]
    await ann.send("chat_say", {"text": "Hello?"})
    assert await enter(bob, "Bob") == [{"name": "Ann", "text": "Hello?"}]
    assert await ann.expect("chat_people") == ["Ann", "Bob"]

    await bob.send("chat_say", {"text": "Here."})

    assert await ann.expect("chat_line") == {"name": "Ann", "text": "Hello?"}
    assert await ann.expect("chat_line") == {"name": "Bob", "text": "Here."}
    await bob.cut()
    assert await ann.expect("chat_people") == ["Ann"]
    await bob.connect()
    assert await ann.expect("chat_people") == ["Ann", "Bob"]
    await bob.send("chat_leave")
    assert await ann.expect("chat_people") == ["Ann"]


async def test_chat_is_for_those_with_a_name(browser: Browser) -> None:
    page = await browser.open("/")

    with pytest.raises(PageError) as refused:
        await page.join("chat")
    with pytest.raises(PageError) as unheard:
        await page.send("chat_say", {"text": "Hello?"})

    assert (refused.value.code, unheard.value.code) == ("not-authorized", "no-name")


async def test_chat_opens_no_other_topic(browser: Browser) -> None:
    page = await browser.open("/")
    await page.send("chat_name", {"name": "Ann"})

    with pytest.raises(PageError) as refused:
        await page.join("clock")

    assert refused.value.code == "not-authorized"


@pytest.mark.parametrize(("name", "code"), [("  ", "no-name"), ("ANN", "name-taken"), ("", "invalid-data")])
async def test_chat_refuses_a_name(browser: Browser, name: str, code: str) -> None:
    await enter(await browser.open("/"), "Ann")
    page = await browser.open("/")

    with pytest.raises(PageError) as refused:
        await page.send("chat_name", {"name": name})

    assert refused.value.code == code


async def test_clock_ticks(browser: Browser) -> None:
    page = await browser.open("/")

    first, second = await page.expect("clock"), await page.expect("clock")

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", first)
    assert first < second


@pytest.mark.parametrize(("answer", "deleted"), [(True, ["a", "b"]), (False, []), ("yes", [])])
async def test_trash_is_emptied_when_the_browser_agrees(browser: Browser, answer: object, deleted: list[str]) -> None:
    page = await browser.open("/")
    questions: list[dict[str, Any]] = []

    def confirm(question: dict[str, Any]) -> object:
        questions.append(question)
        return answer

    page.on("confirm", confirm)

    assert await page.send("trash_empty", ["a", "b"]) == {"deleted": deleted}
    assert [question["items"] for question in questions] == [["a", "b"]]


async def test_trash_stays_when_the_answer_is_late(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "ANSWER_WITHIN", 0.05)
    page = await browser.open("/")
    given_up = asyncio.Event()

    async def confirm(question: dict[str, Any]) -> bool:
        await given_up.wait()
        return True

    page.on("confirm", confirm)

    with pytest.raises(PageError) as raised:
        await page.send("trash_empty", ["a"])

    assert raised.value.code == "no-answer"
    given_up.set()


async def test_note_reaches_its_target_and_nobody_else(browser: Browser, aiohttp_client: AiohttpClient) -> None:
    await log_in(browser, "ann")
    here, beside = await browser.open("/"), await browser.open("/tab")
    elsewhere = Browser(await aiohttp_client(browser.client.server))
    await log_in(elsewhere, "ann")
    away = await elsewhere.open("/tab")
    stranger = await Browser(await aiohttp_client(browser.client.server)).open("/tab")

    for to in ("page", "session", "user"):
        await here.send("note_push", {"to": to, "text": to})
    for page in (here, beside, away, stranger):
        await pagews.get_publisher(app_of(browser)).page(page.id).push("end")

    notes = {}
    for name, page in {"here": here, "beside": beside, "away": away, "stranger": stranger}.items():
        await page.expect("end")
        notes[name] = [(message.to, message.data["text"]) for message in page.received if message.delegate == "note"]
    assert notes == {
        "here": [("page", "page"), ("session", "session"), ("user", "user")],
        "beside": [("session", "session"), ("user", "user")],
        "away": [("user", "user")],
        "stranger": [],
    }


async def test_note_to_the_user_needs_one(browser: Browser) -> None:
    page = await browser.open("/tab")

    with pytest.raises(PageError) as refused:
        await page.send("note_push", {"to": "user", "text": "Hello"})

    assert refused.value.code == "nobody"


@pytest.mark.parametrize("note", [{"to": "topic", "text": "x"}, {"to": "page", "text": ""}, {"to": "page"}])
async def test_note_of_another_kind_is_refused(browser: Browser, note: dict[str, str]) -> None:
    page = await browser.open("/tab")

    with pytest.raises(PageError) as refused:
        await page.send("note_push", note)

    assert refused.value.code == "invalid-data"


async def test_login_and_logout_end_the_pages_of_before(browser: Browser) -> None:
    before = await browser.open("/tab")
    assert "Become ann" in before.html

    await log_in(browser, "ann", came_from="/tab")

    assert await before.closed() == 4503
    during = await browser.open("/tab")
    assert "Log ann out" in during.html
    response = await browser.client.post("/logout", data={"from": "/tab"}, allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (303, "/tab")
    assert await during.closed() == 4503
    assert "Become ann" in (await browser.open("/tab")).html


@pytest.mark.parametrize("came_from", ["", "https://example.org/", "//example.org", "/nostream"])
async def test_login_leads_back_to_the_demo(browser: Browser, came_from: str) -> None:
    form = {"user": "bob", "from": came_from}

    response = await browser.client.post("/login", data=form, allow_redirects=False)

    assert response.headers["Location"] == "/#targets"


async def test_login_knows_two_users(browser: Browser) -> None:
    assert (await browser.client.post("/login", data={"user": "eve"})).status == 400


@pytest.mark.parametrize("path", ["/login", "/logout"])
async def test_form_from_another_site_is_refused(browser: Browser, path: str) -> None:
    response = await browser.client.post(path, data={"user": "ann"}, headers={"Sec-Fetch-Site": "cross-site"})

    assert response.status == 403


async def test_file_is_digested(browser: Browser) -> None:
    html = await (await browser.client.get("/", headers=HTML)).text()
    form = FormData(re.findall(r'name="(pagews\.\w+)" value="([^"]+)"', html), default_to_multipart=True)
    form.add_field("file", b"abc", filename="abc.txt")

    async with browser.client.post("/pagews/form", data=form, headers=HTML) as response:
        assert response.status == 200
        assert hashlib.sha256(b"abc").hexdigest() in await response.text()


async def test_echo_answers_and_tells(browser: Browser) -> None:
    async with browser.client.ws_connect("/socket/custom") as socket:
        for number, text in enumerate(("Is anybody there?", "Again"), start=1):
            await socket.send_str(text)
            assert await socket.receive_str(timeout=5) == f"You said: {text}"
            assert await socket.receive_str(timeout=5) == f"Messages of yours on this socket: {number}."


async def log_in(browser: Browser, user: str, came_from: str = "") -> None:
    form = {"user": user, "from": came_from}
    response = await browser.client.post("/login", data=form, allow_redirects=False)
    assert response.status == 303


def app_of(browser: Browser) -> web.Application:
    app: web.Application | None = browser.client.app
    assert app is not None
    return app
