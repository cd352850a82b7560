"""The client's modules, as they stand in the package `pagews.static`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from aiohttp import web

_SCRIPTS: Final = {path.name: path for path in Path(str(files("pagews.static"))).iterdir() if path.suffix == ".js"}

_HEADERS: Final = {
    "Content-Type": "text/javascript; charset=utf-8",
    # Asked for again each time, answered 304 by its ETag: modules of two releases must not meet in a browser.
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


async def script(request: web.Request) -> web.StreamResponse:
    """One module of the client."""
    path = _SCRIPTS.get(request.match_info["name"])
    if path is None:
        raise web.HTTPNotFound
    return web.FileResponse(path, headers=_HEADERS)
