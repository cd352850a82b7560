"""Forms that the browser posts itself: without JavaScript, or with files."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import aiohttp_jinja2
import pytest
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient
from msgspec import Struct
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews import form_body, form_parts
from pagews.errors import ConfigurationError
from pagews.site import get_site
from pagews.templating import pagews_form
from pagews.testing import Browser
from pagews.upload import IN_MEMORY

from .apps import TEMPLATES, application
from .faults import HOST, FaultProxy
from .sites import TestSite, serving
from .wire_client import Document, Push, Transport, Visitor

Client = TestClient[web.Request, web.Application]

HTML: Final = {"Accept": "text/html"}
JSON: Final = {"Accept": "application/json"}

TEMPLATES |= {
    "form.html": "{{ pagews_form('sign_up', class_='big', id='f\"', data_x=None) }}<input name=name></form>",
    "two.html": "{{ pagews_form('sign_up') }}</form>{{ pagews_form('sign_up', id='second one') }}</form>",
    "upload.html": "{{ pagews_script() }}{{ pagews_form('keep', upload=True) }}<input type=file name=file></form>",
}


class SignUp(Struct):
    name: str
    age: int | None
    news: bool
    topics: list[str]


class Album(Struct):
    title: str
    photos: list[pagews.Upload]
    cover: pagews.Upload | None = None


class Desk:
    """What the delegates of the test have been given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.contents: list[bytes] = []
        self.pages: list[pagews.Page] = []
        self.uploads: list[pagews.Upload] = []
        self.delegates = table = pagews.DelegateTableDef()
        self.folder = Path()

        @table.on("sign_up")
        async def sign_up(page: pagews.Page, data: SignUp) -> str:
            self.pages.append(page)
            self.given.append(data)
            if data.name == "root":
                raise pagews.DelegateError("taken", "This name is <taken>.")
            if data.name == "crash":
                raise RuntimeError("a secret")
            return f"Welcome, {data.name}!"

        @table.on("keep")
        async def keep(page: pagews.Page, data: Any) -> Any:
            self.given.append(data)
            for value in data.values():
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, pagews.Upload):
                        self.uploads.append(one)
                        self.contents.append(await one.read())
                        await one.save(self.folder / "saved")
            return {"kept": len(self.uploads)}

        @table.on("album")
        async def album(page: pagews.Page, data: Album) -> list[Any]:
            self.uploads += data.photos
            return [data.title, [photo.size for photo in data.photos], data.cover is None]

        @table.on("nonsense")
        async def nonsense(page: pagews.Page, data: Any) -> Any:
            return object() if data["kind"] == "object" else b"bytes"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk()
    desk.folder = tmp_path
    return desk


def site_of(client: Client) -> pagews.site.Site:
    assert client.app is not None
    return get_site(client.app)


def view(template: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return aiohttp_jinja2.render_template(template, request, {})

    return answer


def forms(desk: Desk, **options: Any) -> web.Application:
    app = application(delegates=desk.delegates, **options)
    app.router.add_get("/sign up", view("form.html"))
    app.router.add_get("/upload", view("upload.html"))
    app.router.add_get("/two", view("two.html"))

    async def login(request: web.Request) -> web.Response:
        await pagews.login(request, request.query["user"])
        return web.Response()

    app.router.add_get("/login", login)
    return app


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, desk: Desk) -> Client:
    return await aiohttp_client(forms(desk))


async def hidden(client: Client | aiohttp.ClientSession, path: str = "/sign up?a=1&b=%2F") -> dict[str, str]:
    """The hidden fields of a form, as a browser has them."""
    async with client.get(path, headers=HTML) as response:
        text = await response.text()
    return {
        name: html.unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', text)
    }


async def outcome(client: Client, path: str = "/sign up") -> tuple[str, str]:
    """The role and the text of the outcome that a form shows."""
    async with client.get(path, headers=HTML) as response:
        found = re.search(r'<output data-pagews-outcome role="(\w+)">([^<]*)</output>', await response.text())
    assert found is not None
    return found[1], html.unescape(found[2])


FILLED: Final = {"name": "Ann", "age": "", "topics": "tea"}


# --- without JavaScript -----------------------------------------------------------------------------------------------


async def test_the_tag(client: Client) -> None:
    async with client.get("/sign up?a=1&b=%2F", headers=HTML) as response:
        assert response.headers["Cache-Control"] == "private, no-cache"
        [tag] = re.findall(r"<form[^>]*>", await response.text())
    assert tag == ('<form method="post" action="/pagews/form" data-pagews-send="sign_up" id="f&#34;" class="big">')
    async with client.get("/upload", headers=HTML) as response:
        assert '"keep" enctype="multipart/form-data" id="pagews-keep">' in await response.text()
    assert (await hidden(client))["pagews.back"] == "/sign%20up?a=1&b=/#f%22"


@pytest.mark.parametrize("multipart", [False, True])
async def test_post_redirect_and_the_message_once(client: Client, desk: Desk, multipart: bool) -> None:
    fields = FormData(await hidden(client) | FILLED | {"news": "on"}, default_to_multipart=multipart)
    async with client.post("/pagews/form", data=fields, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/sign%20up?a=1&b=/#f%22")
        assert response.headers["Cache-Control"] == "no-store"

    assert desk.given == [SignUp("Ann", None, True, ["tea"])]
    assert await outcome(client, "/upload") == ("status", "")  # another form's is not this one's
    assert await outcome(client) == ("status", "Welcome, Ann!")
    assert await outcome(client) == ("status", "")


async def test_the_page_of_the_form_is_the_delegates(client: Client, desk: Desk) -> None:
    fields = await hidden(client)
    async with client.post("/pagews/form", data=fields | FILLED, headers=HTML) as response:
        assert response.status == 200
        assert "Welcome, Ann!" in await response.text()
    [page] = desk.pages
    token = site_of(client).tokens.read(fields["pagews.token"])
    assert token is not None
    assert (page.id, page.session.id, page.user) == (token.page, token.session, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "root"}, "This name is <taken>."),
        ({"name": "crash"}, "the server's delegate failed"),
        ({"age": "old"}, "Expected `int | null`, got `str` - at `$.age`"),
        ({"pagews.delegate": "x"}, "the server has no delegate 'x'"),
    ],
)
async def test_errors_are_shown(client: Client, change: dict[str, str], message: str) -> None:
    async with client.post("/pagews/form", data=await hidden(client) | FILLED | change, headers=HTML) as response:
        assert response.status == 200
        assert "a secret" not in await response.text()
    if "pagews.delegate" not in change:
        await client.post("/pagews/form", data=await hidden(client) | FILLED | change, allow_redirects=False)
        assert await outcome(client) == ("alert", message)


@pytest.mark.parametrize(("letter", "longest"), [("a", 500), ("я", 300), ("🍋", 150)])
async def test_a_long_message_leaves_room_in_the_cookie(client: Client, letter: str, longest: int) -> None:
    """A browser drops a cookie of more than 4 KiB, and what became of the form with it."""
    whole, more = letter * (longest - len("Welcome, !")), letter * 600
    for change, shown in (
        ({"name": whole}, ("status", f"Welcome, {whole}!")),
        ({"name": more}, ("status", "sent")),
        ({"pagews.delegate": more}, ("alert", f"the server has no delegate '{more}'")),
    ):
        fields = await hidden(client) | FILLED | change
        async with client.post("/pagews/form", data=fields, allow_redirects=False) as response:
            assert len(response.headers["Set-Cookie"]) < 3500
        role, text = await outcome(client)
        assert role == shown[0]
        assert shown[1].startswith(text)
        assert len(text) >= min(longest, len(shown[1]))


async def test_of_two_forms_of_a_delegate_the_one_that_was_sent_tells(client: Client) -> None:
    for form_id in ("pagews-sign_up", "second%20one"):
        back = f"/two#{form_id}"
        fields = await hidden(client) | FILLED | {"pagews.back": back}
        async with client.post("/pagews/form", data=fields, allow_redirects=False) as response:
            assert response.headers["Location"] == back
        async with client.get("/two", headers=HTML) as response:
            told = re.findall(r'<form[^>]* id="([^"]+)"|<output[^>]*>([^<]*)<', await response.text())
        assert [form or text for form, text in told] == [
            "pagews-sign_up",
            "Welcome, Ann!" if form_id == "pagews-sign_up" else "",
            "second one",
            "" if form_id == "pagews-sign_up" else "Welcome, Ann!",
        ]


async def test_what_is_no_short_message_is_sent(client: Client) -> None:
    fields = await hidden(client, "/upload") | {"pagews.delegate": "keep", "x": "1"}
    await client.post("/pagews/form", data=fields, allow_redirects=False)
    assert await outcome(client, "/upload") == ("status", "sent")


async def test_line_ends_are_those_of_scripts(client: Client, desk: Desk) -> None:
    fields = await hidden(client) | {"pagews.delegate": "keep", "text": "one\r\ntwo\r\n"}
    for multipart in (False, True):
        await client.post("/pagews/form", data=FormData(fields, default_to_multipart=multipart), headers=JSON)
    assert desk.given == [{"text": "one\ntwo\n"}] * 2


async def test_behind_a_proxy_that_strips_a_path(aiohttp_client: AiohttpClient, desk: Desk) -> None:
    client = await aiohttp_client(forms(desk, public_prefix="/app/pagews"))
    assert (await hidden(client, "/upload?x=1"))["pagews.back"] == "/app/upload?x=1#pagews-keep"


async def test_in_a_sub_app(aiohttp_client: AiohttpClient, desk: Desk) -> None:
    app = web.Application()
    app.add_subapp("/shop", forms(desk))
    client = await aiohttp_client(app)
    fields = await hidden(client, "/shop/upload")
    assert fields["pagews.back"] == "/shop/upload#pagews-keep"
    async with client.post("/shop/pagews/form", data=fields, allow_redirects=False) as response:
        assert response.headers["Location"] == "/shop/upload#pagews-keep"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "back",
    ["", "//evil.example", "/\\evil.example", "https://evil.example/", "evil", "/\t/evil.example", "/a\r\nX: 1", "/ a"],
)
async def test_leads_back_to_its_own_site_alone(client: Client, desk: Desk, back: str) -> None:
    fields = await hidden(client) | FILLED | {"pagews.back": back}
    async with client.post("/pagews/form", data=fields, allow_redirects=False) as response:
        assert response.status == 400
    assert desk.given == []
    assert site_of(client).counters.refused["malformed form"] == 1


async def test_of_another_site(client: Client, desk: Desk) -> None:
    fields = await hidden(client) | FILLED
    for origin, comes_from in (("https://evil.example", "same-origin"), ("null", ""), ("null", "cross-site")):
        headers = {"Origin": origin, "Sec-Fetch-Site": comes_from}
        async with client.post("/pagews/form", data=fields, headers=headers) as response:
            assert response.status == 403
    assert desk.given == []
    assert site_of(client).counters.refused["origin"] == 3


async def test_where_the_referrer_policy_hides_the_origin(client: Client, desk: Desk) -> None:
    fields, headers = await hidden(client) | FILLED, {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
    async with client.post("/pagews/form", data=fields, headers=headers, allow_redirects=False) as response:
        assert response.status == 303
    async with client.post("/pagews/form", data=fields | {"pagews.token": ""}, headers=headers) as response:
        assert response.status == 403
    assert len(desk.given) == 1
    for path in ("post", "renew", "poll", "stream"):
        async with client.post(f"/pagews/{path}", json={}, headers=headers) as response:
            assert response.status == 403


async def test_with_the_token_of_another_session(client: Client, aiohttp_client: AiohttpClient, desk: Desk) -> None:
    mallory: Any = await aiohttp_client(client.server)
    theirs, ours = await hidden(mallory), await hidden(client)
    for token in (theirs["pagews.token"], "", "nonsense"):
        fields = ours | FILLED | {"pagews.token": token}
        async with client.post("/pagews/form", data=fields, allow_redirects=False) as response:
            assert response.status == 403
            text = await response.text()
            assert '<a href="/sign%20up?a=1&amp;b=/#f%22">Open its page again</a>' in text
        async with client.post("/pagews/form", data=fields, headers=JSON) as response:
            assert response.status == 403
            assert (await response.json())["code"] == "refused"
    assert desk.given == []
    assert site_of(client).counters.refused["token"] == 6


async def test_of_before_the_login(client: Client, desk: Desk) -> None:
    fields = await hidden(client) | FILLED
    await client.get("/login?user=ann")
    async with client.post("/pagews/form", data=fields) as response:
        assert response.status == 403
    async with client.post("/pagews/form", data=await hidden(client) | FILLED, headers=HTML) as response:
        assert response.status == 200
    [page] = desk.pages
    assert page.user is not None
    assert page.user.id == "ann"


async def test_of_another_user_in_the_same_session(aiohttp_client: AiohttpClient, desk: Desk) -> None:
    async def user(request: web.Request) -> str | None:
        return request.cookies.get("user")

    client = await aiohttp_client(forms(desk, user=user))
    fields = await hidden(client) | FILLED
    async with client.post("/pagews/form", data=fields, cookies={"user": "eve"}) as response:
        assert response.status == 403
    assert desk.given == []
    assert site_of(client).counters.refused["identity"] == 1


async def test_media_types_and_drain(client: Client) -> None:
    async with client.post("/pagews/form", json={}) as response:
        assert response.status == 415
    async with client.post("/pagews/form", data=b"x=1", compress="deflate") as response:
        assert response.status == 415
    site_of(client).node.draining = True
    async with client.post("/pagews/form", data={"x": "1"}) as response:
        assert response.status == 503
        assert response.headers["Retry-After"].isdecimal()
    site_of(client).node.draining = False


BOUNDARY: Final = {"Content-Type": "multipart/form-data; boundary=b"}


def part(name: str) -> bytes:
    """An empty field of a form with that boundary."""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n\r\n'.encode()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, b"x=%ff", id="no UTF-8"),
        pytest.param({"Content-Type": "multipart/form-data"}, b"", id="no boundary"),
        pytest.param(BOUNDARY, b"", id="nothing"),
        pytest.param(BOUNDARY, b"--c\r\n\r\n", id="another boundary"),
        pytest.param(BOUNDARY, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", id="no name"),
        pytest.param(BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx', id="no end"),
        pytest.param(
            BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\xff\r\n--b--\r\n', id="part: no UTF-8"
        ),
        pytest.param(
            BOUNDARY, b"--b\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i--\r\n--b--\r\n", id="nested"
        ),
        pytest.param(BOUNDARY, b"--b\r\n" + b"a: b\r\n" * 1000 + b"\r\n", id="headers"),
        pytest.param(BOUNDARY, b"--b\r\na: " + b"b" * 100_000 + b"\r\n\r\n", id="long header"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, b"pagews.x=1", id="unknown"),
        pytest.param(BOUNDARY, part("pagews.x") + b"--b--\r\n", id="part: unknown"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, b"pagews.id=1&pagews.id=1", id="twice"),
        pytest.param(BOUNDARY, part("pagews.id") * 2 + b"--b--\r\n", id="part: twice"),
    ],
)
async def test_no_form(client: Client, headers: dict[str, str], body: bytes) -> None:
    async with client.post("/pagews/form", data=body, headers=headers | JSON) as response:
        assert response.status == 400
    assert site_of(client).counters.refused["malformed form"] == 1


# --- files ------------------------------------------------------------------------------------------------------------


async def with_files(
    client: Client | aiohttp.ClientSession, fields: dict[str, str], *files: tuple[str, str, bytes]
) -> FormData:
    form = FormData(await hidden(client, "/upload") | fields, quote_fields=False, default_to_multipart=True)
    for name, filename, content in files:
        form.add_field(name, content, filename=filename, content_type="text/x-test")
    return form


@pytest.mark.parametrize("size", [1, IN_MEMORY + 1, form_body.CHUNK, 3 * form_body.CHUNK + 7])
async def test_file(client: Client, desk: Desk, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    form = await with_files(client, {"title": "t"}, ("file", "../a b.txt", content))
    async with client.post("/pagews/form", data=form, headers=JSON) as response:
        assert response.status == 200
        assert await response.json() == {"ok": True, "value": {"kept": 1}}
    [upload] = desk.uploads
    assert (upload.filename, upload.content_type, upload.size) == ("../a b.txt", "text/x-test", size)
    assert desk.contents == [content]
    assert (desk.folder / "saved").read_bytes() == content
    assert desk.given[0]["title"] == "t"
    assert upload.file.closed
    with pytest.raises(ValueError, match="closed"):
        await upload.read()


async def test_files_for_a_typed_delegate(client: Client, desk: Desk) -> None:
    async def post(*files: tuple[str, str, bytes]) -> Any:
        fields = {"pagews.delegate": "album", "title": "t"}
        form = await with_files(client, fields, *files)
        async with client.post("/pagews/form", data=form, headers=JSON) as response:
            return await response.json()

    assert await post(("photos", "a", b"12"), ("photos", "b", b"")) == {"ok": True, "value": ["t", [2, 0], True]}
    assert await post(("photos", "", b""), ("cover", "", b"")) == {"ok": True, "value": ["t", [], True]}
    assert await post(("photos", "a", b"1"), ("cover", "c", b"2")) == {"ok": True, "value": ["t", [1], False]}
    assert (await post(("title", "t", b"1"), ("photos", "a", b"")))["code"] == "invalid-data"
    assert all(upload.file.closed for upload in desk.uploads)


async def test_files_without_javascript(client: Client, desk: Desk) -> None:
    form = await with_files(client, {}, ("file", "a", b"1"))
    async with client.post("/pagews/form", data=form, headers=HTML) as response:
        assert response.status == 200
        assert 'role="status">sent<' in await response.text()
    assert desk.contents == [b"1"]


@pytest.mark.parametrize("kind", ["object", "bytes"])
async def test_what_cannot_be_answered(client: Client, kind: str) -> None:
    form = await with_files(client, {"pagews.delegate": "nonsense", "kind": kind})
    async with client.post("/pagews/form", data=form, headers=JSON) as response:
        assert await response.json() == {
            "ok": False,
            "code": "internal",
            "message": "the server's delegate failed",
        }
    assert site_of(client).counters.failed["delegate"] == 1


async def test_what_a_document_repeats_runs_once(client: Client, desk: Desk) -> None:
    async with Browser(client) as browser:
        page = await browser.open("/upload")
        own = {"pagews.document": page.document, "pagews.token": page.include["data-page"] or ""}

        async def post(**fields: str) -> tuple[int, Any]:
            form = await with_files(client, own | {f"pagews.{name}": value for name, value in fields.items()})
            async with client.post("/pagews/form", data=form, headers=JSON) as response:
                return response.status, await response.json() if response.status == 200 else None

        unknown = {"ok": False, "code": "outcome-unknown", "message": "it may have run"}
        assert await post(id="7") == (200, {"ok": True, "value": {"kept": 0}})
        assert await post(id="7") == (200, unknown)
        # Else another process would wait for the one that has it.
        claim = await site_of(client).node.broker.find_send(page.id, page.document, 7)
        assert claim is not None
        assert claim.result is not None
        assert (await post(id="8"))[1]["ok"] is True
        # One that began before is not one that has run.
        assert (await post(id="6"))[1]["ok"] is True
        assert await post(id="6") == (200, unknown)
        assert await post(id="9", document="another") == (200, unknown)
        for number in ("", "0", "-1", "1.5", "9" * 16):
            assert await post(id=number) == (400, None)
    assert len(desk.given) == 3


async def test_json_leaves_the_session_alone(client: Client) -> None:
    form = await with_files(client, {}, ("file", "a", b"1"))
    async with client.post("/pagews/form", data=form, headers=JSON) as response:
        assert "Set-Cookie" not in response.headers


async def test_file_of_a_stranger_is_not_taken(client: Client, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form_body, "Upload", None)
    form = FormData(default_to_multipart=True)
    form.add_field("file", b"x", filename="x")
    for name, value in (await hidden(client)).items():
        form.add_field(name, value)
    async with client.post("/pagews/form", data=form, headers=JSON) as response:
        assert response.status == 403


# --- bounds -----------------------------------------------------------------------------------------------------------

LIMITS: Final = pagews.Limits(upload=200_000, message_up=1000, stuck=0.2)


@pytest.fixture
async def small(aiohttp_client: AiohttpClient, desk: Desk) -> Client:
    return await aiohttp_client(forms(desk, limits=LIMITS))


@pytest.fixture
def begun() -> asyncio.Event:
    """A file has begun to come."""
    return asyncio.Event()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, begun: asyncio.Event) -> list[pagews.Upload]:
    """All files that the server has begun to keep."""
    uploads: list[pagews.Upload] = []

    class Noted(pagews.Upload):
        def __init__(self, filename: str, content_type: str) -> None:
            super().__init__(filename, content_type)
            uploads.append(self)
            begun.set()

    monkeypatch.setattr(form_body, "Upload", Noted)
    return uploads


@pytest.mark.parametrize("announced", [True, False])
async def test_too_large(
    small: Client, desk: Desk, taken: list[pagews.Upload], begun: asyncio.Event, announced: bool
) -> None:
    form = await with_files(small, {}, ("file", "a", b"x" * 250_000))
    payload = form()
    body = await payload.as_bytes()

    async def stream() -> AsyncIterator[bytes]:
        yield body[:50_000]
        await begun.wait()
        yield body[50_000:]

    headers = JSON | {"Content-Type": payload.content_type}
    async with small.post("/pagews/form", data=body if announced else stream(), headers=headers) as response:
        assert response.status == 413
        message = "This is too large: at most 200,000 bytes are taken."
        assert await response.json() == {"ok": False, "code": "toolarge", "message": message}
    assert desk.given == []
    assert site_of(small).counters.refused["body too big"] == 1
    assert len(taken) == (0 if announced else 1)
    assert all(upload.file.closed for upload in taken)


@pytest.mark.parametrize("multipart", [False, True])
async def test_too_much_text(small: Client, desk: Desk, multipart: bool) -> None:
    for fields in ({"a": "x" * 1000}, {"a": "x" * 500, "b": "x" * 500}, {"a": "x" * 60_000}):
        form = FormData(await hidden(small) | fields, default_to_multipart=multipart)
        async with small.post("/pagews/form", data=form, headers=JSON) as response:
            assert response.status == 413
    assert desk.given == []


async def test_too_large_without_javascript(aiohttp_client: AiohttpClient, desk: Desk) -> None:
    client = await aiohttp_client(forms(desk, limits=pagews.Limits(upload=512 * 1024, message_up=2048)))
    for fields, files, most in (
        ({}, [("file", "a", b"x" * 700_000)], "512 KiB"),
        ({"a": "x" * 3000}, [], "2 KiB"),
    ):
        form = await with_files(client, fields, *files)
        async with client.post("/pagews/form", data=form, headers=HTML) as response:
            assert (response.status, response.content_type) == (413, "text/html")
            assert f"This is too large: at most {most} are taken. Go back" in await response.text()
    assert desk.given == []


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        pytest.param(part("pagews.x"), 400, id="unknown"),
        pytest.param(part("pagews.id") * 2, 400, id="twice"),
        pytest.param(part("a") * (form_body.MOST_FIELDS + 1), 413, id="fields"),
        pytest.param(b"\n" * (form_parts.MOST_LINES + 1), 400, id="lines"),
    ],
)
async def test_what_is_too_much_is_not_read_to_its_end(client: Client, begin: bytes, status: int) -> None:
    answered = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield begin + part("b") * 400  # aiohttp reads ahead
        await answered.wait()

    async with client.post("/pagews/form", data=endless(), headers=BOUNDARY | JSON) as response:
        assert response.status == status
        answered.set()


async def test_others_have_their_turn_between_the_parts_of_a_form(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, turn_of_part = 0, list[int]()
    fetch = form_parts.Parts.fetch_next_part

    async def note(parts: form_parts.Parts) -> Any:
        turn_of_part.append(turns)
        return await fetch(parts)

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(form_parts.Parts, "fetch_next_part", note)
    working = asyncio.create_task(work())
    async with client.post("/pagews/form", data=part("a") * 400 + b"--b--\r\n", headers=BOUNDARY | JSON) as response:
        assert response.status == 403
    working.cancel()
    assert len(turn_of_part) == len(set(turn_of_part)) == 400


@pytest.mark.parametrize("multipart", [False, True])
async def test_too_many_fields(small: Client, monkeypatch: pytest.MonkeyPatch, multipart: bool) -> None:
    monkeypatch.setattr(form_body, "MOST_FIELDS", 4)
    for count, status in ((4, 200), (5, 413)):
        form = await with_files(small, {"pagews.delegate": "keep"})
        if not multipart:
            form = FormData(await hidden(small) | {"pagews.delegate": "keep"})
        for _ in range(count):
            form.add_field("a", "1")
        async with small.post("/pagews/form", data=form, headers=JSON) as response:
            assert response.status == status
            assert (await response.json()).get("message") == (
                None if status == 200 else "This is too large: at most 4 fields are taken."
            )


async def test_too_many_files(small: Client, monkeypatch: pytest.MonkeyPatch, taken: list[pagews.Upload]) -> None:
    monkeypatch.setattr(form_body, "MOST_FILES", 2)
    for count, status in ((2, 200), (3, 413)):
        form = await with_files(small, {}, *[("file", "a", b"1")] * count)
        async with small.post("/pagews/form", data=form, headers=JSON) as response:
            assert response.status == status
    assert len(taken) == 4
    assert all(upload.file.closed for upload in taken)


@pytest.mark.parametrize("limits", [pagews.Limits(session_uploads=1), pagews.Limits(uploads=1)])
async def test_too_many_uploads_at_a_time(
    aiohttp_client: AiohttpClient, desk: Desk, begun: asyncio.Event, taken: list[pagews.Upload], limits: pagews.Limits
) -> None:
    client = await aiohttp_client(forms(desk, limits=limits))
    other: Any = await aiohttp_client(client.server)
    payload, go = (await with_files(client, {}, ("file", "a", b"x" * 100_000)))(), asyncio.Event()
    body = await payload.as_bytes()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:50_000]
        await go.wait()
        yield body[50_000:]

    headers = JSON | {"Content-Type": payload.content_type}
    first = asyncio.create_task(client.post("/pagews/form", data=slowly(), headers=headers))
    await begun.wait()
    for accept in (JSON, HTML):
        form = await with_files(client, {}, ("file", "a", b"1"))
        async with client.post("/pagews/form", data=form, headers=accept) as response:
            assert response.status == 503
            assert response.headers["Retry-After"].isdecimal()
            assert "too many uploads" in (await response.text()).lower()
            assert accept is HTML or (await response.json())["code"] == "limit"
    # One without files is none of them; another browser's only if there is room in the process.
    async with client.post("/pagews/form", data=await hidden(client) | FILLED, headers=JSON) as response:
        assert response.status == 200
    status = 200 if limits.session_uploads == 1 else 503
    form = await with_files(other, {}, ("file", "a", b"1"))
    async with other.post("/pagews/form", data=form, headers=JSON) as response:
        assert response.status == status
    go.set()
    assert (await first).status == 200
    assert site_of(client).counters.refused["uploads"] == (2 if status == 200 else 3)
    assert not site_of(client).uploads
    form = await with_files(client, {}, ("file", "a", b"1"))
    async with client.post("/pagews/form", data=form, headers=JSON) as response:
        assert response.status == 200


async def test_an_upload_that_goes_on_for_too_long(
    small: Client, taken: list[pagews.Upload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagews.requests.LEAST_RATE", 500_000)
    payload, answered = (await with_files(small, {}, ("file", "a", b"x" * 150_000)))(), asyncio.Event()
    body = await payload.as_bytes()

    async def slowly() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 10_000):
            yield body[begin : begin + 10_000]
            if not answered.is_set():
                await asyncio.sleep(0.1)

    headers = JSON | {"Content-Type": payload.content_type, "Content-Length": str(len(body))}
    async with small.post("/pagews/form", data=slowly(), headers=headers) as response:
        assert response.status == 408
        answered.set()
    assert [upload.file.closed for upload in taken] == [True]


@pytest.mark.parametrize("how", ["cut", "silent"])
@pytest.mark.parametrize("cancels", [False, True])
async def test_upload_that_breaks_off_leaves_nothing_behind(
    desk: Desk, taken: list[pagews.Upload], begun: asyncio.Event, how: str, cancels: bool
) -> None:
    app = forms(desk, limits=LIMITS)
    ended = asyncio.Event()

    @web.middleware
    async def watch(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
            return response
        finally:
            if request.path == "/pagews/form":
                ended.set()

    app.middlewares.insert(0, watch)
    # Not by TestServer, which always cancels.
    runner = web.AppRunner(app, handler_cancellation=cancels)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = int(runner.addresses[0][1])
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        payload = (await with_files(browser, {}, ("file", "a", b"x" * 100_000)))()
        [cookie] = browser.cookie_jar
    body = await payload.as_bytes()
    head = (
        f"POST /pagews/form HTTP/1.1\r\nHost: x\r\nContent-Type: {payload.content_type}\r\n"
        f"Content-Length: {len(body)}\r\nCookie: {cookie.key}={cookie.value}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body[: len(body) // 2])
    async with asyncio.timeout(10):
        await begun.wait()
        if how == "cut":
            writer.close()
        else:
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        await ended.wait()
        writer.close()
        await writer.wait_closed()
        await runner.cleanup()
    assert [upload.file.closed for upload in taken] == [True]
    assert desk.given == []
    refused = get_site(app).counters.refused
    if how == "silent":
        assert refused == {"slow body": 1}
    elif not cancels:
        assert refused == {"broken body": 1}


# --- while the page goes on -------------------------------------------------------------------------------------------


class Pressing:
    """A page, and a form with a file that it posts meanwhile, as its script does it."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []
        self.percents = (25, 50, 75)
        table = pagews.DelegateTableDef()

        @table.on("develop")
        async def develop(page: pagews.Page, data: Any) -> Any:
            photo = data["photo"]
            self.runs.append((page.id, photo.size))
            for percent in self.percents:
                await page.push("progress", percent)
            return [photo.filename, await page.ask("confirm", "Print it?")]

        @table.on("echo")
        async def echo(page: pagews.Page, data: Any) -> Any:
            return data

        self.site = TestSite(delegates=table)

    async def press(self, visitor: Visitor, document: Document, body: Callable[[bytes], AsyncIterator[bytes]]) -> Any:
        """Post it; returns what the server says. `body`: sends the whole in its own time."""
        form = FormData(default_to_multipart=True)
        own = {"token": document.token, "delegate": "develop", "document": document.id, "id": "1000"}
        for name, value in own.items():
            form.add_field(f"pagews.{name}", value)
        form.add_field("photo", b"x" * 300_000, filename="beach.jpg", content_type="image/jpeg")
        payload = form()
        headers = JSON | {"Content-Type": payload.content_type, "Origin": visitor.url}
        data = body(await payload.as_bytes())
        async with visitor.http.post(f"{visitor.url}/pagews/form", data=data, headers=headers) as response:
            assert response.status == 200
            return await response.json()


async def answer_confirm(push: Push) -> Any:
    return "yes" if push.delegate == "confirm" else None


async def at_once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_a_page_hears_and_speaks_while_its_file_is_under_way(
    transport: Transport, taken: list[pagews.Upload], begun: asyncio.Event
) -> None:
    pressing = Pressing()
    async with (
        serving(pressing.site) as site,
        Visitor(site.url, transport) as visitor,
        Document(visitor, await visitor.token("/?topic=news")) as document,
    ):
        document.delegate = answer_confirm
        await document.until(lambda document: bool(document.welcomes))

        async def slowly(body: bytes) -> AsyncIterator[bytes]:
            """Each part when the page has heard of something, and been answered, since the one before."""
            for number, part in enumerate((body[: len(body) // 2], body[len(body) // 2 : -10])):
                yield part
                async with asyncio.timeout(10):
                    await begun.wait()
                await site.publisher.topic("news").push("headline", number)
                await document.send("echo", number, qos=2)
                await document.until(lambda document, count=number + 1: len(document.results) == count)  # type: ignore[misc]
                await document.until(lambda document, count=number + 1: len(document.received) == count)  # type: ignore[misc]
                assert pressing.runs == [], "the server does not have it yet"
            yield body[-10:]

        outcome = await pressing.press(visitor, document, slowly)
        heard = [(push.delegate, push.data) for push in document.received]

        assert outcome == {"ok": True, "value": ["beach.jpg", "yes"]}
        # All of it before the answer to the form: that waits for the last.
        progress = [("progress", percent) for percent in pressing.percents]
        assert heard == [("headline", 0), ("headline", 1), *progress, ("confirm", "Print it?")]
        assert document.results == {1: [True, 0], 2: [True, 1]}
        assert pressing.runs == [(document.welcomes[0]["page"], 300_000)]
        assert len(document.welcomes) == 1
        assert [upload.file.closed for upload in taken] == [True]


async def test_a_page_and_its_file_that_are_cut_together_and_come_back(
    transport: Transport, taken: list[pagews.Upload], begun: asyncio.Event
) -> None:
    pressing = Pressing()
    async with (
        serving(pressing.site) as site,
        FaultProxy(HOST, site.port) as proxy,
        Visitor(proxy.url, transport) as visitor,
        Document(visitor, await visitor.token("/?topic=news")) as document,
    ):
        document.delegate = answer_confirm
        await document.until(lambda document: bool(document.welcomes))

        async def cut_in_the_middle(body: bytes) -> AsyncIterator[bytes]:
            yield body[: len(body) // 2]
            async with asyncio.timeout(10):
                await begun.wait()
            proxy.cut()
            yield body[len(body) // 2 :]

        with pytest.raises(aiohttp.ClientError):
            await pressing.press(visitor, document, cut_in_the_middle)
        await site.publisher.topic("news").push("headline", 1)
        assert await pressing.press(visitor, document, at_once) == {"ok": True, "value": ["beach.jpg", "yes"]}

        assert [push.data for push in document.received] == [1, *pressing.percents, "Print it?"]
        assert pressing.runs == [(document.welcomes[0]["page"], 300_000)]
        assert (document.repeated, len(document.welcomes)) == (0, 2)
        assert [upload.file.closed for upload in taken] == [True, True]


# --- mistakes ---------------------------------------------------------------------------------------------------------


async def test_mistakes(aiohttp_client: AiohttpClient, desk: Desk) -> None:
    app = forms(desk)

    async def wrong(request: web.Request) -> web.Response:
        page = await pagews.open_page(request)
        for delegate in ("x", ""):
            with pytest.raises(ValueError, match="delegate"):
                pagews.form_tag(page, delegate)
        attributes: Any
        for attributes in ({"method": "get"}, {"data_pagews_send": "x"}, {"on load": "x"}):
            with pytest.raises(ValueError, match=r"pagews's own|Invalid character"):
                pagews.form_tag(page, "keep", **attributes)
        with pytest.raises(ConfigurationError, match="open_page"):
            pagews.form_tag(pagews.get_publisher(request).page("x"), "keep")  # type: ignore[arg-type]  # the mistake
        return web.Response(text=pagews.form_tag(page, "keep"))

    app.router.add_get("/wrong", wrong)
    client = await aiohttp_client(app)
    async with client.get("/wrong") as response:
        assert response.status == 200
    with pytest.raises(ConfigurationError, match=r"answer a request: else use form_tag\(page, ...\)"):
        pagews_form("keep")
