"""Draining: a process asks its sockets to move on before it stops."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from aiohttp import web

from .errors import CloseCode
from .site import get_site

#: Sockets that are sent away at once.
GROUP: Final = 50


async def drain(app: web.Application) -> None:
    """Ask this process's pages to move on, before a stop; also done by itself when the application shuts down.

    New sockets are refused with 503, and tasks of pages are cancelled. The open sockets are closed with 1012, behind
    what was accepted for them, in groups over `limits.drain_window` seconds, each with a delay after which to come
    back. A page for which a delegate runs or waits is closed behind the result instead: for those there are another
    `limits.drain_grace` seconds. (With the embedded broker, which ends with its process, the pages come back to
    `lost: epoch`.)

    Raises:
        ConfigurationError: pagews is not set up for the application.
    """
    site = get_site(app)
    site.node.draining = True
    # Before its page is elsewhere, where another one may be started for it.
    site.node.tasks.close()
    sockets = tuple(site.sockets)
    groups = [sockets[start : start + GROUP] for start in range(0, len(sockets), GROUP)]
    for number, group in enumerate(groups):
        if number:
            await asyncio.sleep(site.limits.drain_window / len(groups))
        at_work = site.node.jobs.at_work()
        for socket in group:
            close = partial(socket.close, CloseCode.RESTART, site.node.return_later())
            if socket in at_work:
                at_work[socket].when_done(close)
            else:
                close()
    await site.node.jobs.finish()
    for socket in tuple(site.sockets):
        socket.end(CloseCode.RESTART, site.node.return_later())  # a delegate or a callback of it still runs
