"""The session cookie of the servers that bring none of their own."""

from __future__ import annotations

import secrets

from aiohttp import web
from aiohttp_session import get_session, new_session, setup
from aiohttp_session.cookie_storage import EncryptedCookieStorage


def setup_session(app: web.Application) -> None:
    """Keep the session in an encrypted cookie, and serve a page that starts one."""
    setup(app, EncryptedCookieStorage(secrets.token_bytes(32)))
    app.router.add_get("/", _page)


async def session_id(request: web.Request) -> str:
    """The id that the page left in the session; a browser without one may not connect."""
    session = await get_session(request)
    if "id" not in session:
        raise web.HTTPForbidden
    return str(session["id"])


async def _page(request: web.Request) -> web.Response:
    session = await new_session(request)
    session["id"] = secrets.token_urlsafe(16)
    return web.Response(text="<!doctype html><title>bench</title>", content_type="text/html")
