"""Who may open one more socket: ceilings in all, per address and per browser session."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple, Self

from aiohttp import web

from .addresses import Addresses
from .counters import Counters
from .limits import Limits
from .private import private
from .socket import Socket

logger = logging.getLogger("pagews")

#: Seconds for which the log is not told again that sockets are refused.
SILENCE: Final = 60.0
#: Seconds after which a browser may try again when this process takes no sockets.
RETRY_AFTER: Final = 2


@private
class Visitor(NamedTuple):
    """By what a visitor's sockets are counted; None: not by this."""

    address: str | None = None
    session_id: str | None = None


class Place:
    """Room for one socket of a visitor: `with` lets go of it again, unless a socket has taken it by then."""

    __slots__ = ("_sockets", "is_taken", "visitor")

    def __init__(self, sockets: Sockets, visitor: Visitor) -> None:
        self._sockets = sockets
        self.visitor = visitor
        self.is_taken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.is_taken:
            self._sockets.let_go(self.visitor)


class Sockets:
    """The sockets of one process that are open, and whose they are.

    A visitor is counted from `admit` on, before there is a socket: many may be under way at once.
    """

    def __init__(self, addresses: Addresses, limits: Limits, counters: Counters) -> None:
        self._addresses = addresses
        self._limits = limits
        self._counters = counters
        self._visitors: dict[Socket, Visitor] = {}
        self._admitted = 0
        self._silent_until = 0.0
        self._by_address: Counter[str] = Counter()
        self._by_session: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Socket]:
        return iter(self._visitors)

    def __len__(self) -> int:
        return len(self._visitors)

    def visitor(self, request: web.Request, session_id: str | None) -> Visitor:
        """Whose request it is."""
        forwarded = request.headers.getall("X-Forwarded-For", ())
        return Visitor(self._addresses.visitor(request.remote, forwarded), session_id)

    def check(self, visitor: Visitor) -> None:
        """Refuse a visitor for whom there is no room.

        Raises:
            web.HTTPServiceUnavailable: a ceiling is reached.
        """
        address, session_id = visitor
        refused = self._counters.refused
        if self._admitted >= self._limits.sockets:
            refused["sockets"] += 1
        elif address is not None and self._by_address[address] >= self._limits.address_sockets:
            refused["sockets of an address"] += 1
        elif session_id is not None and self._by_session[session_id] >= self._limits.session_sockets:
            refused["sockets of a session"] += 1
        else:
            return
        self._warn()
        raise web.HTTPServiceUnavailable(text="Too many sockets are open.\n", headers={"Retry-After": str(RETRY_AFTER)})

    def admit(self, request: web.Request, session_id: str | None) -> Place:
        """Room for a visitor who is about to open a socket.

        Raises:
            web.HTTPServiceUnavailable: a ceiling is reached.
        """
        visitor = self.visitor(request, session_id)
        self.check(visitor)
        self._count(visitor, 1)
        return Place(self, visitor)

    def let_go(self, visitor: Visitor) -> None:
        """A visitor who was admitted has no socket, or none any more."""
        self._count(visitor, -1)

    def add(self, socket: Socket, place: Place) -> None:
        """The socket of a visitor who was admitted is open."""
        place.is_taken = True
        self._visitors[socket] = place.visitor

    def discard(self, socket: Socket) -> None:
        """A socket is over."""
        self.let_go(self._visitors.pop(socket))

    def _warn(self) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + SILENCE
            logger.warning("sockets are refused, for there are too many: see statistics().refused and pagews.Limits")

    def _count(self, visitor: Visitor, step: int) -> None:
        self._admitted += step
        for counted, key in ((self._by_address, visitor.address), (self._by_session, visitor.session_id)):
            if key is not None:
                counted[key] += step
                if not counted[key]:
                    del counted[key]
