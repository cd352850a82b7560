"""What `setup()` has put together for one application."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from aiohttp import web

from .admission import Place, Sockets, Visitor
from .counters import Counters
from .delegates import Delegates
from .errors import ConfigurationError, Return, returns
from .handler import WebSocketHandler
from .identity import Identities
from .limits import Limits
from .node import Node
from .private import private
from .publisher import Publisher
from .push_targets import Page
from .rate import Buckets
from .socket import Socket
from .tokens import Tokens
from .wire import Close

Authorize = Callable[[Page, str], Awaitable[bool]]


@private
@dataclass(eq=False, slots=True)
class Site:
    """The parts of one application that floor 2 works with.

    `public_prefix`: what the browser sees, if it differs from what the router has. `sockets`: those that are open;
    `endings`: what ends those that are not. `buckets`: how much each page may say. `held`: requests that wait, by
    browser session; `uploads`: forms with files, by visitor. `posts`: what answers those that wait for results, by page
    and document. `partings`: how pages were closed between two polls, by document, for the next one to be told, and
    when.
    """

    app: web.Application
    limits: Limits
    counters: Counters
    tokens: Tokens
    identities: Identities
    delegates: Delegates
    publisher: Publisher
    node: Node
    handler: type[WebSocketHandler]
    authorize: Authorize | None
    allowed_origins: frozenset[str]
    public_prefix: str | None
    sockets: Sockets
    buckets: Buckets = field(default_factory=Buckets)
    endings: set[asyncio.Task[None]] = field(default_factory=set)
    held: Counter[str] = field(default_factory=Counter)
    uploads: Counter[Visitor] = field(default_factory=Counter)
    posts: dict[tuple[str, str], Callable[[], object]] = field(default_factory=dict)
    partings: dict[str, tuple[Close, float]] = field(default_factory=dict)
    started: bool = False

    def base(self) -> str:
        """The address under which the browser finds everything."""
        if self.public_prefix is not None:
            return self.public_prefix
        return str(self.app.router[SOCKET_ROUTE].url_for()).removesuffix("/socket")

    def enter(self, socket: Socket, place: Place) -> None:
        """A socket is open, of a visitor who was admitted."""
        self.sockets.add(socket, place)
        self.counters.sockets += 1

    def part(self, document: str, close: Close) -> None:
        """A page was closed between two polls, or in the answer of one, which may not arrive."""
        now = asyncio.get_running_loop().time()
        self.partings.pop(document, None)
        self.partings[document] = close, now
        for oldest, (_, when) in tuple(islice(self.partings.items(), 2)):
            if len(self.partings) > PARTINGS or when < now - self.limits.retention:
                del self.partings[oldest]

    def parting(self, document: str) -> Close | None:
        """How its page was closed, if it should be told. Told once, unless it may not come back: whoever has not heard
        of that comes again.
        """
        close, when = self.partings.get(document, (None, 0.0))
        if close is None:
            return None
        is_over = when < asyncio.get_running_loop().time() - self.limits.retention
        if is_over or returns(close.code) is not Return.AWAY:
            del self.partings[document]
        return None if is_over else close

    def leave(self, socket: Socket, code: int) -> asyncio.Task[None]:
        """A socket is over, with `code` unless it was closed before: what ends it, which nobody may cut short."""
        self.sockets.discard(socket)
        self.counters.sockets -= 1
        socket.over(code)
        ending = asyncio.create_task(socket.finish())
        self.endings.add(ending)
        ending.add_done_callback(self.endings.discard)
        return ending


SITE: Final[web.AppKey[Site]] = web.AppKey("pagews", Site)
SITE_OF_REQUEST: Final[web.RequestKey[Site]] = web.RequestKey("pagews site", Site)
#: Closes that are kept for pages which poll, for the retention at most; the oldest is forgotten first.
PARTINGS: Final = 10_000
SOCKET_ROUTE: Final = "pagews.socket"
#: The routes of pagews itself. They open no page for a view: what is a page's asks who is there when it has proved to
#: be one's, and the client's modules are everybody's.
OWN_ROUTES: Final = frozenset(
    {SOCKET_ROUTE, *(f"pagews.{name}" for name in ("stream", "poll", "post", "form", "renew", "static"))}
)


def get_site(place: web.Request | web.Application) -> Site:
    """The site of a request or an application, also from inside a sub-app.

    Raises:
        ConfigurationError: `pagews.setup()` has not been called for it.
    """
    if isinstance(place, web.Application):
        site = place.get(SITE)
    else:
        # The middleware has left it there; a view of another application in the chain finds it the long way.
        site = place.get(SITE_OF_REQUEST) or place.config_dict.get(SITE)
    if site is None:
        raise ConfigurationError("pagews is not set up for this application: call pagews.setup(app, ...) first")
    return site


def get_publisher(place: web.Request | web.Application) -> Publisher:
    """The push API of an application, once it has started.

    Raises:
        ConfigurationError: `pagews.setup()` has not been called for it, or it has not started yet.
    """
    site = get_site(place)
    if not site.started:
        raise ConfigurationError("the application has not started: push from views, delegates, tasks or cleanup_ctx")
    return site.publisher


async def login(request: web.Request, user_id: str) -> None:
    """Set the user of the browser session, and rotate the session: its open pages are closed with 4503, and come back
    as pages of the user. Call it in a view, before the response is prepared.
    """
    await get_site(request).identities.login(request, user_id)


async def logout(request: web.Request) -> None:
    """Clear the user of the browser session, and rotate the session. See `login`."""
    await get_site(request).identities.logout(request)


async def rotate_session(request: web.Request) -> None:
    """Rotate the browser session: for applications that keep the user themselves, at every login and logout."""
    await get_site(request).identities.rotate(request)
