"""Run by the Python of a fresh environment: serves a small site with pagews, visits it, and prints what it got.

python serve.py MODULE.js ...      the modules of the client to fetch
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from cryptography.fernet import Fernet

import pagews


class ScriptSource(HTMLParser):
    """Finds the address of the one script of a page."""

    address = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.address = dict(attrs)["src"] or ""


async def index(request: web.Request) -> web.Response:
    page = await pagews.open_page(request)
    return web.Response(text=str(pagews.script_tag(page)), content_type="text/html")


async def visit(names: list[str]) -> dict[str, Any]:
    app = web.Application()
    pagews.setup(app, secret_key=Fernet.generate_key())
    app.router.add_get("/", index)
    async with TestServer(app) as server, ClientSession() as client:
        async with client.get(server.make_url("/")) as response:
            source = ScriptSource()
            source.feed(await response.text())
        modules = {}
        for name in names:
            async with client.get(server.make_url(urljoin(source.address, name))) as response:
                content = await response.read()
                modules[name] = {
                    "status": response.status,
                    "type": response.content_type,
                    "digest": hashlib.sha256(content).hexdigest(),
                }
        async with client.get(server.make_url("/pagews/socket")) as response:
            refusal = {"status": response.status, "type": response.content_type, "text": await response.text()}
    return {"package": pagews.__file__, "address": source.address, "modules": modules, "refusal": refusal}


print(json.dumps(asyncio.run(visit(sys.argv[1:]))))
