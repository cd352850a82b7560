"""The demo application: pagews set up once, and the panels added one by one."""

from pathlib import Path

import aiohttp_jinja2
import jinja2
from aiohttp import web

import pagews
from demo import ask, chat, clock, echo, job, nostream, policy, reconnect, source, targets, transport, upload, workers

HERE = Path(__file__).parent
PREFIX = "/pagews"

routes = web.RouteTableDef()
routes.static("/static", HERE / "static")


@routes.get("/")
@aiohttp_jinja2.template("index.html")
async def index(request: web.Request) -> dict[str, object]:
    page = await pagews.open_page(request, topics=[clock.TOPIC])
    return {"page": page, "nonce": policy.nonce(request), **transport.choice(request)}


def create_app(
    secret_key: str | None = None, *, broker: str | pagews.Broker = "memory://", worker: str | None = None
) -> web.Application:
    """The demo site. Without ``secret_key`` and ``PAGEWS_SECRET_KEY`` it makes up a key that lasts until it stops.

    ``worker``: what this process is called, if it is one of several.
    """
    app = web.Application(middlewares=[policy.same_origin_posts])
    app.on_response_prepare.append(policy.add_headers)
    templates = aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(HERE / "templates"))
    templates.globals["transports"] = transport.CHOICES
    templates.globals["pagews_prefix"] = PREFIX
    templates.globals["worker"] = worker
    pagews.setup(
        app,
        secret_key=secret_key,
        broker=broker,
        prefix=PREFIX,
        debug=True,
        delegates=[
            reconnect.delegates,
            job.delegates,
            chat.delegates,
            ask.delegates,
            targets.delegates,
            upload.delegates,
            *([workers.delegates] if worker else []),
        ],
        authorize=chat.may_join,
    )
    app.add_routes(routes)
    for panel in (targets, echo, nostream, source):
        app.add_routes(panel.routes)
    for panel_with_tasks in (reconnect, job, chat, clock):
        panel_with_tasks.setup(app)
    if worker:
        workers.setup(app, worker)
    return app
