"""The jobs of one process's pages: an inbox for each document that has asked for something."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from . import wire
from .counters import Counters
from .errors import BrokerUnavailable
from .inbox import Inbox, Job
from .limits import Limits
from .page import PageSession, State
from .socket import Socket
from .tasks import is_own_end
from .wire import Message

logger = logging.getLogger("pagews")


class PageJobs:
    """The inboxes of one process, by page and document; one stands for as long as it has jobs.

    Arguments:
        pages: the pages that are attached, by id: it is looked at whenever there is an answer.
    """

    def __init__(self, pages: Mapping[str, PageSession], counters: Counters, limits: Limits) -> None:
        self._pages = pages
        self._counters = counters
        self._limits = limits
        self._inboxes: dict[tuple[str, str], Inbox] = {}

    def submit(self, page: PageSession, asker: Socket, job_id: int, job: Job, size: int = 0) -> bool:
        """Run a job of a page, after those before it; False when too many wait, or too many bytes.

        Its answer goes to the socket that has asked last, while that is open, else to the page's own.
        """
        key = (page.id, page.document)
        inbox = self._inboxes.get(key)
        if inbox is None:
            inbox = self._inboxes[key] = Inbox(
                partial(self._answer, key),
                self._limits.sends_waiting,
                self._limits.sends_bytes,
                partial(self._inboxes.pop, key, None),
            )
        inbox.asker = asker
        return inbox.submit(job_id, self._safe(job_id, job), size)

    def at_work(self) -> dict[Socket, Inbox]:
        """The sockets whose pages have jobs that run or wait, with those."""
        found = {}
        for (page_id, document), inbox in self._inboxes.items():
            page = self._pages.get(page_id)
            if page is not None and page.document == document:
                found[page.socket] = inbox
            if inbox.asker is not None:
                found[inbox.asker] = inbox
        return found

    async def settled(self, page_id: str, document: str, asker: Socket) -> None:
        """Wait until nothing is left to do for a document, if `asker` was the last to ask for something."""
        inbox = self._inboxes.get((page_id, document))
        if inbox is not None and inbox.asker is asker:
            await inbox.done()

    async def finish(self) -> None:
        """Let the jobs that run or wait end, for at most the drain grace."""
        try:
            async with asyncio.timeout(self._limits.drain_grace):
                for inbox in tuple(self._inboxes.values()):
                    await inbox.done()
        except TimeoutError:
            logger.warning("delegates still run after the drain grace of %g s", self._limits.drain_grace)
            self._counters.dropped["delegates at drain"] += len(self._inboxes)

    async def stop(self) -> None:
        """Cancel the jobs that run, and forget those that wait."""
        for inbox in tuple(self._inboxes.values()):
            await inbox.stop()

    def _answer(self, key: tuple[str, str], message: Message, last: bool) -> None:
        socket = self._inboxes[key].asker
        if socket is None or socket.closed:
            page = self._pages.get(key[0])
            if page is None or page.document != key[1] or page.state is State.HOLDING:
                return
            socket = page.socket
        # A crowd of answers shares a write; a single one need not wait for the end of the turn.
        (socket.send_at_once if last else socket.send)(message)

    def _safe(self, job_id: int, job: Job) -> Job:
        async def run() -> Message | None:
            try:
                return await job()
            except BrokerUnavailable as error:
                return wire.failed(job_id, "outcome-unknown" if error.unknown else "internal", "the server is cut off")
            except (Exception, asyncio.CancelledError) as error:
                if is_own_end(error):
                    raise
                logger.error("a job of a page failed", exc_info=error)
                self._counters.failed["inbox"] += 1
                return wire.failed(job_id, "internal", "the server failed")

        return run
