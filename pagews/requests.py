"""What is checked of every POST of a page, before anything is done for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from .controller import RETRY_AFTER
from .origin import check_origin
from .site import Site
from .wire import TOKEN_LENGTH

#: Bytes of a body that is a hello, or holds a token alone: more than any token has.
TOKEN_BODY: Final = TOKEN_LENGTH + 1024

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
    check_request(request, site, "application/json")
    async with in_time(site, site.limits.hello):
        return await read_body(request, site, limit)


def check_request(request: web.Request, site: Site, *media_types: str) -> None:
    """Refuse a request that no page of this site has made, one that is not what it should be, and all while the process
    is about to stop. See `read_json`.
    """
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
    """The whole body, if it has no more than `limit` bytes."""
    check_announced(request, site, limit)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise too_large(site, len(body), limit)
    return bytes(body)


def check_announced(request: web.Request, site: Site, limit: int) -> None:
    """Refuse a body that says itself that it is too long, before any of it is read."""
    announced = request.content_length or 0
    if announced > limit:
        raise too_large(site, announced, limit)


def too_large(site: Site, size: int, limit: int) -> web.HTTPRequestEntityTooLarge:
    """The refusal of a body that has too many bytes, or too many frames."""
    site.counters.refused["body too big"] += 1
    return web.HTTPRequestEntityTooLarge(limit, size, headers=HEADERS)
