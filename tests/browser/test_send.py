"""The page sends, delegates of the server answer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

import pagews
from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve
from .site import Site

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)

#: Sends, and says how that ended.
_OUTCOME = """async ([delegate, data, options]) => {
  const { PageError } = await import("/pagews/static/pagews.js");
  try {
    return ["result", await pagews.send(delegate, data, options)];
  } catch (error) {
    return error instanceof PageError ? ["PageError", error.code, error.message] : [error.name, error.message];
  }
}"""


#: Arguments of `send`, and the name of the error that they are refused with.
_WRONG = {
    "''": "TypeError",
    "'a\\nb'": "TypeError",
    "'echo', 1n": "TypeError",
    "'echo', () => 1": "TypeError",
    "'echo', 1, { qos: 3 }": "TypeError",
    "'echo', 1, { timeout: 0 }": "TypeError",
    "'echo', 1, { signal: AbortSignal.abort() }": "AbortError",
}


class Order(msgspec.Struct):
    item: str
    count: int


def table() -> pagews.DelegateTableDef:
    delegates = pagews.DelegateTableDef()

    @delegates.on("echo")
    async def echo(page: pagews.Page, data: Any) -> Any:
        return {"echo": data}

    @delegates.on("order")
    async def order(page: pagews.Page, data: Order) -> Any:
        return f"{data.count} {data.item}"

    @delegates.on("sold out")
    async def sold_out(page: pagews.Page, data: Any) -> None:
        raise pagews.DelegateError("sold-out", "come back tomorrow")

    @delegates.on("bug")
    async def bug(page: pagews.Page, data: Any) -> None:
        raise ValueError("the password is swordfish")

    @delegates.on("object")
    async def unencodable(page: pagews.Page, data: Any) -> Any:
        return object()

    @delegates.on("reverse")
    async def reverse(page: pagews.Page, data: bytes) -> bytes:
        return data[::-1]

    @delegates.on("for ever")
    async def for_ever(page: pagews.Page, data: Any) -> None:
        await asyncio.Event().wait()

    @delegates.on("growl back")
    async def growl_back(page: pagews.Page, data: Any) -> None:
        await page.push("growl", data)

    return delegates


def add_waiting(delegates: pagews.DelegateTableDef) -> asyncio.Event:
    """Add a delegate that waits for the event, and then returns what it was sent."""
    go_on = asyncio.Event()

    @delegates.on("wait")
    async def wait(page: pagews.Page, data: Any) -> Any:
        await go_on.wait()
        return ["waited", data]

    return go_on


@pytest.mark.parametrize("qos", [1, 2])
async def test_result(serve: Serve, open_tab: OpenTab, qos: int) -> None:
    site = await serve(delegates=table())
    tab = await open_tab(f"{site.url}/")

    for data in ({"hello": "wörld"}, [1, 2.5, None, True], "text", 0, None):
        assert await tab.run(_OUTCOME, ["echo", data, {"qos": qos}]) == ["result", {"echo": data}]


async def test_fault_28_delegate_that_raises_hangs_or_returns_nonsense(
    serve: Serve, open_tab: OpenTab, caplog: pytest.LogCaptureFixture
) -> None:
    site = await serve(delegates=table(), limits=pagews.Limits(callback=0.2))
    tab = await open_tab(f"{site.url}/")

    async def outcome(*arguments: object) -> list[str]:
        found: list[str] = await tab.run(_OUTCOME, arguments)
        return found

    assert (await outcome("nobody", 1))[:2] == ["PageError", "unknown-delegate"]
    assert await outcome("sold out", 1) == ["PageError", "sold-out", "come back tomorrow"]
    kind, code, message = await outcome("order", {"item": "tea", "count": "many"})
    assert (kind, code) == ("PageError", "invalid-data")
    assert "count" in message
    for name in ("bug", "object"):
        kind, code, message = await outcome(name, 1)
        assert (kind, code) == ("PageError", "internal")
        assert "swordfish" not in message
        assert "object" not in message
    assert (await outcome("for ever", 1))[:2] == ["PageError", "timeout"]
    assert (await outcome("echo", "x" * 100_000))[:2] == ["PageError", "toolarge"]
    # Nothing of that has harmed the page.
    assert await outcome("order", {"item": "tea", "count": 2}) == ["result", "2 tea"]
    assert len(site.journal["attach"]) == 1
    assert "swordfish" in caplog.text


async def test_wrong_calls(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(delegates=table())
    tab = await open_tab(f"{site.url}/")

    for arguments, name in _WRONG.items():
        assert await tab.run(f"() => pagews.send({arguments}).catch((error) => error.name)") == name, arguments
    assert await tab.run(_OUTCOME, ["echo", 1]) == ["result", {"echo": 1}]


async def test_timeout_of_the_page_itself(serve: Serve, open_tab: OpenTab) -> None:
    delegates = table()
    go_on = add_waiting(delegates)
    site = await serve(delegates=delegates)
    tab = await open_tab(f"{site.url}/")

    assert (await tab.run(_OUTCOME, ["wait", 1, {"timeout": 50}]))[:2] == ["PageError", "timeout"]
    go_on.set()


async def test_close_rejects_what_waits_and_what_comes(serve: Serve, open_tab: OpenTab) -> None:
    delegates = table()
    go_on = add_waiting(delegates)
    site = await serve(delegates=delegates)
    tab = await open_tab(f"{site.url}/")

    waiting = asyncio.create_task(tab.run(_OUTCOME, ["wait", 1]))
    await tab.page.wait_for_function("() => pagews.busy")
    await tab.run("pagews.close()")

    assert (await waiting)[:2] == ["PageError", "closed"]
    assert (await tab.run(_OUTCOME, ["echo", 1]))[:2] == ["PageError", "closed"]
    go_on.set()
    await tab.run("pagews.connect()")
    assert await tab.run(_OUTCOME, ["echo", 1]) == ["result", {"echo": 1}]


async def test_send_before_the_link_is_open_waits_for_it(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(delegates=table())
    tab = await open_tab(f"{site.url}/")

    outcome = await tab.run(
        "() => { pagews.suspend(); const sent = pagews.send('echo', 1); pagews.resume(); return sent; }"
    )

    assert outcome == {"echo": 1}


async def test_qos_0(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(delegates=table())
    tab = await open_tab(f"{site.url}/")
    await tab.listen("growl")

    assert await tab.run(_OUTCOME, ["growl back", "no answer but this", {"qos": 0}]) == ["result", None]
    assert await tab.wait("growl") == ["no answer but this"]
    await tab.run("pagews.suspend()")
    assert (await tab.run(_OUTCOME, ["growl back", 1, {"qos": 0}]))[:2] == ["PageError", "closed"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_binary_both_ways(serve: Serve, open_tab: OpenTab, qos: int) -> None:
    site = await serve(delegates=table())
    tab = await open_tab(f"{site.url}/")

    for sent in ("new Uint8Array([1, 2, 255])", "new Uint8Array([9, 1, 2, 255]).subarray(1)", "new Uint8Array(0)"):
        came = await tab.run(
            f"""async (qos) => {{
              const came = await pagews.send("reverse", {sent}, {{ qos }});
              return [came instanceof Uint8Array, Array.from(came)];
            }}""",
            qos,
        )
        assert came == [True, [] if "(0)" in sent else [255, 2, 1]]


async def test_form_in_markup_sends_its_fields(serve: Serve, open_tab: OpenTab) -> None:
    delegates = table()
    go_on = add_waiting(delegates)
    site = Site(delegates=delegates)
    site.add_view("/markup", "markup.html")
    await serve(site)
    tab = await open_tab(f"{site.url}/markup")
    await tab.run("document.addEventListener('pagews-result', ({ detail }) => told('result', detail))")

    await tab.page.click("form button")
    assert await tab.page.get_attribute("form", "aria-busy") == "true"
    go_on.set()

    assert await tab.wait("result") == [["waited", {"item": "tea"}]]
    await tab.page.wait_for_function("() => !document.querySelector('form').hasAttribute('aria-busy')")
