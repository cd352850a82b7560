"""Forms: without JavaScript, through the socket, and with files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web
from msgspec import Struct
from playwright.async_api import Browser, FilePayload, Page

import pagews
from tests.faults import FaultProxy, Link
from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve, StartProxy
from .journal import PATIENCE
from .site import Site
from .tab import Tab
from .walls import Wall

_FIELDS: Final = """<input name="item"><input type="number" name="count" value="1">
  <input type="checkbox" name="express"><input type="number" name="discount" step="0.01">
  <input type="checkbox" name="extras" value="ribbon"><input type="checkbox" name="extras" value="card">
  <textarea name="note"></textarea>"""

_FILES: Final = '<input type="file" name="photos" multiple><progress data-pagews-progress></progress>'

_WATCH: Final = """() => {
  for (const kind of ["pagews-result", "pagews-error", "pagews:progress"]) {
    document.addEventListener(kind, ({ detail }) =>
      told(kind, detail instanceof Error ? { code: detail.code, message: detail.message } : detail));
  }
}"""


_UPLOAD: Final = """() => {
  const fields = new FormData();
  fields.append("title", "Trip");
  fields.append("photos", new Blob(["x"]), "x");
  return pagews.upload("album", fields);
}"""


class Order(Struct, forbid_unknown_fields=True):
    item: str
    count: int
    express: bool
    discount: float | None
    extras: list[str]
    note: str


class Album(Struct, forbid_unknown_fields=True):
    title: str
    photos: list[pagews.Upload]


class Shop:
    """A site with two forms.

    Attributes:
        go_on: what its delegates wait for before they answer.
        begun: released for each album.
    """

    def __init__(self, **setup: Any) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.begun = asyncio.Semaphore(0)
        self.orders: list[Order] = []
        self.albums: list[list[tuple[str, int]]] = []
        delegates = pagews.DelegateTableDef()

        @delegates.on("order")
        async def order(page: pagews.Page, data: Order) -> str:
            if data.count > 100:
                raise pagews.DelegateError("too-many", "We have a hundred of each.")
            self.orders.append(data)
            await self.go_on.wait()
            return f"{data.count} times {data.item}"

        @delegates.on("album")
        async def album(page: pagews.Page, data: Album) -> dict[str, int]:
            self.albums.append([(photo.filename, len(await photo.read())) for photo in data.photos])
            self.begun.release()
            await page.push("kept", data.title)
            await self.go_on.wait()
            return {"photos": len(data.photos)}

        self.site = Site(delegates=delegates, **setup)
        self.site.app.router.add_get("/order", self._order)
        self.site.app.router.add_get("/album", self._album)

    async def _order(self, request: web.Request) -> web.Response:
        page = await pagews.open_page(request)
        return self._html(page, f"{pagews.form_tag(page, 'order')}{_FIELDS}<button>Order</button></form>")

    async def _album(self, request: web.Request) -> web.Response:
        page = await pagews.open_page(request)
        tag = pagews.form_tag(page, "album", upload=True)
        return self._html(page, f'{tag}<input name="title">{_FILES}<button>Send</button></form>')

    def _html(self, page: pagews.Page, form: str) -> web.Response:
        text = f"<!doctype html><title>A form</title>{form}{pagews.script_tag(page, transport=self.site.transport)}"
        return web.Response(text=text, content_type="text/html")


async def fill(page: Page, count: str) -> None:
    await page.fill("[name=item]", "tea")
    await page.fill("[name=count]", count)
    await page.check("[name=express]")
    await page.check("[value=card]")
    await page.fill("[name=note]", "one\ntwo")
    await page.click("button")


def photo(size: int, name: str = "a photo.png") -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": b"x" * size}


async def shows(page: Page, role: str, text: str) -> None:
    """Wait until the form tells something."""
    await page.wait_for_selector(f'output[role="{role}"]:text-is("{text}")', state="attached")


TOO_LARGE: Final = "This is too large: at most 100,000 bytes are taken."

ORDERED: Final = Order("tea", 3, True, None, ["card"], "one\ntwo")


# --- without JavaScript -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def plain_page(browser: Browser, serve: Serve) -> AsyncIterator[Page]:
    """A browser that runs no scripts. It is closed before the sites are."""
    context = await browser.new_context(java_script_enabled=False)
    context.set_default_timeout(10_000)
    yield await context.new_page()
    await context.close()


async def test_without_javascript(serve: Serve, plain_page: Page) -> None:
    shop = Shop()
    site = await serve(shop.site)
    await plain_page.goto(f"{site.url}/order?from=a+b")

    await fill(plain_page, "3")
    await shows(plain_page, "status", "3 times tea")
    assert plain_page.url == f"{site.url}/order?from=a+b#pagews-order"
    assert site.journal["POST /pagews/form"] == [303]
    await plain_page.reload()
    await shows(plain_page, "status", "")

    await fill(plain_page, "101")
    await shows(plain_page, "alert", "We have a hundred of each.")
    assert shop.orders == [ORDERED]


async def test_files_without_javascript(serve: Serve, plain_page: Page) -> None:
    shop = Shop()
    site = await serve(shop.site)
    await plain_page.goto(f"{site.url}/album")

    await plain_page.click("button")
    await shows(plain_page, "status", "sent")
    await plain_page.set_input_files("[name=photos]", [photo(3), photo(200_000, 'a "b"; c.png')])
    await plain_page.click("button")
    await site.journal.wait("POST /pagews/form", 2)
    await shows(plain_page, "status", "sent")

    assert shop.albums == [[], [("a photo.png", 3), ('a "b"; c.png', 200_000)]]


@pytest.mark.parametrize("size", [200_000, 20_000_000])
async def test_files_that_are_too_large_without_javascript(
    serve: Serve, plain_page: Page, tmp_path: Path, size: int
) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(size)
    shop = Shop(limits=pagews.Limits(upload=100_000))
    site = await serve(shop.site)
    await plain_page.goto(f"{site.url}/album")
    await plain_page.set_input_files("[name=photos]", large)

    await plain_page.click("button")

    await plain_page.wait_for_selector(f"text={TOO_LARGE}")
    assert site.journal["POST /pagews/form"] == [413]
    assert shop.albums == []


async def test_another_sites_form_is_refused(serve: Serve, plain_page: Page) -> None:
    shop = Shop()
    site = await serve(shop.site)
    await plain_page.goto(f"{site.url}/order")
    fields = await plain_page.locator("input[type=hidden]").evaluate_all("all => all.map(({ outerHTML }) => outerHTML)")
    form = f'<form method="post" action="{site.url}/pagews/form">{"".join(fields)}{_FIELDS}<button>Win</button></form>'

    async def lure(request: web.Request) -> web.Response:
        return web.Response(text=f"<!doctype html><title>Win</title>{form}", content_type="text/html")

    other = Site()
    other.app.router.add_get("/lure", lure)
    await serve(other)
    await plain_page.goto(f"{other.url}/lure")
    # The ports differ and no more, so that the browser sends the cookie along: all but the Origin is right.
    await fill(plain_page, "3")

    assert await site.journal.wait("POST /pagews/form") == [403]
    assert shop.orders == []


# --- with JavaScript --------------------------------------------------------------------------------------------------


async def test_fields_go_through_the_socket(serve: Serve, open_tab: OpenTab) -> None:
    shop = Shop()
    site = await serve(shop.site)
    tab = await open_tab(f"{site.url}/order")
    await tab.run(_WATCH)

    await fill(tab.page, "3")
    assert await tab.wait("pagews-result") == ["3 times tea"]
    await shows(tab.page, "status", "3 times tea")

    await fill(tab.page, "101")
    # Who sees it in the form need not look for it in the console.
    await shows(tab.page, "alert", "We have a hundred of each.")
    assert [error["code"] for error in tab["pagews-error"]] == ["too-many"]

    # As without JavaScript, to the letter.
    assert shop.orders == [ORDERED]
    assert site.journal["POST /pagews/form"] == []


async def open_album(tab: Tab, url: str) -> None:
    await tab.open(f"{url}/album")
    await tab.run(_WATCH)
    await tab.listen("kept")
    await tab.listen("meanwhile")


def stall_uploads(proxy: FaultProxy) -> None:
    """Let no upload pass before `resume`: it stands still in the middle, when the system takes no more of it."""

    def request(link: Link, path: str) -> None:
        if path == "/pagews/form":
            link.up.stall()

    # Else the system may take the whole of it at once.
    proxy.narrow()
    proxy.on_request = request


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_upload_with_progress_and_pushes_meanwhile(
    serve: Serve, open_tab: OpenTab, put_proxy: StartProxy, transport: str
) -> None:
    shop = Shop()
    shop.go_on.clear()
    proxy = await put_proxy(await serve(shop.site))
    stall_uploads(proxy)
    tab = await open_tab()
    await open_album(tab, proxy.url)
    assert await tab.run("pagews.transport") == transport
    page = shop.site.publisher.page(await tab.id())
    await tab.page.fill("[name=title]", "Trip")
    await tab.page.set_input_files("[name=photos]", photo(5_000_000))

    await tab.page.click("button")
    first, *_ = await tab.wait("pagews:progress")
    assert 0 < first["loaded"] < first["total"]
    assert await tab.page.get_attribute("form", "aria-busy") == "true"
    assert await tab.run("pagews.busy") is True
    for number in range(5):
        await page.push("meanwhile", number)
        assert await tab.wait("meanwhile", number + 1) == list(range(number + 1))
    assert shop.albums == []

    proxy.resume()
    # What the delegate pushes comes while the answer to the upload is still out.
    assert await tab.wait("kept") == ["Trip"]
    assert shop.albums == [[("a photo.png", 5_000_000)]]
    assert tab["pagews-result"] == []
    assert await tab.run("pagews.busy") is True

    shop.go_on.set()
    assert await tab.wait("pagews-result") == [{"photos": 1}]
    await shows(tab.page, "status", "sent")
    loaded = [progress["loaded"] for progress in tab["pagews:progress"]]
    assert loaded == sorted(loaded)
    last = tab["pagews:progress"][-1]
    assert last["loaded"] == last["total"] > 5_000_000
    assert await tab.run("[document.querySelector('progress').value, pagews.busy]") == [last["total"], False]
    assert shop.site.journal["POST /pagews/form"] == [200]
    assert await tab.run("pagews.transport") == transport
    assert tab["meanwhile"] == list(range(5))
    assert shop.site.publisher.statistics().lost == {}


@pytest.mark.parametrize("path", ["order", "album"])
async def test_a_form_that_is_under_way_is_not_sent_again(serve: Serve, open_tab: OpenTab, path: str) -> None:
    shop = Shop()
    shop.go_on.clear()
    site = await serve(shop.site)
    tab = await open_tab(f"{site.url}/{path}")
    await tab.run(_WATCH)

    for _ in range(3):
        await tab.page.click("button")
    await tab.page.press("input:not([type])", "Enter")
    assert await tab.page.get_attribute("form", "aria-busy") == "true"
    shop.go_on.set()
    await tab.wait("pagews-result")
    await tab.page.wait_for_selector("form:not([aria-busy])")
    assert len(shop.orders) + len(shop.albums) == 1

    await tab.page.click("button")
    assert len(await tab.wait("pagews-result", 2)) == 2
    assert len(shop.orders) + len(shop.albums) == 2


async def test_form_that_is_removed_while_it_is_under_way(
    serve: Serve, open_tab: OpenTab, put_proxy: StartProxy
) -> None:
    shop = Shop()
    proxy = await put_proxy(await serve(shop.site))
    stall_uploads(proxy)
    tab = await open_tab()
    await open_album(tab, proxy.url)
    await tab.page.set_input_files("[name=photos]", photo(5_000_000))
    await tab.page.click("button")
    await tab.wait("pagews:progress")

    await tab.run(
        """() => {
          const form = document.querySelector("form");
          form.addEventListener("pagews-result", ({ detail }) => told("alone", detail));
          form.remove();
        }"""
    )
    proxy.resume()

    # It goes on, and tells the form and nobody else.
    assert await tab.wait("alone") == [{"photos": 1}]
    await tab.page.wait_for_function("() => !pagews.busy")
    assert tab["pagews-result"] == []
    assert shop.albums == [[("a photo.png", 5_000_000)]]


async def test_upload_of_a_page_that_was_forked_is_of_the_page_that_it_has_become(
    serve: Serve, open_tab: OpenTab
) -> None:
    shop = Shop()
    html = ""

    async def copy(request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    shop.site.app.router.add_get("/copy", copy)
    site = await serve(shop.site)
    first = await open_tab(f"{site.url}/album")
    html = await first.page.content()
    second = await open_tab(keeping=["forked"])
    await second.open(f"{site.url}/copy")
    assert await second.id() != await first.id()
    for tab in (first, second):
        await tab.listen("kept")

    await second.page.fill("[name=title]", "Copy")
    await second.page.click("button")

    assert await second.wait("kept") == ["Copy"]
    await first.settle()
    assert first["kept"] == []


async def test_upload_that_is_too_large(serve: Serve, open_tab: OpenTab) -> None:
    shop = Shop(limits=pagews.Limits(upload=100_000))
    site = await serve(shop.site)
    tab = await open_tab()
    tab.network_fails = True
    await open_album(tab, site.url)
    await tab.page.set_input_files("[name=photos]", photo(200_000))

    await tab.page.click("button")

    [error] = await tab.wait("pagews-error")
    assert error == {"code": "toolarge", "message": TOO_LARGE}
    await shows(tab.page, "alert", TOO_LARGE)
    assert shop.albums == []


async def test_upload_that_is_cut(serve: Serve, open_tab: OpenTab, put_proxy: StartProxy, tmp_path: Path) -> None:
    # More than what the system keeps for a reader who stands still.
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(20_000_000)
    shop = Shop()
    proxy = await put_proxy(await serve(shop.site))
    tab = await open_tab()
    tab.network_fails = True
    await open_album(tab, proxy.url)
    socket = await proxy.upgraded()
    await tab.page.set_input_files("[name=photos]", large)
    proxy.on_connect = lambda link: link.up.cut_after(1_000_000)
    for link in proxy.open_links:
        if link is not socket:
            link.up.cut_after(1_000_000)

    await tab.page.click("button")

    [error] = await tab.wait("pagews-error")
    assert error["code"] == "closed"
    # Once for each time that Chromium has tried; this server cancels what serves a connection that breaks.
    assert set(await shop.site.journal.wait("POST /pagews/form")) <= {400, 500}
    assert shop.albums == []
    assert await tab.run("pagews.state") == "open"
    # The form can be sent again.
    proxy.on_connect = None
    await tab.page.set_input_files("[name=photos]", photo(1000))
    await tab.page.click("button")
    assert await tab.wait("pagews-result") == [{"photos": 1}]


async def test_bar_of_an_upload_that_fails(serve: Serve, open_tab: OpenTab) -> None:
    shop = Shop(limits=pagews.Limits(upload=100_000))
    site = await serve(shop.site)
    tab = await open_tab()
    tab.network_fails = True
    await open_album(tab, site.url)
    # What the upload had come to before it was refused.
    await tab.run("() => { document.querySelector('progress').value = 0.9; }")
    await tab.page.set_input_files("[name=photos]", photo(200_000))

    await tab.page.click("button")
    await tab.wait("pagews-error")

    assert await tab.run("document.querySelector('progress').value") == 0


@pytest.mark.parametrize("transport", [None])
async def test_uploads_leave_a_connection_for_posts(
    serve: Serve, open_tab: OpenTab, put_proxy: StartProxy, transport: None
) -> None:
    # A browser has six connections to a host by HTTP/1.1: four streams have four of them.
    shop = Shop()
    shop.go_on.clear()
    proxy = await put_proxy(await serve(shop.site))
    Wall(proxy, "websocket")
    tabs = [await open_tab() for _ in range(4)]
    for tab in tabs:
        tab.network_fails = True
        await tab.open(f"{proxy.url}/album")
        assert await tab.run("pagews.transport") == "stream"
    uploading = [asyncio.create_task(tab.run(_UPLOAD)) for tab in tabs[:3]]
    await shop.begun.acquire()

    refused = "pagews.send('order', {}).catch(({ code }) => code)"
    async with asyncio.timeout(PATIENCE):
        assert [await tab.run(refused) for tab in tabs] == ["invalid-data"] * 4
    assert len(shop.albums) == 1

    shop.go_on.set()
    assert await asyncio.gather(*uploading) == [{"photos": 1}] * 3


async def test_upload_by_a_script(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(Shop().site)
    tab = await open_tab(f"{site.url}/album")

    outcomes = await tab.run(
        """async () => {
          const fields = new FormData();
          fields.append("title", "Trip");
          fields.append("photos", new Blob(["x"]), "x");
          const aborted = AbortSignal.abort(new TypeError("no more"));
          const ending = new AbortController();
          const progress = () => ending.abort("enough");
          const big = new FormData();
          big.append("photos", new Blob([new Uint8Array(5e6)]), "x");
          const tell = (error) => error.code ?? error.message ?? error;
          return [
            await pagews.upload("album", fields),
            await pagews.upload("order", fields).catch(tell),
            await pagews.upload("", fields).catch(({ name }) => name),
            await pagews.upload("album", fields, { signal: aborted }).catch(tell),
            await pagews.upload("album", big, { signal: ending.signal, progress }).catch(tell),
            pagews.busy,
            (pagews.close(), await pagews.upload("album", fields).catch(tell)),
          ];
        }"""
    )

    assert outcomes == [{"photos": 1}, "invalid-data", "TypeError", "no more", "enough", False, "closed"]


async def test_upload_without_an_answer_runs_once(serve: Serve, open_tab: OpenTab, put_proxy: StartProxy) -> None:
    """Chromium repeats a request whose connection, used before, breaks without an answer."""
    shop = Shop()
    proxy = await put_proxy(await serve(shop.site))
    tab = await open_tab()
    tab.network_fails = True
    await open_album(tab, proxy.url)
    socket = await proxy.upgraded()
    for link in proxy.open_links:
        if link is not socket:
            link.down.stall()

    await tab.page.click("button")
    assert await tab.wait("kept") == [""]
    for link in proxy.open_links:
        if link is not socket:
            link.cut()

    [error] = await tab.wait("pagews-error")
    assert error["code"] == "outcome-unknown"
    assert shop.albums == [[]]
    assert shop.site.journal["POST /pagews/form"] == [200, 200]
