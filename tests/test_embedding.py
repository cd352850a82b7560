"""What a template embeds cannot end its tag. `browser/test_policy.py` has it in a browser."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from tests.hostile import HOSTILE

from .apps import application


class _Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", {}))


@pytest.mark.parametrize("text", HOSTILE)
async def test_threat_25_what_is_embedded_stays_text(aiohttp_client: AiohttpClient, text: str) -> None:
    delegates = pagews.DelegateTableDef()
    name = "".join(filter(str.isprintable, text))

    @delegates.on(name)
    async def fail(page: pagews.Page, data: object) -> None:
        raise pagews.DelegateError("hostile", text)

    async def view(request: web.Request) -> web.Response:
        page = await pagews.open_page(request)
        html = f"{pagews.form_tag(page, name, id=text, title=text)}</form>{pagews.script_tag(page, nonce=text)}"
        return web.Response(text=html, content_type="text/html")

    app = application(delegates=delegates)
    app.router.add_get("/form", view)
    client = await aiohttp_client(app)

    async def read() -> tuple[dict[str, dict[str, str | None]], _Tags]:
        async with client.get("/form", params={"back": text}, headers={"Accept": "text/html"}) as response:
            found = _Tags()
            found.feed(await response.text())
        assert [tag for tag, _ in found.tags] == ["form", "input", "input", "input", "output", "script"]
        named = {str(attributes.get("name", tag)): attributes for tag, attributes in found.tags}
        assert named["form"]["id"] == named["form"]["title"] == text
        assert named["form"]["data-pagews-send"] == named["pagews.delegate"]["value"] == name
        assert named["script"]["nonce"] == text
        assert named["script"].keys() == {"type", "src", "nonce", "data-pagews", "data-page"}
        return named, found

    named, found = await read()
    assert found.text.strip() == ""
    fields = {hidden: named[hidden]["value"] for hidden in ("pagews.token", "pagews.delegate", "pagews.back")}
    async with client.post("/pagews/form", data=fields, allow_redirects=False) as response:
        assert response.status == 303
    _, found = await read()
    assert found.text.strip() == text.strip()
