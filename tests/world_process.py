"""One process of the world in virtual time: the shipped publisher, node, page sessions and site around its broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from aiohttp import web

from pagews import DelegateTableDef, Page, Publisher
from pagews.addresses import Addresses
from pagews.admission import Sockets
from pagews.broker import Answer
from pagews.delegates import Delegates
from pagews.identity import CookieStorage, Identities
from pagews.node import Node
from pagews.page import PageSession
from pagews.page_handler import PageHandler
from pagews.site import SITE, Site
from pagews.tokens import Tokens, new_key

from .shared_broker import Bus, NodeBroker

KEYS: Final = [new_key().encode()]


class Watcher(Protocol):
    """Whoever is told what the nodes tell."""

    def attached(self, process: Process, page: PageSession) -> None: ...

    def detached(self, process: Process, page: PageSession) -> None: ...

    def detached_elsewhere(self, process: Process, page_id: str) -> None: ...

    def gone(self, process: Process, page_id: str) -> None: ...

    async def work(self, process: Process, data: list[Any]) -> list[Any]:
        """What the delegate `work` does."""


class Process:
    """One process.

    Arguments:
        fork_numbers: those of the pages that are forked, in the whole world.

    Attributes:
        tasks: what runs for pages here, with their ids.
        cuts: how often its pub/sub was lost.
    """

    def __init__(self, bus: Bus, watcher: Watcher, tokens: Tokens, fork_numbers: Iterator[int]) -> None:
        self.broker = NodeBroker(bus)
        self._watcher = watcher
        limits = bus.limits
        app = web.Application()
        self.publisher = Publisher(self.broker, limits=limits, app=app)
        self.counters = self.publisher.counters
        self.node = Node(self.broker, self, self.counters, limits, lambda: f"fork{next(fork_numbers)}")
        self.publisher.node = self.node
        self.identities = Identities(CookieStorage(KEYS), None)
        self.identities.node = self.node
        table = DelegateTableDef()
        table.on("work")(self._work)
        delegates = Delegates(self.counters, limits.callback, limits.delegates)
        delegates.add(table)
        self.site = Site(
            app=app,
            limits=limits,
            counters=self.counters,
            tokens=tokens,
            identities=self.identities,
            delegates=delegates,
            publisher=self.publisher,
            node=self.node,
            handler=PageHandler,
            authorize=_authorize,
            allowed_origins=frozenset(),
            public_prefix=None,
            sockets=Sockets(Addresses(()), limits, self.counters),
        )
        app[SITE] = self.site
        self.tasks: list[tuple[str, asyncio.Task[None]]] = []
        self.cuts = 0

    @property
    def hears(self) -> bool:
        """Whether all that was published before has come to it."""
        return not self.broker.held and not self.broker.killed

    async def _work(self, page: Page, data: list[Any]) -> list[Any]:
        return await self._watcher.work(self, data)

    # --- what the node tells ------------------------------------------------------------------------------------------

    def attached(self, page: PageSession) -> None:
        self._tell(self.publisher.attached, self._watcher.attached, page)

    def detached(self, page: PageSession) -> None:
        self._tell(self.publisher.detached, self._watcher.detached, page)

    def _tell(
        self,
        publish: Callable[[PageSession], None],
        watch: Callable[[Process, PageSession], None],
        page: PageSession,
    ) -> None:
        if not self.broker.killed:
            publish(page)
            watch(self, page)

    def detached_elsewhere(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self.publisher.detached_elsewhere(page_id, session_id, user_id)
        self._watcher.detached_elsewhere(self, page_id)

    def ended(self, page_id: str) -> None:
        self.publisher.ended(page_id)

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self.publisher.gone(page_id, session_id, user_id)
        self._watcher.gone(self, page_id)

    def answered(self, answer: Answer) -> None:
        self.publisher.answered(answer)


async def _authorize(page: Page, topic: str) -> bool:
    return True
