"""What a browser shows of a page's tokens to others: in addresses, in headers, in its console."""

from __future__ import annotations

from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

import pagews
from pagews.site import get_site
from pagews.tokens import Token
from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve
from .site import Site

_UPLOAD: Final = """() => {
  const fields = new FormData();
  fields.append("file", new Blob(["x"]), "x");
  return pagews.upload("order", fields);
}"""


class Shop(Site):
    """A site with a form.

    Attributes:
        tokens: all that it has made.
        asked: the address and the headers of every request.
    """

    def __init__(self) -> None:
        delegates = pagews.DelegateTableDef()
        self.tokens: list[str] = []
        self.asked: list[str] = []

        @delegates.on("order")
        async def order(page: pagews.Page, data: Any) -> str:
            return "ordered"

        super().__init__(delegates=delegates)
        self.app.router.add_get("/form", self._form)
        self.app.middlewares.append(self._note_requests_whole)

    def keep_tokens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = get_site(self.app).tokens
        write = tokens.write

        def keep(token: Token) -> str:
            self.tokens.append(write(token))
            return self.tokens[-1]

        monkeypatch.setattr(tokens, "write", keep)

    async def _form(self, request: web.Request) -> web.Response:
        page = await pagews.open_page(request)
        script = pagews.script_tag(page, transport=self.transport)
        text = (
            f"<!doctype html><title>A form</title>{pagews.form_tag(page, 'order')}<button>Order</button></form>{script}"
        )
        return web.Response(text=text, content_type="text/html")

    @web.middleware
    async def _note_requests_whole(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked.append(f"{request.raw_path} {request.raw_headers!r}")
        return await handler(request)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_threat_9_no_token_is_in_an_address_a_header_or_the_console(
    serve: Serve, open_tab: OpenTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop()
    shop.keep_tokens(monkeypatch)
    await serve(shop)
    tab = await open_tab()
    seen: list[str] = []
    tab.page.on("console", lambda message: seen.append(message.text))
    tab.page.on("request", lambda request: seen.append(f"{request.url} {request.headers}"))
    tab.page.on("websocket", lambda socket: seen.append(socket.url))
    tab.page.on("framenavigated", lambda frame: seen.append(frame.url))
    await tab.page.add_init_script("localStorage.setItem('pagews:debug', 'on');")

    await tab.open(f"{shop.url}/form")
    assert await tab.run("pagews.send('order')") == "ordered"
    assert await tab.run(_UPLOAD) == "ordered"
    # Refused its token, a page asks for another one.
    await shop.publisher.page(await tab.id()).close(4500, "for the test")
    await shop.journal.wait("POST /pagews/renew")
    await shop.journal.wait("attach", 2)
    # The browser posts the form itself, and is led back.
    async with tab.page.expect_navigation():
        await tab.run("() => { HTMLFormElement.prototype.submit.call(document.forms[0]); }")
    await tab.is_in("open")

    assert len(shop.tokens) >= 3
    assert "/pagews/form" in " ".join(shop.asked)
    assert '["hello"' in " ".join(seen)
    shown = "\n".join(shop.asked + seen)
    assert [token for token in shop.tokens if token in shown] == []
