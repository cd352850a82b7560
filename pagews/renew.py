"""`POST /renew`: a fresh token for a page whose session is still the same, the reason when a socket was refused, and a
page of the identity that the browser has now.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from .errors import BrokerUnavailable, CloseCode
from .private import private
from .requests import HEADERS, TOKEN_BODY, read_json
from .site import Site, get_site
from .targets import Address
from .templating import page_token
from .tokens import Token


@private
class Renewal(msgspec.Struct):
    """The body of the request. `token`: None asks for a page. `adopt`: for one in place of the token's, of the identity
    that the browser has now.
    """

    token: str | None
    adopt: bool = False


async def renew(request: web.Request) -> web.Response:
    """200 with `{token}`; 403 with `{code, reason}`, the close code that a socket would get; 503 with Retry-After.

    Without a token it opens a page for the browser's session: the tag of a page that was not rendered has none.
    """
    site = get_site(request)
    body = await read_json(request, site, TOKEN_BODY)
    try:
        renewal = msgspec.json.decode(body, type=Renewal)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        site.counters.refused["malformed renewal"] += 1
        raise web.HTTPBadRequest(text=f"{error}\n", headers=HEADERS) from error
    token = None if renewal.token is None else site.tokens.read(renewal.token, expired=True)
    if renewal.token is None or renewal.adopt:
        return await _begin(request, site, token)
    identity = await site.identities.load(request)
    if token is None or identity.session_id is None:
        return _refuse(site.counters.refused, CloseCode.BAD_TOKEN, "the token is not good")
    if token.session != identity.session_id or token.user != identity.user_id:
        return _refuse(site.counters.refused, CloseCode.IDENTITY, "the session or the user has changed")
    # A browser is not shown why an upgrade was refused: if for want of room, the page hears of it here.
    site.sockets.check(site.sockets.visitor(request, identity.session_id))
    return web.json_response({"token": site.tokens.renewed(token)}, headers=HEADERS)


async def _begin(request: web.Request, site: Site, token: Token | None) -> web.Response:
    """A page of whoever is at the browser now; `token`: that of the page in whose place it comes.

    Whatever the token is, the answer is a page of the browser's own session, and tells nothing else of it.
    """
    try:
        identity = await site.identities.load(request)
        if identity.session_id is None and await site.identities.has_just_ended(request):
            site.counters.refused["renewal"] += 1
            return web.Response(status=503, text="Not yet.\n", headers=HEADERS | {"Retry-After": "0"})
        page_id = None if token is None else await _take_on(request, site, token)
    except BrokerUnavailable as error:
        raise web.HTTPServiceUnavailable(headers=HEADERS | {"Retry-After": "2"}) from error
    return web.json_response({"token": await page_token(request, page_id)}, headers=HEADERS)


async def _take_on(request: web.Request, site: Site, token: Token) -> str | None:
    """End the page of a session that this browser's has come after. Returns its id if the same user, or the first, may
    go on with it; all that was kept with it ends.
    """
    if token.session != await site.identities.before(request):
        return None
    broker = site.node.broker
    attached = await broker.pages(Address.page(token.page).channel)
    if any(page.session_id != token.session for page in attached):
        return None  # it has been taken on already
    await broker.end(token.page)
    identity = await site.identities.load(request)
    return token.page if token.user in (None, identity.user_id) else None


def _refuse(refused: dict[str, int], code: CloseCode, reason: str) -> web.Response:
    refused["renewal"] += 1
    return web.json_response({"code": int(code), "reason": reason}, status=403, headers=HEADERS)
