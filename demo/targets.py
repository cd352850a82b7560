"""One text, pushed to this page, to all pages of this browser, or to all pages of a user."""

from collections.abc import Mapping
from typing import Annotated, Literal

import aiohttp_jinja2
from aiohttp import web
from msgspec import Meta, Struct

import pagews
from demo import policy, transport

USERS = ("ann", "bob")

delegates = pagews.DelegateTableDef()
routes = web.RouteTableDef()


class Note(Struct):
    to: Literal["page", "session", "user"]
    text: Annotated[str, Meta(min_length=1, max_length=200)]


@delegates.on("note_push")
async def push_note(page: pagews.Page, data: Note) -> None:
    target = {"page": page, "session": page.session, "user": page.user}[data.to]
    if target is None:
        raise pagews.DelegateError("nobody", "Nobody is logged in here: become ann or bob first.")
    await target.push("note", {"text": data.text})


@routes.get("/tab")
@aiohttp_jinja2.template("tab.html")
async def tab(request: web.Request) -> dict[str, object]:
    return {
        "page": await pagews.open_page(request),
        "nonce": policy.nonce(request),
        **transport.choice(request),
    }


@routes.get("/side-by-side")
@aiohttp_jinja2.template("side_by_side.html")
async def side_by_side(request: web.Request) -> dict[str, object]:
    return transport.choice(request)


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    form = await request.post()
    user = form.get("user")
    if user not in USERS:
        raise web.HTTPBadRequest(text="The demo knows ann and bob.")
    await pagews.login(request, str(user))
    raise back(form)


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    form = await request.post()
    await pagews.logout(request)
    raise back(form)


def back(form: Mapping[str, object]) -> web.HTTPSeeOther:
    """To the page that the form stands in, with the transport that it has."""
    query = transport.query(form.get("transport"))
    return web.HTTPSeeOther(f"/tab{query}" if form.get("from") == "/tab" else f"/{query}#targets")
