"""Forms that send by markup alone: what becomes of their fields, and of what cannot be sent."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
from aiohttp import web
from msgspec import Struct

import pagews
from tests.faults import before_frame

from .conftest import OpenTab, Serve, StartProxy
from .site import Site
from .tab import Tab

_WATCH: Final = """() => {
  for (const kind of ["pagews-result", "pagews-error"]) {
    document.addEventListener(kind, (event) => {
      const { detail, target } = event;
      told(kind, detail instanceof Error ? `${detail.name}: ${detail.message}` : detail);
      if (target.dataset.handled !== undefined) event.preventDefault();
      if (kind === "pagews-result") target.reset();
    });
  }
}"""


class Order(Struct, forbid_unknown_fields=True):
    item: str
    count: int
    express: bool
    discount: float | None
    extras: list[str]


def site_with_form(form: str, delegates: pagews.DelegateTableDef) -> Site:
    """A site whose page at `/form` holds a form."""
    site = Site(delegates=delegates)

    async def view(request: web.Request) -> web.Response:
        page = await pagews.open_page(request)
        text = f"<!doctype html><title>A form</title>{form}{pagews.script_tag(page)}"
        return web.Response(text=text, content_type="text/html")

    site.app.router.add_get("/form", view)
    return site


async def open_form(serve: Serve, open_tab: OpenTab, form: str, delegates: pagews.DelegateTableDef) -> Tab:
    """Open a page with a form, whose events are noted."""
    site = site_with_form(form, delegates)
    await serve(site)
    tab = await open_tab(f"{site.url}/form")
    await tab.run(_WATCH)
    return tab


def keeping() -> pagews.DelegateTableDef:
    """A delegate that takes anything, and gives it back."""
    delegates = pagews.DelegateTableDef()

    @delegates.on("keep")
    async def keep(page: pagews.Page, data: Any) -> Any:
        return data

    return delegates


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        pytest.param('<input name="a" value="1"><textarea name="b">2</textarea>', {"a": "1", "b": "2"}, id="text"),
        pytest.param('<input type="number" name="a" value="-3">', {"a": -3}, id="number"),
        pytest.param('<input type="number" name="a" step="any" value="0.5">', {"a": 0.5}, id="decimal"),
        pytest.param('<input type="number" name="a">', {"a": None}, id="no number"),
        pytest.param('<input type="range" name="a" value="7">', {"a": 7}, id="range"),
        pytest.param(
            '<input type="number" name="a" value="1"><input type="number" name="a">', {"a": [1, None]}, id="numbers"
        ),
        pytest.param(
            '<input type="number" name="a" value="1"><input name="a" value="x">', {"a": ["1", "x"]}, id="mixed"
        ),
        pytest.param('<input type="date" name="a" value="2024-02-29">', {"a": "2024-02-29"}, id="date"),
        pytest.param('<input type="hidden" name="a" value="5">', {"a": "5"}, id="hidden"),
        pytest.param('<input type="checkbox" name="a" checked>', {"a": True}, id="checked"),
        pytest.param('<input type="checkbox" name="a">', {"a": False}, id="not checked"),
        pytest.param('<input type="checkbox" name="a" value="x" checked>', {"a": "x"}, id="checked value"),
        pytest.param('<input type="checkbox" name="a" value="x">', {}, id="value not checked"),
        pytest.param(
            '<input type="checkbox" name="a" value="x" checked><input type="checkbox" name="a" value="y">',
            {"a": ["x"]},
            id="one of two",
        ),
        pytest.param(
            '<input type="checkbox" name="a" value="x"><input type="checkbox" name="a" value="y">',
            {"a": []},
            id="none of two",
        ),
        pytest.param('<input type="radio" name="a" value="x"><input type="radio" name="a">', {}, id="no radio"),
        pytest.param(
            '<input type="radio" name="a" value="x"><input type="radio" name="a" value="y" checked>',
            {"a": "y"},
            id="radio",
        ),
        pytest.param('<select name="a"><option>x<option selected>y</select>', {"a": "y"}, id="select"),
        pytest.param('<select name="a" multiple><option>x<option selected>y</select>', {"a": ["y"]}, id="multiple"),
        pytest.param('<select name="a" multiple><option>x</select>', {"a": []}, id="multiple, none"),
        pytest.param(
            '<fieldset disabled><input type="number" name="a"><input type="checkbox" name="b"></fieldset>',
            {},
            id="disabled",
        ),
        pytest.param('<input value="x"><input type="checkbox">', {}, id="nameless"),
    ],
)
async def test_fields_have_the_types_of_their_controls(
    serve: Serve, open_tab: OpenTab, fields: str, data: object
) -> None:
    form = f'<form data-pagews-send="keep">{fields}<button name="b1" value="never">No</button></form>'
    tab = await open_form(serve, open_tab, form, keeping())

    await tab.run("() => { document.forms[0].requestSubmit(); }")

    assert await tab.wait("pagews-result") == [data]


async def test_button_that_was_pressed_is_a_field(serve: Serve, open_tab: OpenTab) -> None:
    buttons = '<button name="do" value="save">Save</button><button name="do" value="send">Send</button>'
    form = f'<form data-pagews-send="keep"><input type="number" name="n" value="1">{buttons}</form>'
    tab = await open_form(serve, open_tab, form, keeping())

    await tab.page.click("text=Send")

    assert await tab.wait("pagews-result") == [{"n": 1, "do": "send"}]


async def test_form_for_a_typed_delegate(serve: Serve, open_tab: OpenTab) -> None:
    delegates = pagews.DelegateTableDef()
    orders: list[Order] = []
    go_on = asyncio.Event()

    @delegates.on("order")
    async def order(page: pagews.Page, data: Order) -> str:
        await go_on.wait()
        orders.append(data)
        return "ordered"

    form = """<form data-pagews-send="order"><input name="item"><input type="number" name="count" value="1">
      <input type="checkbox" name="express"><input type="number" name="discount" step="0.01">
      <select name="extras" multiple><option>ribbon<option>card</select><button>Order</button></form>"""
    tab = await open_form(serve, open_tab, form, delegates)

    await tab.page.fill("[name=item]", "tea")
    await tab.page.fill("[name=count]", "3")
    await tab.page.check("[name=express]")
    await tab.page.select_option("select", ["ribbon", "card"])
    await tab.page.click("button")
    # While the result of the first is out, a second is ignored.
    await tab.page.click("button")
    go_on.set()

    assert await tab.wait("pagews-result") == ["ordered"]
    assert orders == [Order("tea", 3, True, None, ["ribbon", "card"])]
    # Its listener has reset the form.
    assert await tab.page.input_value("[name=item]") == ""
    await tab.page.wait_for_selector("form:not([aria-busy])")
    await tab.page.click("button")
    assert await tab.wait("pagews-result", 2) == ["ordered", "ordered"]
    assert orders[1:] == [Order("", 1, False, None, [])]


@pytest.mark.parametrize(
    ("markup", "data"),
    [
        pytest.param(
            '<form data-pagews-send="order"><input name="a" value="1"><button>Go</button></form>', "1", id="form"
        ),
        pytest.param('<button data-pagews-send="order" data-a="2">Go</button>', "2", id="button"),
    ],
)
async def test_press_is_one_run_also_over_cuts(
    serve: Serve, put_proxy: StartProxy, open_tab: OpenTab, markup: str, data: str
) -> None:
    delegates = pagews.DelegateTableDef()
    orders: list[Any] = []
    entered, go_on = asyncio.Event(), asyncio.Event()

    @delegates.on("order")
    async def order(page: pagews.Page, data: Any) -> str:
        orders.append(data)
        entered.set()
        await go_on.wait()
        return "ordered"

    site = site_with_form(markup, delegates)
    await serve(site)
    proxy = await put_proxy(site)
    tab = await open_tab(f"{proxy.url}/form", without_jitter=True)
    tab.network_fails = True
    await tab.run("""() => document.addEventListener("pagews-result", ({ detail, target }) => {
      told("outcome", [detail, target.getAttribute("aria-busy")]);
    })""")
    link = await proxy.upgraded()

    await tab.page.click("button")
    await entered.wait()
    # One cut while the delegate runs, and one that takes the result along.
    link.cut()
    link = await proxy.upgraded()
    link.down.cut_when(before_frame(b'["result"'))
    await tab.is_in("open")
    assert await tab.page.get_attribute("[data-pagews-send]", "aria-busy") == "true"
    go_on.set()
    await link.ended()

    assert await tab.wait("outcome") == [["ordered", "true"]]
    await tab.page.wait_for_selector("[data-pagews-send]:not([aria-busy])")
    assert orders == [{"a": data}]
    assert proxy.counts["cut"] == 2


@pytest.mark.parametrize("handled", [False, True])
async def test_invalid_data_is_an_error_of_the_form(serve: Serve, open_tab: OpenTab, handled: bool) -> None:
    delegates = pagews.DelegateTableDef()

    @delegates.on("order")
    async def order(page: pagews.Page, data: Order) -> None:
        raise AssertionError("it is not an order")

    form = f'<form data-pagews-send="order" {"data-handled" if handled else ""}><input name="item"></form>'
    tab = await open_form(serve, open_tab, form, delegates)
    tab.expected = "PageError"

    await tab.run("() => { document.forms[0].requestSubmit(); }")

    [told] = await tab.wait("pagews-error")
    assert told.startswith("PageError: ")
    assert "count" in told
    await tab.page.wait_for_selector("form:not([aria-busy])", state="attached")
    assert len(tab["expected"]) == (0 if handled else 1)


async def test_page_without_an_include_says_so(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab()
    tab.expected = "pagews: this page has no include"
    await tab.page.goto(f"{site.url}/plain")

    outcome = await tab.run(
        """async () => {
          const { pagews } = await import("/pagews/static/pagews.js");
          pagews.connect();
          return [await pagews.send("x").catch(({ code }) => code), pagews.state];
        }"""
    )

    assert outcome == ["closed", "idle"]
    assert tab["expected"] == ["pagews: this page has no include: put {{ pagews_script() }} into its template"]
    assert site.journal["POST /pagews/renew"] == []
