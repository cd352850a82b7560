"""Shows a panel's own source, so that what one reads is what runs."""

from pathlib import Path
from typing import Final

import aiohttp_jinja2
from aiohttp import web

from demo import transport

HERE: Final = Path(__file__).parent
PANELS: Final = ("reconnect", "job", "chat", "clock", "ask", "targets", "echo", "upload", "nostream", "workers")
SOURCES: Final = {
    panel: [(f"demo/{file}", (HERE / file).read_text("utf-8")) for file in (f"{panel}.py", f"static/{panel}.js")]
    for panel in PANELS
}

routes = web.RouteTableDef()


@routes.get("/source/{panel}")
@aiohttp_jinja2.template("source.html")
async def source(request: web.Request) -> dict[str, object]:
    panel = request.match_info["panel"]
    if panel not in SOURCES:
        raise web.HTTPNotFound(text=f"There is no panel {panel!r}.")
    return {"panel": panel, "files": SOURCES[panel], **transport.choice(request)}
