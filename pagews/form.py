"""`POST /form`: a form that the browser posts itself, without JavaScript, or with files.

What asks for JSON gets it, and stays where it is; everybody else is led back to the page that they came from.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import Final

import msgspec
from aiohttp import web

from .admission import RETRY_AFTER, Visitor
from .delegates import Outcome
from .errors import BrokerUnavailable, EncodingError, MessageTooLarge
from .form_body import BACK, DELEGATE, DOCUMENT, EPOCH, ID, MULTIPART, TOKEN, URLENCODED, FormBody
from .form_outcome import FormOutcome, keep_outcome
from .push_targets import Page
from .requests import HEADERS, check_request
from .site import Site, get_site
from .templating import prepare, render
from .wire import encode_data, failed

#: A path of this site. Browsers read a backslash as a slash, and two of them name another host.
_PATH: Final = re.compile(r"/(?![/\\])[!-~]*")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,14}")


async def form(request: web.Request) -> web.Response:
    """303 back to the form, with the outcome in the session; JSON if the request asks for that; 403 when the form is of
    another session or user, or of one that ended while its files came; 413 when it is too large, 429 when its page says
    too much, 503 when there is no room for it, or when the broker is away.
    """
    site = get_site(request)
    check_request(request, site, URLENCODED, MULTIPART, navigates=True)
    asks_for_json = "application/json" in request.headers.get("Accept", "")
    body = FormBody(request, site)
    try:
        await body.read_texts()
        back = body.hidden.get(BACK, "")
        if not asks_for_json and _PATH.fullmatch(back) is None:
            raise _malformed(site, "This is no form of pagews: its hidden fields say where it leads back to.\n")
        page = await _page(request, site, body.hidden.get(TOKEN, ""))
        if page is None:
            return _refusal(back, asks_for_json)
        delegate = body.hidden.get(DELEGATE, "")
        _check_rate(page, site)
        await prepare(request, site)  # a delegate may open a page, and render it
        with site.sockets.admit(request, page.session.id) as place, _room_for(body, place.visitor, site):
            await body.read_files()
            if not await site.identities.lasts(request):
                site.counters.refused["identity"] += 1
                return _refusal(back, asks_for_json)
            outcome = await _run(site, delegate, page, body)
        if asks_for_json:
            return _json(_encoded(site, delegate, outcome))
    except web.HTTPRequestEntityTooLarge as error:
        return _too_large((error.text or "").strip(), asks_for_json)
    except (web.HTTPServiceUnavailable, web.HTTPTooManyRequests) as error:
        return _later(error, asks_for_json)
    finally:
        body.close()
    await _keep(request, site, back.partition("#")[2], FormOutcome.of(outcome))
    return web.Response(status=303, headers=HEADERS | {"Location": back})


async def _run(site: Site, delegate: str, page: Page, body: FormBody) -> Outcome:
    document = body.hidden.get(DOCUMENT)
    if document is None:
        return await site.delegates.run_form(delegate, page, body.fields)
    number, broker = body.hidden.get(ID, ""), site.node.broker
    if _NUMBER.fullmatch(number) is None:
        raise _malformed(site, "A document numbers what it sends.\n")
    try:
        claim = await broker.claim_send(page.id, document, int(number), epoch=body.hidden.get(EPOCH))
    except BrokerUnavailable as error:
        site.counters.refused["broker away"] += 1
        raise _unavailable("The server cannot take this at the moment.\n") from error
    if not claim.granted:
        return Outcome(code="outcome-unknown", message="it may have run")
    outcome = await site.delegates.run_form(delegate, page, body.fields)
    with suppress(BrokerUnavailable):
        # Whoever asks again, at whatever process, need not wait to hear that.
        unknown = failed(int(number), "outcome-unknown", "it may have run")
        await broker.complete_send(page.id, document, int(number), unknown)
    return outcome


async def _keep(request: web.Request, site: Site, form_id: str, outcome: FormOutcome) -> None:
    """Keep what became of a form in its browser's session, unless that has ended in the meantime: the answer would put
    it in the place of the one that came after it.
    """
    with suppress(web.HTTPServiceUnavailable):  # nor if nobody knows whether it has
        if await site.identities.lasts(request):
            await keep_outcome(request, form_id, outcome)


async def _page(request: web.Request, site: Site, text: str) -> Page | None:
    """The page whose token a form has, if it is one of this browser session and its user."""
    token = site.tokens.read(text)
    identity = await site.identities.load(request)
    if token is None or identity.session_id is None or token.session != identity.session_id:
        site.counters.refused["token"] += 1
        return None
    if token.user != identity.user_id:
        site.counters.refused["identity"] += 1
        return None
    return Page(site.publisher, token.page, token.session, token.user, token.topics)


def _check_rate(page: Page, site: Site) -> None:
    """A form is one of the messages of its page."""
    rate, burst = site.limits.rate, site.limits.burst
    now = asyncio.get_running_loop().time()
    if not site.buckets.of(page.id, now).take(now, rate, burst):
        site.counters.refused["rate"] += 1
        raise web.HTTPTooManyRequests(
            text="This page says too much in too little time: try again in a moment.\n",
            headers={"Retry-After": str(ceil(1 / rate))},
        )


@contextmanager
def _room_for(body: FormBody, visitor: Visitor, site: Site) -> Iterator[None]:
    """A form has files open until its delegate has ended: raises 503 when too many do."""
    if not body.has_files:
        yield
        return
    if not _has_room(visitor, site):
        site.counters.refused["uploads"] += 1
        raise _unavailable("Too many uploads are under way: try again in a moment.\n")
    site.uploads[visitor] += 1
    try:
        yield
    finally:
        site.uploads[visitor] -= 1
        if not site.uploads[visitor]:
            del site.uploads[visitor]


def _has_room(visitor: Visitor, site: Site) -> bool:
    """Whether there is room for one more form with files. Who has many sessions has half of it at most."""
    limits, uploads = site.limits, site.uploads
    of_session = sum(count for other, count in uploads.items() if other.session_id == visitor.session_id)
    of_address = sum(count for other, count in uploads.items() if other.address == visitor.address)
    most = limits.uploads if visitor.address is None else max(limits.session_uploads, limits.uploads // 2)
    return of_session < limits.session_uploads and of_address < most and uploads.total() < limits.uploads


def _unavailable(text: str) -> web.HTTPServiceUnavailable:
    return web.HTTPServiceUnavailable(text=text, headers={"Retry-After": str(RETRY_AFTER)})


def _later(error: web.HTTPException, asks_for_json: bool) -> web.Response:
    """The answer to a form that may be sent again."""
    text = error.text or ""
    if asks_for_json:
        response = _json(_failed("limit", text.strip()), status=error.status)
    else:
        response = web.Response(status=error.status, text=text, headers=HEADERS)
    response.headers["Retry-After"] = error.headers["Retry-After"]
    return response


def _malformed(site: Site, text: str) -> web.HTTPBadRequest:
    site.counters.refused["malformed form"] += 1
    return web.HTTPBadRequest(text=text, headers=HEADERS)


def _refusal(back: str, asks_for_json: bool) -> web.Response:
    if asks_for_json:
        return _json(_failed("refused", "the form is of another session, or was open for too long"), status=403)
    return _page_of_words(403, "refused.html", back=back)


def _too_large(text: str, asks_for_json: bool) -> web.Response:
    if asks_for_json:
        return _json(_failed("toolarge", text), status=413)
    return _page_of_words(413, "too_large.html", text=text)


def _page_of_words(status: int, template: str, **context: str) -> web.Response:
    return web.Response(status=status, text=render(template, **context), content_type="text/html", headers=HEADERS)


def _encoded(site: Site, delegate: str, outcome: Outcome) -> bytes:
    if outcome.code:
        return _failed(outcome.code, outcome.message)
    try:
        if isinstance(outcome.value, bytes | bytearray | memoryview):
            raise EncodingError("bytes are no answer to a form with files")
        return b'{"ok":true,"value":%b}' % encode_data(outcome.value, site.limits.message_down)
    except (EncodingError, MessageTooLarge) as error:
        site.delegates.returned_nonsense(delegate, error)
        return _failed("internal", "the server's delegate failed")


def _failed(code: str, message: str) -> bytes:
    return msgspec.json.encode({"ok": False, "code": code, "message": message})


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=HEADERS)
