"""Small applications for tests."""

from __future__ import annotations

from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web

import pagews

KEY = "7iTCZ0BvNpUzHDyTz0XZyJsyB3Ex5lTzQ2lE6pFb4x0="

TEMPLATES = {
    "page.html": "<!doctype html><title>t</title>{{ pagews_script() }}",
    "nostream.html": "<!doctype html><title>t</title>{{ pagews_script(nostream=True, nonce='n\"x') }}",
    "twice.html": "{{ pagews_script() }}{{ pagews_script() }}",
    "none.html": "no include",
}


async def index(request: web.Request) -> web.StreamResponse:
    """A view that opens no page: the include does."""
    return aiohttp_jinja2.render_template("page.html", request, {})


def application(**options: Any) -> web.Application:
    """An application with pagews, and a page at `/`."""
    app = web.Application()
    aiohttp_jinja2.setup(app, loader=jinja2.DictLoader(TEMPLATES))
    pagews.setup(app, **({"secret_key": KEY} | options))
    app.router.add_get("/", index)
    return app
