"""What carries a page: what gets through, unless the visitor forces one in the address."""

from typing import Final, get_args

from aiohttp import web

from pagews.templating import Transport

CHOICES: Final[tuple[Transport, ...]] = get_args(Transport)


def forced(request: web.Request) -> Transport | None:
    """What `?transport=` says; None: nothing, or nothing that there is."""
    said = request.query.get("transport")
    return next((choice for choice in CHOICES if choice == said), None)
