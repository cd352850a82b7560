"""`POST /renew`: a fresh token for a page whose session is still the same, and the reason when a socket was refused."""

from __future__ import annotations

import msgspec
from aiohttp import web

from .errors import CloseCode
from .requests import HEADERS, TOKEN_BODY, read_json
from .site import get_site
from .templating import page_token


class Renewal(msgspec.Struct):
    """The body of the request. `token`: None asks for a page."""

    token: str | None


async def renew(request: web.Request) -> web.Response:
    """200 with `{token}`; 403 with `{code, reason}`, the close code that a socket would get; 503 with Retry-After.

    Without a token it opens a page for the browser's session: the tag of a page that was not rendered has none.
    """
    site = get_site(request)
    body = await read_json(request, site, TOKEN_BODY)
    try:
        text = msgspec.json.decode(body, type=Renewal).token
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        site.counters.refused["malformed renewal"] += 1
        raise web.HTTPBadRequest(text=f"{error}\n", headers=HEADERS) from error
    if text is None:
        return web.json_response({"token": await page_token(request)}, headers=HEADERS)
    token = site.tokens.read(text, expired=True)
    identity = await site.identities.load(request)
    if token is None or identity.session_id is None:
        return _refuse(site.counters.refused, CloseCode.BAD_TOKEN, "the token is not good")
    if token.session != identity.session_id or token.user != identity.user_id:
        return _refuse(site.counters.refused, CloseCode.IDENTITY, "the session or the user has changed")
    return web.json_response({"token": site.tokens.renewed(token)}, headers=HEADERS)


def _refuse(refused: dict[str, int], code: CloseCode, reason: str) -> web.Response:
    refused["renewal"] += 1
    return web.json_response({"code": int(code), "reason": reason}, status=403, headers=HEADERS)
