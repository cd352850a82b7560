"""`setup()`: application keys, routes, middleware, start and stop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Final

import aiohttp_session
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp_session import AbstractStorage

from .addresses import Addresses
from .admission import Sockets
from .broker import Broker
from .controller import check_handler, websocket_start
from .delegates import Delegates, DelegateTableDef
from .drain import drain
from .errors import ConfigurationError
from .fallback import poll, post, stream
from .form import form
from .gates import is_gate
from .identity import CookieStorage, Identities, UserFunction
from .limits import Limits
from .origin import as_written
from .page_handler import PageHandler
from .publisher import Publisher
from .renew import renew
from .site import OWN_ROUTES, SITE, SITE_OF_REQUEST, SOCKET_ROUTE, Authorize, Site, get_site
from .static_files import script
from .templating import opened_page, prepare
from .tokens import ENVIRONMENT, HOW_TO, SecretKey, Tokens, new_id, new_key, read_keys

logger = logging.getLogger("pagews")

#: What a response with a page says, unless it says otherwise: a cached page would come back with an old token.
CACHE_CONTROL: Final = "private, no-cache"


def setup(
    app: web.Application,
    *,
    secret_key: SecretKey = None,
    broker: str | Broker = "memory://",
    prefix: str = "/pagews",
    public_prefix: str | None = None,
    sessions: AbstractStorage | None = None,
    user: UserFunction | None = None,
    delegates: DelegateTableDef | Sequence[DelegateTableDef] = (),
    handler: type[PageHandler] = PageHandler,
    allowed_origins: Iterable[str] = (),
    trusted_proxies: Iterable[str] = (),
    authorize: Authorize | None = None,
    limits: Limits | None = None,
    debug: bool = False,
) -> None:
    """Set pagews up for an application: its routes, its middleware, its start and stop.

    Arguments:
        secret_key: a Fernet key or several, for page tokens and the session cookie: the first encrypts, all decrypt.
            None: `PAGEWS_SECRET_KEY` of the environment, several separated by spaces or commas.
        broker: `memory://`; `redis://HOST:PORT` (also `rediss://`, `unix://`) where there are several processes, which
            takes the extra `pagews[redis]`; or a `Broker`.
        prefix: the path of pagews's routes.
        public_prefix: what the browser sees instead, when a proxy strips a path.
        sessions: an aiohttp-session storage. None: what the application has set up before, else an encrypted cookie.
        user: `async (request) -> str | None`, asked at render and at attach; None: what `pagews.login` has set.
        delegates: one table, or several; later ones by `add_delegates`.
        handler: the class of the page socket's handler.
        allowed_origins: origins such as `https://example.org` that may connect. Given any, they replace the default,
            which is the request's own host and port.
        trusted_proxies: addresses and networks, such as `127.0.0.1` or `10.0.0.0/8`, or `unix`, of proxies whose
            `X-Forwarded-For` says who a visitor is. None is believed by default.
        authorize: `async (page, topic) -> bool` for joins from the browser; None: deny.
        limits: every bound and time span.
        debug: without a secret key, make a random one with a warning.

    Raises:
        ConfigurationError: something does not fit; the text says what to do.
    """
    _check_app(app)
    keys = _keys(secret_key, debug)
    limits = Limits() if limits is None else limits
    if not isinstance(limits, Limits):
        raise ConfigurationError(f"limits={limits!r}: give pagews.Limits(...)")
    if sessions is not None and not isinstance(sessions, AbstractStorage):
        raise ConfigurationError(f"sessions={sessions!r}: give an aiohttp_session storage, an AbstractStorage")
    check_handler("handler", handler, PageHandler)
    _check_async("user", user)
    if authorize is not None and not is_gate(authorize, 2):
        raise ConfigurationError(f"authorize={authorize!r}: write it as 'async def may_join(page, topic)'")
    publisher = Publisher(broker, limits=limits, app=app, new_page_id=new_id)
    identities = Identities(sessions or CookieStorage(keys), user)
    identities.node = publisher.node
    site = Site(
        app=app,
        limits=limits,
        counters=publisher.counters,
        tokens=Tokens(keys, limits.token_life),
        identities=identities,
        delegates=Delegates(publisher.counters, limits.callback, limits.delegates),
        publisher=publisher,
        node=publisher.node,
        handler=handler,
        authorize=authorize,
        allowed_origins=_origins(allowed_origins),
        sockets=Sockets(_addresses(trusted_proxies), limits, publisher.counters),
        public_prefix=None if public_prefix is None else _path("public_prefix", public_prefix),
    )
    for table in delegates if isinstance(delegates, list | tuple) else [delegates]:
        _add_table(site, table)
    _add_routes(app, _path("prefix", prefix))
    app[SITE] = site
    app.middlewares.append(_middleware(site, own_sessions=sessions is not None))
    app.cleanup_ctx.append(_run)
    app.on_shutdown.append(drain)


def add_delegates(app: web.Application, table: DelegateTableDef) -> None:
    """Add a table of delegates after `setup()`.

    Raises:
        ConfigurationError: pagews is not set up, or a name is taken already.
    """
    _add_table(get_site(app), table)


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_app(app: web.Application) -> None:
    if not isinstance(app, web.Application):
        raise ConfigurationError(f"setup() takes the web.Application, not {type(app).__name__}")
    if SITE in app:
        raise ConfigurationError("pagews is set up for this application already: call setup() once")
    if app.pre_frozen:
        raise ConfigurationError("the application has started, or is part of another: call pagews.setup() before")


def _check_async(name: str, function: object) -> None:
    if function is not None and not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{name}={function!r}: give an 'async def' function")


def _keys(secret_key: SecretKey, debug: bool) -> list[bytes]:
    if debug and secret_key is None and not os.environ.get(ENVIRONMENT):
        logger.warning("no secret key: a random one is used, and pages and sessions end with this process; %s", HOW_TO)
        return [new_key().encode()]
    return read_keys(secret_key)


def _path(name: str, path: str) -> str:
    if not path.startswith("/") or any(char in path for char in "?#{}"):
        raise ConfigurationError(f"{name}={path!r}: give a path such as '/pagews'")
    if not path.strip("/"):
        raise ConfigurationError(f"{name}={path!r}: pagews needs a path of its own, such as '/pagews'")
    return path.rstrip("/")


def _origins(origins: Iterable[str]) -> frozenset[str]:
    if isinstance(origins, str):
        raise ConfigurationError(f"allowed_origins={origins!r}: give a list, [{origins!r}]")
    checked = frozenset(origins)
    for origin in checked:
        written = as_written(origin)
        if written != origin:
            example = written or "https://example.org"
            raise ConfigurationError(f"allowed origin {origin!r}: write it as browsers do, such as {example!r}")
    return checked


def _addresses(proxies: Iterable[str]) -> Addresses:
    if isinstance(proxies, str) or not isinstance(proxies, Iterable):
        raise ConfigurationError(f"trusted_proxies={proxies!r}: give a list, such as ['127.0.0.1']")
    try:
        return Addresses(proxies)
    except ValueError as error:
        raise ConfigurationError(
            f"trusted_proxies: {error}; give such as '127.0.0.1', '10.0.0.0/8' or 'unix'"
        ) from error


def _add_table(site: Site, table: object) -> None:
    if not isinstance(table, DelegateTableDef):
        raise ConfigurationError(
            f"delegates: give a pagews.DelegateTableDef or a list of such, not {type(table).__name__}"
        )
    site.delegates.add(table)


# --- routes, middleware, start and stop -------------------------------------------------------------------------------


def _add_routes(app: web.Application, prefix: str) -> None:
    router = app.router
    for resource in router.resources():
        if PurePosixPath(resource.canonical) == PurePosixPath(prefix, "socket"):
            raise ConfigurationError(f"there is a route {resource.canonical!r} already: give another prefix=")
    router.add_get(f"{prefix}/socket", websocket_start, name=SOCKET_ROUTE, allow_head=False)
    for path, handler in (("stream", stream), ("poll", poll), ("post", post), ("form", form), ("renew", renew)):
        router.add_post(f"{prefix}/{path}", handler, name=f"pagews.{path}")
    router.add_get(f"{prefix}/static/{{name}}", script, name="pagews.static")


def _middleware(site: Site, *, own_sessions: bool) -> Middleware:
    with_session = aiohttp_session.session_middleware(site.identities.storage)

    async def with_page(handler: Handler, request: web.Request) -> web.StreamResponse:
        await prepare(request, site)
        response = await handler(request)
        if opened_page(request) and not response.prepared:
            response.headers.setdefault("Cache-Control", CACHE_CONTROL)
        return response

    @web.middleware
    def pagews_middleware(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        request[SITE_OF_REQUEST] = site
        # These open no page, and a socket lives long: nothing of this may wait beneath it.
        is_own = request.match_info.route.name in OWN_ROUTES
        step = handler if is_own else partial(with_page, handler)
        if not own_sessions and aiohttp_session.STORAGE_KEY in request:
            return step(request)
        return with_session(request, step)

    return pagews_middleware


async def _run(app: web.Application) -> AsyncIterator[None]:
    site = app[SITE]
    _check_middlewares(app)
    await site.publisher.start()
    await site.node.start()
    site.started = True
    yield
    site.started = False
    await site.node.stop()
    if site.endings:
        await asyncio.wait(site.endings, timeout=site.limits.drain_grace)
    await site.publisher.stop()


def _check_middlewares(app: web.Application) -> None:
    """The session must be there before pagews asks for it: its middleware must come first."""
    ours = False
    for middleware in app.middlewares:
        ours = ours or getattr(middleware, "__name__", "") == "pagews_middleware"
        if ours and getattr(middleware, "__module__", "") == aiohttp_session.__name__:
            raise ConfigurationError("call aiohttp_session.setup() before pagews.setup(): its middleware comes first")
