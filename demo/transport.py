"""What carries a page: what gets through, unless the visitor forces one in the address."""

from typing import Final, get_args

from aiohttp import web

from pagews.templating import Transport

CHOICES: Final[tuple[Transport, ...]] = get_args(Transport)


def choice(request: web.Request) -> dict[str, object]:
    """For the templates, what `?transport=` says: the one that is forced, the query that forces it in other pages too,
    and what was said instead if there is no such transport.
    """
    said = request.query.get("transport")
    forced = next((name for name in CHOICES if name == said), None)
    return {"transport": forced, "query": query(forced), "unknown": said if forced is None else None}


def query(name: object) -> str:
    """What forces a transport in an address; "" for anything else."""
    return f"?transport={name}" if name in CHOICES else ""
