"""A site with pagews, as strict about scripts as a site can be."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import aiohttp_jinja2
import jinja2
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

import pagews
from pagews.templating import Transport
from pagews.tokens import new_key

from .journal import Journal

_POLICY: Final = "; ".join(
    [
        "default-src 'self'",
        "script-src 'nonce-{nonce}' 'strict-dynamic'",
        "require-trusted-types-for 'script'",
        "trusted-types pagews",
        "base-uri 'none'",
        "object-src 'none'",
    ]
)

_TEMPLATES: Final = {
    "page.html": """<!doctype html>
<html lang="en">
<title>A page</title>
<form><textarea aria-label="Text"></textarea></form>
{{ pagews_script(nonce=nonce, transport=transport) }}
</html>
""",
    "nostream.html": """<!doctype html>
<html lang="en">
<title>A page that waits</title>
{{ pagews_script(nonce=nonce, nostream=True, transport=transport) }}
</html>
""",
    "markup.html": """<!doctype html>
<html lang="en">
<title>A page that needs no script of its own</title>
<p data-pagews-text="basket:items.count">none</p>
<i data-pagews-on="basket"></i>
<form data-pagews-send="wait"><input name="item" value="tea"><button>Send</button></form>
{{ pagews_script(nonce=nonce, transport=transport) }}
</html>
""",
    "classic.html": """<!doctype html>
<html lang="en">
<title>A page with a classic script</title>
<script nonce="{{ nonce }}">
  document.addEventListener("pagews:ready", ({ detail }) => {
    const at = { before: typeof pagews, same: detail === window.pagews, state: detail.state };
    detail.on("growl", (data) => void told("growl", data));
    void told("ready", at);
  });
</script>
{{ pagews_script(nonce=nonce, transport=transport) }}
</html>
""",
    # Everything by which a text becomes code.
    "forbidden.html": """<!doctype html>
<html lang="en">
<title>A page with what the policy forbids</title>
<script>ran("inline")</script>
<script nonce="of-another-response">ran("nonce")</script>
<body onload="ran('handler')">
<a href="javascript:ran('link')">A link</a>
<script nonce="{{ nonce }}">
  const tries = {
    eval: () => eval("ran('eval')"),
    Function: () => new Function("ran('Function')")(),
    setTimeout: () => setTimeout("ran('setTimeout')"),
    innerHTML: () => { document.body.innerHTML = "<img src='x' onerror='ran(`innerHTML`)'>"; },
    text: () => { document.createElement("script").text = "ran('text')"; },
    src: () => { document.createElement("script").src = "data:text/javascript,ran('src')"; },
    createPolicy: () => trustedTypes.createPolicy("another", { createHTML: (text) => text }),
  };
  const outcomes = {};
  for (const [name, attempt] of Object.entries(tries)) {
    try {
      attempt();
      outcomes[name] = "done";
    } catch (error) {
      outcomes[name] = error.name;
    }
  }
  told("tried", outcomes);
</script>
{{ pagews_script(nonce=nonce, transport=transport) }}
</html>
""",
}


class Site:
    """An application, and where it can be reached once it runs.

    Attributes:
        rendered: how many pages it has rendered. Its journal notes `attach`, `detach` and `gone` with the `Page`,
            and the status of each answer under its method and path.
        transport: what its pages are forced to; None: they choose.
    """

    def __init__(self, **setup: Any) -> None:
        self.app = web.Application(middlewares=[self._note_requests])
        self.journal = Journal()
        self.rendered = 0
        self.transport: Transport | None = None
        self.url = ""
        self.port = 0
        aiohttp_jinja2.setup(self.app, loader=jinja2.DictLoader(_TEMPLATES))
        pagews.setup(self.app, **{"secret_key": new_key()} | setup)
        self.add_view("/")
        self.app.router.add_get("/plain", _plain)
        self.app.router.add_get("/favicon.ico", _no_icon)
        self.app.on_startup.append(self._listen)

    @property
    def publisher(self) -> pagews.Publisher:
        return pagews.get_publisher(self.app)

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1; port 0: any."""
        self._server = TestServer(self.app, port=port)
        await self._server.start_server()
        assert self._server.port is not None
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        await self._server.close()

    def render(self, request: web.Request, template: str = "page.html") -> web.Response:
        """Render a page under the policy."""
        self.rendered += 1
        nonce = secrets.token_urlsafe(16)
        response = aiohttp_jinja2.render_template(template, request, {"nonce": nonce, "transport": self.transport})
        response.headers["Content-Security-Policy"] = _POLICY.format(nonce=nonce)
        return response

    def add_view(self, path: str, template: str = "page.html", *, topics: Iterable[str] = ()) -> None:
        """Add a view that renders a page."""

        async def view(request: web.Request) -> web.Response:
            if topics:
                await pagews.open_page(request, topics=topics)
            return self.render(request, template)

        self.app.router.add_get(path, view)

    @web.middleware
    async def _note_requests(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        return await with_status(
            request, handler, lambda status: self.journal.note(f"{request.method} {request.path}", status)
        )

    async def _listen(self, app: web.Application) -> None:
        self.publisher.on_attach.append(self._noting("attach"))
        self.publisher.on_detach.append(self._noting("detach"))
        self.publisher.on_gone.append(self._noting("gone"))

    def _noting(self, name: str) -> Callable[[pagews.Page], Awaitable[None]]:
        async def note(page: pagews.Page) -> None:
            self.journal.note(name, page)

        return note


async def with_status(request: web.Request, handler: Handler, note: Callable[[int], object]) -> web.StreamResponse:
    """Answer a request, and note with what status, also when that is an exception."""
    status = 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as error:
        status = error.status
        raise
    finally:
        note(status)


async def _plain(request: web.Request) -> web.Response:
    """A page of the site without pagews."""
    return web.Response(text="<!doctype html><title>Plain</title>", content_type="text/html")


async def _no_icon(request: web.Request) -> web.Response:
    return web.Response(status=204)
