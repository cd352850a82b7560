"""A page that holds the script but does not connect before the visitor says so."""

import aiohttp_jinja2
from aiohttp import web

import pagews
from demo import clock, policy, transport

routes = web.RouteTableDef()


@routes.get("/nostream")
@aiohttp_jinja2.template("nostream.html")
async def quiet_page(request: web.Request) -> dict[str, object]:
    page = await pagews.open_page(request, topics=[clock.TOPIC])
    await page.push("note", {"text": "Pushed while this page was rendered; it waited for you to connect."})
    return {"page": page, "nonce": policy.nonce(request), **transport.choice(request)}
