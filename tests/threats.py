"""What the tests of the threats share: a delegate, who is still served, what was refused, and how a page was ended."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pagews
from tests.sites import Served
from tests.wire_client import Closed, Transport, Visitor, Wire

#: Where another site is.
FOREIGN: Final = "http://evil.example"


class Desk:
    """A delegate `echo`, and what has reached it."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.delegates = table = pagews.DelegateTableDef()

        @table.on("echo")
        async def echo(page: pagews.Page, data: Any) -> Any:
            self.given.append(data)
            return data


def refused(site: Served) -> dict[str, int]:
    """What all workers have refused, by reason."""
    return dict(sum((Counter(worker.publisher.statistics().refused) for worker in site.workers), Counter()))


def closed(site: Served) -> dict[int, int]:
    """The sockets that all workers have closed, by code, but for the polls that the next one has followed."""
    codes = sum((Counter(worker.publisher.statistics().closed) for worker in site.workers), Counter[int]())
    return {int(code): count for code, count in codes.items() if code != 4509}


async def is_served(site: Served, transport: Transport) -> bool:
    """Whether a visitor who comes now is, by the delegate `echo`."""
    async with Visitor(site.url, transport) as visitor:
        return await lives(await visitor.attach())


async def lives(wire: Wire, number: int = 1000) -> bool:
    """Whether a page is still served, and nothing else comes to it before the answer."""
    return await wire.ask("send", number, 1, "echo", number) == ["result", number, True, number]


async def verdict(site: Served, transport: Transport, *messages: str | bytes) -> Closed:
    """How the page of a visitor of its own is ended after it has said something."""
    async with Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        for message in messages:
            await wire.send_raw(message)
        return await wire.closed()


def give(visitor: Visitor, cookie: str) -> None:
    """Let a browser have the cookie of another one, `name=value`."""
    name, _, value = cookie.partition("=")
    visitor.http.cookie_jar.update_cookies({name: value.strip('"')})
