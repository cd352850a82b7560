"""`POST /renew`: a fresh token for a page whose session is still the same, and the reason when a socket was refused."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from .controller import RETRY_AFTER
from .errors import CloseCode
from .origin import check_origin
from .site import Site, get_site
from .wire import TOKEN_LENGTH

#: More than any token has, in bytes.
BODY_LIMIT: Final = TOKEN_LENGTH + 1024

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Renewal(msgspec.Struct):
    """The body of the request."""

    token: str


async def renew(request: web.Request) -> web.Response:
    """200 with `{token}`; 403 with `{code, reason}`, the close code that a socket would get; 503 with Retry-After."""
    site = get_site(request)
    check_origin(request, site)
    if request.content_type != "application/json":
        site.counters.refused["malformed renewal"] += 1
        raise web.HTTPUnsupportedMediaType(text="Send JSON.\n", headers=_HEADERS)
    if site.node.draining:
        site.counters.refused["draining"] += 1
        raise web.HTTPServiceUnavailable(headers=_HEADERS | {"Retry-After": str(RETRY_AFTER)})
    body = await _read(request, site)
    try:
        text = msgspec.json.decode(body, type=Renewal).token
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        site.counters.refused["malformed renewal"] += 1
        raise web.HTTPBadRequest(text=f"{error}\n", headers=_HEADERS) from error
    token = site.tokens.read(text, expired=True)
    identity = await site.identities.load(request)
    if token is None or identity.session_id is None:
        return _refuse(site.counters.refused, CloseCode.BAD_TOKEN, "the token is not good")
    if token.session != identity.session_id or token.user != identity.user_id:
        return _refuse(site.counters.refused, CloseCode.IDENTITY, "the session or the user has changed")
    return web.json_response({"token": site.tokens.renewed(token)}, headers=_HEADERS)


async def _read(request: web.Request, site: Site) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            site.counters.refused["malformed renewal"] += 1
            raise web.HTTPRequestEntityTooLarge(BODY_LIMIT, len(body), headers=_HEADERS)
    return bytes(body)


def _refuse(refused: dict[str, int], code: CloseCode, reason: str) -> web.Response:
    refused["renewal"] += 1
    return web.json_response({"code": int(code), "reason": reason}, status=403, headers=_HEADERS)
