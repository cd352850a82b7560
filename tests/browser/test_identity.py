"""Who is at the browser changes: no message reaches a page of the old identity."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

import pagews
from tests.markdown import ROOT, blocks
from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve
from .site import Site
from .tab import Tab

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)

_FETCH = "path => fetch(path, { method: 'POST' }).then((response) => response.text())"

#: A page that takes on whoever is at the browser, and tells when it has.
_ADOPT: Final = """() => pagews.addEventListener("identity", (event) => {
  event.preventDefault();
  pagews.adopt().then(() => told("adopted", pagews.id));
})"""

_SEND: Final = (
    "data => { pagews.send('save', data, { qos: 2 }).then(told.bind(0, 'saved'), ({ code }) => told('failed', code)); }"
)

_UPLOAD: Final = """data => {
  const fields = new FormData();
  fields.append("data", data);
  fields.append("file", new Blob(["x"]), "x");
  pagews.upload("save", fields).then(told.bind(0, "saved"), ({ code }) => told("failed", code));
}"""


def make_site(**setup: Any) -> Site:
    site = Site(**setup)

    async def log_in(request: web.Request) -> web.Response:
        await pagews.login(request, "ann")
        return web.Response(text="logged in")

    async def log_out(request: web.Request) -> web.Response:
        await pagews.logout(request)
        return web.Response(text="logged out")

    site.app.router.add_post("/login", log_in)
    site.app.router.add_post("/logout", log_out)
    site.app.router.add_get("/login", log_in)
    return site


async def test_user_push_after_login(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(make_site())
    tab = await open_tab()
    await tab.page.goto(f"{site.url}/login")
    await tab.open(f"{site.url}/")
    other = await open_tab(f"{site.url}/")
    first, second = await site.journal.wait("attach", 2)
    assert first.user is not None
    assert first.user == second.user
    for each in (tab, other):
        await each.listen("mail")

    await site.publisher.user("bob").push("mail", "for bob")
    await site.publisher.user("ann").push("mail", "for ann")

    assert await tab.wait("mail") == ["for ann"]
    assert await other.wait("mail") == ["for ann"]


async def test_logout_in_one_tab_reloads_the_other(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(make_site())
    tab = await open_tab(without_jitter=True, watching=["identity"])
    await tab.page.goto(f"{site.url}/login")
    await tab.open(f"{site.url}/")
    other = await open_tab()
    await other.page.goto(f"{site.url}/plain")
    tab.network_fails = True
    [page] = await site.journal.wait("attach")

    async with tab.page.expect_event("load"):
        assert await other.run(_FETCH, "/logout") == "logged out"

    assert site.journal["POST /pagews/renew"] == [403]
    [told] = await tab.wait("identity")
    assert (told["code"], told["renewed"]) == (4503, False)
    await tab.is_in("open")
    now = (await site.journal.wait("attach", 2))[1]
    assert now.user is None
    assert now.session != page.session


async def test_login_of_this_very_page(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(make_site())
    tab = await open_tab(f"{site.url}/", without_jitter=True)
    tab.network_fails = True

    async with tab.page.expect_event("load"):
        await tab.run("() => { fetch('/login', { method: 'POST' }); }")

    await tab.is_in("open")
    page = (await site.journal.wait("attach", 2))[1]
    assert page.user is not None
    assert page.user.id == "ann"


async def test_late_answer_to_the_old_session_does_not_undo_a_login(serve: Serve, open_tab: OpenTab) -> None:
    """The other tab is closed before the cookie of the new session is there, and asks /renew with that of the old one.
    Its answer comes last, and must not take the new cookie away.
    """
    site = make_site()
    renewing, logged_in = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await pagews.login(request, "ann")
        await renewing.wait()
        return web.Response(text="logged in")

    @web.middleware
    async def answer_late(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/pagews/renew":
            return await handler(request)
        renewing.set()
        response = await handler(request)
        await logged_in.wait()
        return response

    site.app.middlewares.insert(0, answer_late)
    site.app.router.add_post("/slow", slow)
    await serve(site)
    tab = await open_tab(f"{site.url}/", watching=["identity"], keeping=["identity"])
    tab.network_fails = True
    other = await open_tab()
    await other.page.goto(f"{site.url}/plain")

    assert await other.run(_FETCH, "/slow") == "logged in"
    logged_in.set()
    await tab.wait("identity")
    await other.open(f"{site.url}/")

    page = (await site.journal.wait("attach", 2))[1]
    assert page.user is not None
    assert page.user.id == "ann"


# --- without a reload -------------------------------------------------------------------------------------------------


class Saving:
    """A delegate that takes its time.

    Attributes:
        begun: released for each run. go_on: what all wait for.
        saved: as whom, and what, in the order in which they have begun.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()
        self.saved: list[tuple[str | None, str]] = []
        self.delegates = pagews.DelegateTableDef()
        self.delegates.on("save")(self._save)

    async def _save(self, page: pagews.Page, data: Any) -> str:
        what = data["data"] if isinstance(data, dict) else data
        self.saved.append((page.user.id if page.user else None, what))
        self.begun.release()
        await self.go_on.wait()
        return str(what)


async def open_adopting(site: Site, open_tab: OpenTab, path: str = "/") -> Tab:
    """A tab whose page takes on identities, and listens to `mail`."""
    tab = await open_tab(f"{site.url}{path}", without_jitter=True)
    tab.network_fails = True
    await tab.listen("mail")
    await tab.run(_ADOPT)
    return tab


async def test_login_is_taken_on_without_a_reload(serve: Serve, open_tab: OpenTab) -> None:
    saving = Saving()
    site = make_site(delegates=saving.delegates)
    site.add_view("/news", topics=["news"])
    await serve(site)
    tab, other = await open_adopting(site, open_tab, "/news"), await open_tab()
    [old] = await site.journal.wait("attach")
    await other.page.goto(f"{site.url}/plain")
    await tab.run(_SEND, "of the first")
    await saving.begun.acquire()

    assert await other.run(_FETCH, "/login") == "logged in"

    assert await tab.wait("adopted") == [old.id]
    assert tab["failed"] == ["refused"]
    saving.go_on.set()
    new = (await site.journal.wait("attach", 2))[1]
    assert (new.id, new.user, new.topics) == (old.id, site.publisher.user("ann"), frozenset())
    for target in (old.session, site.publisher.topic("news"), site.publisher.user("bob")):
        await target.push("mail", "of the first")
    for target in (new.session, site.publisher.user("ann"), new):
        await target.push("mail", "for ann")
    assert await tab.wait("mail", 3) == ["for ann"] * 3
    await tab.run(_SEND, "of ann")
    assert await tab.wait("saved") == ["of ann"]
    assert saving.saved == [(None, "of the first"), ("ann", "of ann")]
    assert (site.rendered, tab["navigation"]) == (1, [])


async def test_logout_is_taken_on_without_a_reload(serve: Serve, open_tab: OpenTab) -> None:
    saving = Saving()
    site = await serve(make_site(delegates=saving.delegates))
    other = await open_tab()
    await other.page.goto(f"{site.url}/login")
    tab = await open_adopting(site, open_tab)
    [old] = await site.journal.wait("attach")
    await tab.run(_SEND, "of ann")
    await saving.begun.acquire()

    assert await other.run(_FETCH, "/logout") == "logged out"

    [now] = await tab.wait("adopted")
    assert now != old.id
    saving.go_on.set()
    new = (await site.journal.wait("attach", 2))[1]
    assert (new.id, new.user) == (now, None)
    for target in (old.session, old, site.publisher.user("ann")):
        await target.push("mail", "for ann")
    await new.push("mail", "for nobody")
    assert await tab.wait("mail") == ["for nobody"]
    assert (tab["failed"], saving.saved) == (["refused"], [("ann", "of ann")])
    assert site.rendered == 1


async def test_login_whose_cookie_comes_late_is_taken_on(serve: Serve, open_tab: OpenTab) -> None:
    """The page is closed before the browser has the new cookie: until then it is nobody's, and stays so."""
    site = make_site()
    answer = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await pagews.login(request, "ann")
        await answer.wait()
        return web.Response(text="logged in")

    site.app.router.add_post("/slow", slow)
    await serve(site)
    tab, other = await open_adopting(site, open_tab), await open_tab()
    await other.page.goto(f"{site.url}/plain")
    logging_in = asyncio.create_task(other.run(_FETCH, "/slow"))
    await site.journal.until(lambda: 503 in site.journal["POST /pagews/renew"], "answer to the old cookie")
    assert tab["adopted"] == []
    answer.set()
    await logging_in
    await tab.wait("adopted")

    asked = site.journal["POST /pagews/renew"]
    assert asked == [403, *[503] * (len(asked) - 2), 200]
    new = (await site.journal.wait("attach", 2))[1]
    assert new.user is not None
    await other.open(f"{site.url}/")
    rendered = (await site.journal.wait("attach", 3))[2]
    assert rendered.session == new.session


async def test_upload_that_waits_for_its_turn_is_not_the_new_users(serve: Serve, open_tab: OpenTab) -> None:
    saving = Saving()
    site = await serve(make_site(delegates=saving.delegates))
    tab, other = await open_adopting(site, open_tab), await open_tab()
    await other.page.goto(f"{site.url}/plain")
    await tab.run(_UPLOAD, "first")
    await saving.begun.acquire()
    # On a WebSocket it is under way at once, too.
    await tab.run(_UPLOAD, "second")
    if site.transport == "websocket":
        await saving.begun.acquire()

    assert await other.run(_FETCH, "/login") == "logged in"
    await tab.wait("adopted")
    saving.go_on.set()
    await tab.run(_UPLOAD, "third")

    await tab.until(lambda: "third" in tab["saved"], "upload of the new user")
    at_once = ["first", "second"] if site.transport == "websocket" else ["first"]
    assert saving.saved == [*((None, what) for what in at_once), ("ann", "third")]
    assert tab["failed"] == ["refused"] * (2 - len(at_once))
    await tab.until(lambda: len(tab["saved"]) > len(at_once), "outcome of all")


async def test_example_of_the_documentation(serve: Serve, open_tab: OpenTab) -> None:
    examples = blocks(ROOT / "docs/how-to/login-and-logout.md")
    [script] = [block.code for block in examples if "adopt()" in block.code]
    [delegate] = [block.code for block in examples if '.on("who")' in block.code]
    delegates = pagews.DelegateTableDef()
    exec(delegate, {"delegates": delegates, "pagews": pagews})
    site = await serve(make_site(delegates=delegates))
    tab, other = await open_tab(f"{site.url}/"), await open_tab()
    tab.network_fails = True
    await tab.run("document.body.append(Object.assign(document.createElement('p'), { id: 'user' }))")
    await tab.run(f"() => {{ {script} }}")
    await other.page.goto(f"{site.url}/plain")

    for path, name in (("/login", "ann"), ("/logout", "nobody")):
        await other.run(_FETCH, path)
        await tab.page.get_by_text(name, exact=True).wait_for()
    assert site.rendered == 1
