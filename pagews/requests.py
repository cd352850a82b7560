"""What is checked of every POST of a page, before anything is done for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from aiohttp import web

from .admission import RETRY_AFTER
from .limits import HELLO
from .origin import check_origin
from .site import Site

#: Bytes of a body that is a hello, or holds a token alone.
TOKEN_BODY: Final = HELLO

#: The media type of whatever the client posts, but for forms.
JSON: Final = "application/json"

#: Bytes a second of a body that may take its time, behind the first `limits.stuck` seconds.
LEAST_RATE: Final = 1024

#: What every answer says: it is for this site's pages alone, and for now.
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


async def read_json(request: web.Request, site: Site, limit: int) -> bytes:
    """The body of a request that a page of this site has made. It is JSON by its own word, and not parsed yet.

    Arguments:
        limit: bytes that the body may have.

    Raises:
        web.HTTPForbidden: its Origin is foreign. web.HTTPUnsupportedMediaType: it is not JSON, or compressed.
        web.HTTPServiceUnavailable: the process is about to stop. web.HTTPRequestEntityTooLarge: it is too long.
        web.HTTPRequestTimeout: it did not come within `limits.hello`. web.HTTPBadRequest: it broke off.
    """
    check_request(request, site, JSON)
    return await read_soon(request, site, limit)


async def read_soon(request: web.Request, site: Site, limit: int) -> bytes:
    """The body of a request that was checked. See `read_json`."""
    async with in_time(site, site.limits.hello):
        return await read_body(request, site, limit)


class Pace:
    """The time that a long body may take: `limits.stuck` without progress, and all of it at `LEAST_RATE` at least."""

    def __init__(self, request: web.Request, site: Site) -> None:
        self._site = site
        self._content = request.content
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()

    def step(self) -> AbstractAsyncContextManager[None]:
        """Read the next of it. Raises what `in_time` raises."""
        stuck = self._site.limits.stuck
        left = self._began + stuck + self._content.total_bytes / LEAST_RATE - self._clock()
        return in_time(self._site, min(stuck, left))


def check_request(request: web.Request, site: Site, *media_types: str, navigates: bool = False) -> None:
    """Refuse a request that no page of this site has made, one that is not what it should be, and all while the process
    is about to stop. See `read_json`.

    Arguments:
        navigates: the browser itself may have made it, for a form. It hides the Origin where the site's referrer policy
            is `no-referrer`, and says in another header, which no script can set, that it is the site's own.
    """
    headers = request.headers
    if not (navigates and headers.get("Origin") == "null" and headers.get("Sec-Fetch-Site") == "same-origin"):
        check_origin(request, site)
    if request.content_type not in media_types or "Content-Encoding" in request.headers:
        site.counters.refused["media type"] += 1
        raise web.HTTPUnsupportedMediaType(text=f"Send {' or '.join(media_types)}, uncompressed.\n", headers=HEADERS)
    if site.node.draining:
        site.counters.refused["draining"] += 1
        raise web.HTTPServiceUnavailable(text="About to stop.\n", headers=HEADERS | {"Retry-After": str(RETRY_AFTER)})


@asynccontextmanager
async def in_time(site: Site, seconds: float) -> AsyncIterator[None]:
    """Read of a body what must come within some seconds. See `read_json`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        site.counters.refused["slow body"] += 1
        raise web.HTTPRequestTimeout(text="The body has not come in time.\n", headers=HEADERS) from error
    except (ConnectionError, web.RequestPayloadError) as error:
        site.counters.refused["broken body"] += 1
        raise web.HTTPBadRequest(text="The body broke off.\n", headers=HEADERS) from error


async def read_body(request: web.Request, site: Site, limit: int) -> bytes:
    """The whole body of a request that was checked, if it has no more than `limit` bytes, at its `Pace`: some are too
    long for some lines to bring them within `limits.hello`.
    """
    check_announced(request, site, limit)
    pace, body = Pace(request, site), bytearray()
    while not request.content.at_eof():
        async with pace.step():
            body += await request.content.readany()
        if len(body) > limit:
            raise too_large(site, len(body), limit)
    return bytes(body)


def check_announced(request: web.Request, site: Site, limit: int) -> None:
    """Refuse a body that says itself that it is too long, before any of it is read."""
    announced = request.content_length or 0
    if announced > limit:
        raise too_large(site, announced, limit)


def too_large(site: Site, size: int, limit: int, unit: str = "bytes") -> web.HTTPRequestEntityTooLarge:
    """The refusal of a body that has too many bytes, or too many of some other `unit`. Its text is for readers."""
    site.counters.refused["body too big"] += 1
    text = f"This is too large: at most {_amount(limit, unit)} are taken.\n"
    return web.HTTPRequestEntityTooLarge(limit, size, text=text, headers=HEADERS)


def _amount(count: int, unit: str) -> str:
    if unit == "bytes":
        for name, size in (("MiB", 1024**2), ("KiB", 1024)):
            if count % size == 0:
                return f"{count // size:,} {name}"
    return f"{count:,} {unit}"
