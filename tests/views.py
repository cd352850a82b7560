"""An application with a view that opens pages."""

from __future__ import annotations

from typing import Any

from aiohttp import web

import pagews

from .apps import application


async def open_page(request: web.Request) -> web.Response:
    """A page that listens to each `topic` of the query."""
    page = await pagews.open_page(request, topics=request.query.getall("topic", []))
    return web.Response(text=str(pagews.script_tag(page)), content_type="text/html")


def site(**options: Any) -> web.Application:
    """An application with pagews, and that view at `/open`."""
    app = application(**options)
    app.router.add_get("/open", open_page)
    return app
