"""Answers a request with a body that is whole, and gives up whoever does not take it."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from .limits import KIB
from .requests import HEADERS

#: Bytes of a body that may wait for their reader unwatched.
SMALL: Final = 64 * KIB


async def answer(request: web.Request, body: bytes, patience: float) -> web.StreamResponse:
    """Answer with JSON; one that is not small is written here, until the network has all of it.

    aiohttp would keep all of what a browser does not read for as long as the connection lasts.

    Arguments:
        patience: seconds without progress after which the connection is broken off.
    """
    if len(body) <= SMALL:
        return web.Response(body=body, content_type="application/json", headers=HEADERS)
    response = web.StreamResponse(headers=HEADERS)
    response.content_type, response.content_length = "application/json", len(body)
    transport = request.transport
    if transport is None:
        return response
    writing = asyncio.create_task(_write(request, response, body))
    left = len(body)
    try:
        while not (await asyncio.wait([writing], timeout=patience))[0]:
            unsent = transport.get_write_buffer_size()
            if unsent >= left:
                transport.abort()
            left = unsent
        await writing
    except ConnectionError:
        pass  # the browser has gone, which aiohttp would log as an error
    finally:
        writing.cancel()
    return response


async def _write(request: web.Request, response: web.StreamResponse, body: bytes) -> None:
    await response.prepare(request)
    assert request.transport is not None  # else it could not be prepared
    request.transport.set_write_buffer_limits(0)  # drained is when all of it has left
    await response.write(body)
    await response.write_eof()
    if request.transport is not None:
        request.transport.set_write_buffer_limits()
