"""The client and the demo under a strict content security policy, in a browser that means it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import BrowserContext, FilePayload

import pagews
from demo.app import create_app
from demo.source import PANELS
from pagews.tokens import new_key
from tests.hostile import HOSTILE
from tests.markdown import Example

from .conftest import OpenTab, Serve
from .site import Site
from .tab import Tab

#: What pagews says that it runs under; a site may be stricter.
STRICT: Final = {
    "default-src 'self'",
    "script-src 'nonce-N' 'strict-dynamic'",
    "require-trusted-types-for 'script'",
    "trusted-types pagews",
}

_RAN: Final = "window.ran = (what) => told('ran', what);"


# --- the demo ---------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def demo() -> AsyncIterator[str]:
    """The demo's address."""
    async with TestServer(create_app(new_key())) as server:
        yield str(server.make_url("")).rstrip("/")


async def load(tab: Tab, url: str, *, scripts: bool = True) -> None:
    """Load a page that has the strict policy; in one without scripts of its own none may run."""
    response = await tab.page.goto(url)
    assert response is not None
    policy = re.sub("'nonce-[^']+'", "'nonce-N'", response.headers["content-security-policy"])
    if not scripts:
        policy = policy.replace("script-src 'none'", "script-src 'nonce-N' 'strict-dynamic'")
    assert set(policy.split("; ")) >= STRICT
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/", "/?transport=stream", "/?transport=poll", "/tab"])
async def test_pages_of_the_demo_keep_the_policy(demo: str, open_tab: OpenTab, path: str) -> None:
    tab = await open_tab()
    await load(tab, demo + path)
    await tab.is_in("open")


async def test_quiet_page_of_the_demo_keeps_the_policy(demo: str, open_tab: OpenTab) -> None:
    tab = await open_tab()
    await load(tab, f"{demo}/nostream")
    await tab.page.click("#connect")
    await tab.page.wait_for_selector("#notes li")


async def test_frames_of_the_demo_keep_the_policy(demo: str, open_tab: OpenTab) -> None:
    tab = await open_tab()
    # Both begin a session; the one whose cookie is replaced may not renew its token, and loads again.
    tab.network_fails = True
    await load(tab, f"{demo}/side-by-side", scripts=False)
    frames = tab.page.frames[1:]
    assert len(frames) == 2
    for frame in frames:
        await frame.wait_for_function("() => window.pagews?.state === 'open'")


async def test_pages_of_the_demo_without_scripts_keep_the_policy(demo: str, open_tab: OpenTab) -> None:
    tab = await open_tab()
    tab.network_fails = True  # so the browser calls a 426, which is a page to read all the same
    for path in (*(f"/source/{panel}" for panel in PANELS), "/pagews/socket"):
        await load(tab, demo + path, scripts=False)
        assert await tab.page.inner_text("h1")


async def test_whatever_one_does_in_the_demo_keeps_the_policy(demo: str, open_tab: OpenTab) -> None:
    tab = await open_tab()
    await tab.page.add_init_script(_RAN)
    await tab.open(f"{demo}/")
    page = tab.page

    await page.click("#stream-start")
    await page.click("#cut-browser")
    await page.wait_for_selector("#count-cuts:text-is('1')")
    await page.click("#job-start")
    await page.wait_for_selector("#job-log li")

    await page.fill("#chat-name", HOSTILE[0])
    await page.click("#chat-enter button")
    for text in HOSTILE:
        await page.fill("#chat-text", text)
        await page.click("#chat-say button.primary")
        await page.wait_for_function("() => document.getElementById('chat-text').value === ''")
    await page.wait_for_selector(f"#chat-lines li:nth-child({len(HOSTILE)})")

    await page.fill("#note-text", HOSTILE[0])
    await page.click("#note-form [value=session]")
    await page.wait_for_selector("#notes li")
    assert HOSTILE[0] in await page.inner_text("#notes")

    await page.fill("#echo-text", HOSTILE[0])
    await page.click("#echo-form button.primary")
    await page.wait_for_selector("#echo-log li:nth-child(3)")

    await page.click("#trash-empty")
    await page.click("#confirm [value=yes]")
    await page.wait_for_selector("#trash-status:has-text('deleted')")

    await page.set_input_files("#upload-file", FilePayload(name=HOSTILE[6], mimeType="text/plain", buffer=b"x"))
    await page.click("#upload-form button")
    await page.wait_for_selector("#upload-form output:not(:empty)")

    # Its session ends with that: should its socket hear so first, it asks for a token, and is told 403.
    tab.network_fails = True
    await page.click("button[value=ann]")
    await page.wait_for_selector("button:text-is('Log ann out')")
    await tab.is_in("open")
    assert tab["ran"] == []


async def test_the_guide_keeps_its_policy(open_tab: OpenTab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Example(tmp_path, monkeypatch).write("docs/how-to/content-security-policy.md").load("app").app
    async with TestServer(app) as server:
        tab = await open_tab()
        tab.network_fails = True  # the browser looks for an icon
        await load(tab, str(server.make_url("/")))
        await tab.page.wait_for_selector("p:text-is('It runs.')")
        await tab.page.goto("about:blank")


# --- what a template embeds -------------------------------------------------------------------------------------------

_FORM: Final = """() => {
  const form = document.querySelector("form");
  const hidden = (name) => form.elements.namedItem(name).value;
  return {
    id: form.id, title: form.title, delegate: hidden("pagews.delegate"), back: hidden("pagews.back"),
    outcome: form.querySelector("output").textContent, rest: form.nextElementSibling.outerHTML,
    scripts: document.scripts.length, nonce: document.scripts[0].nonce,
  };
}"""


async def test_threat_25_what_is_embedded_cannot_end_its_tag(serve: Serve, open_tab: OpenTab) -> None:
    delegates = pagews.DelegateTableDef()
    names = ["".join(filter(str.isprintable, text)) for text in HOSTILE]

    async def fail(page: pagews.Page, data: dict[str, str]) -> None:
        raise pagews.DelegateError("hostile", HOSTILE[int(data["number"])])

    for name in names:
        delegates.on(name)(fail)
    site = Site(delegates=delegates)

    # No policy stands behind it here: what got out would run.
    async def view(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        page, text = await pagews.open_page(request), HOSTILE[number]
        form = f"{pagews.form_tag(page, names[number], id=text, title=text)}<input name=number value={number}></form>"
        script = pagews.script_tag(page, nonce=text, transport="websocket")
        html = f"<!doctype html><title>A form</title>{form}<p>the rest</p>{script}"
        return web.Response(text=html, content_type="text/html")

    site.app.router.add_get("/{number}", view)
    await serve(site)
    tab = await open_tab()
    tab.expected = "PageError"
    await tab.page.add_init_script(_RAN)
    for number, (name, text) in enumerate(zip(names, HOSTILE, strict=True)):
        shown = {"id": text, "title": text, "delegate": name, "rest": "<p>the rest</p>", "scripts": 1, "nonce": text}
        await tab.open(f"{site.url}/{number}?{text}")
        told = await tab.run(_FORM)
        assert told.items() >= {**shown, "outcome": ""}.items()
        assert told["back"].startswith(f"/{number}?")

        # Posted by the browser itself, its outcome comes with the next page.
        async with tab.page.expect_navigation():
            await tab.run("() => { HTMLFormElement.prototype.submit.call(document.forms[0]); }")
        await tab.is_in("open")
        assert (await tab.run(_FORM)).items() >= {**shown, "outcome": text}.items()

        # Sent by the client, its outcome is written by a script.
        await tab.run("() => { document.querySelector('output').textContent = ''; }")
        await tab.run("() => { document.forms[0].requestSubmit(); }")
        await tab.page.wait_for_selector("output:not(:empty)", state="attached")
        assert (await tab.run(_FORM))["outcome"] == text
    assert tab["ran"] == []


# --- what the policy forbids ------------------------------------------------------------------------------------------


async def test_threat_26_no_inline_script_and_no_eval_runs_and_pagews_does(
    serve: Serve, context: BrowserContext
) -> None:
    site = Site()
    site.add_view("/tries", "forbidden.html")
    await serve(site)
    tab = await Tab.new(context)
    await tab.page.add_init_script(_RAN)

    await tab.open(f"{site.url}/tries")

    [tried] = await tab.wait("tried")
    assert set(tried.values()) <= {"EvalError", "TypeError"}
    await tab.page.click("text=A link")
    await tab.listen("growl")
    await site.publisher.page(await tab.id()).push("growl", HOSTILE[0])
    assert await tab.wait("growl") == [HOSTILE[0]]
    assert tab["ran"] == []
    # Each of the tries, the two scripts, the handler and the link: the browser has refused them, and pagews none.
    assert {violation["sourceFile"] for violation in tab["violation"]} <= {f"{site.url}/tries", ""}
    assert len(tab["violation"]) >= len(tried) + 4
