"""Who may open one more socket: ceilings in all, per address and per browser session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from aiohttp import web

from .addresses import Addresses
from .counters import Counters
from .limits import Limits
from .socket import Socket

#: Seconds after which a browser may try again when this process takes no sockets.
RETRY_AFTER: Final = 2


class Visitor(NamedTuple):
    """By what a visitor's sockets are counted; None: not by this."""

    address: str | None = None
    session_id: str | None = None


class Sockets:
    """The sockets of one process that are open, and whose they are.

    A visitor is counted from `admit` on, before there is a socket: many may be under way at once.
    """

    def __init__(self, addresses: Addresses, limits: Limits, counters: Counters) -> None:
        self._addresses = addresses
        self._limits = limits
        self._counters = counters
        self._visitors: dict[Socket, Visitor] = {}
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
        if len(self._visitors) >= self._limits.sockets:
            refused["sockets"] += 1
        elif address is not None and self._by_address[address] >= self._limits.address_sockets:
            refused["sockets of an address"] += 1
        elif session_id is not None and self._by_session[session_id] >= self._limits.session_sockets:
            refused["sockets of a session"] += 1
        else:
            return
        raise web.HTTPServiceUnavailable(text="Too many sockets are open.\n", headers={"Retry-After": str(RETRY_AFTER)})

    def admit(self, request: web.Request, session_id: str | None) -> Visitor:
        """Count a visitor who is about to open a socket. Either `add` it, or `let_go` of the visitor.

        Raises:
            web.HTTPServiceUnavailable: a ceiling is reached.
        """
        visitor = self.visitor(request, session_id)
        self.check(visitor)
        if visitor.address is not None:
            self._by_address[visitor.address] += 1
        if session_id is not None:
            self._by_session[session_id] += 1
        return visitor

    def let_go(self, visitor: Visitor) -> None:
        """A visitor who was counted has no socket, or none any more."""
        for counted, key in ((self._by_address, visitor.address), (self._by_session, visitor.session_id)):
            if key is not None:
                counted[key] -= 1
                if not counted[key]:
                    del counted[key]

    def add(self, socket: Socket, visitor: Visitor) -> None:
        """The socket of a visitor who was admitted is open."""
        self._visitors[socket] = visitor

    def discard(self, socket: Socket) -> None:
        """A socket is over."""
        self.let_go(self._visitors.pop(socket))
