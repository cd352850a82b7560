"""Stream, poll and post: what carries a page's socket where a WebSocket does not get through.

Only the carrier differs. Hello, limits, heartbeat, lag, drain and close codes are those of every socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp_session
from aiohttp import HttpVersion11, web

from .admission import Place
from .answering import answer
from .carriers import AnswerCarrier, StreamCarrier, Watch
from .errors import CloseCode, ProtocolError, Return, returns
from .handler import Context
from .identity import read_only
from .limits import MIB
from .requests import HEADERS, JSON, TOKEN_BODY, check_request, read_body, read_soon, too_large
from .site import Site, get_site
from .socket import Carrier, Socket
from .text_frames import PADDING, read_batch, read_hello, split_batch
from .wire import Close, Message, Text, frame_payload

#: Seconds for which a post waits for the results of what it brought ...
HOLD: Final = 20.0
#: ... and bytes of them from where on it waits for no more: its page asks again for the rest.
ANSWER: Final = 4 * MIB

#: A page whose poll is closed with these between two polls need not hear of it: the next one is welcome.
_HARMLESS: Final = frozenset({CloseCode.TOO_SLOW, CloseCode.SUPERSEDED})

_STREAM_HEADERS: Final = HEADERS | {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


class _EventStream(web.StreamResponse):
    """A response whose body goes on."""

    def __init__(self) -> None:
        super().__init__(headers=_STREAM_HEADERS)
        self.content_type = "text/event-stream"
        self.force_close()

    def enable_compression(self, *_: object, **__: object) -> None:
        """Not this one, also if the application does it to every response: events would wait in the compressor."""


async def stream(request: web.Request) -> web.StreamResponse:
    """`POST /stream`: a hello in, the page's frames out for as long as the connection lives."""
    site = get_site(request)
    response = _EventStream()
    with await _admit(request, site) as place:
        hello = Text.encoded(await read_soon(request, site, TOKEN_BODY))
        try:
            writer = await response.prepare(request)
            await response.write(PADDING)
        except ConnectionError:
            return response  # the browser has gone before its stream began, which aiohttp would log as an error
        assert writer is not None  # its body has not ended
        transport = request.transport
        if transport is None:
            return response
        transport.set_write_buffer_limits(high=site.limits.high_water)
        carrier = StreamCarrier(transport, writer, chunked=request.version >= HttpVersion11)
        socket = (await _open(request, site, carrier, place)).socket
    watch = Watch(transport, carrier.end)
    try:
        with _held(site, place.visitor.session_id) as is_free:
            await socket.start()
            if not is_free:
                site.counters.refused["streams"] += 1
                socket.end(CloseCode.LIMIT, "streams")
            await _hand_over([hello], socket, site)
            await carrier.over
            await carrier.finish()
    finally:
        watch.stop()
        await asyncio.shield(site.leave(socket, CloseCode.ABNORMAL))
    return response


async def poll(request: web.Request) -> web.StreamResponse:
    """`POST /poll`: a hello in, the page's frames out as soon as there are some."""
    site = get_site(request)
    carrier = AnswerCarrier()
    with await _admit(request, site) as place:
        hello = Text.encoded(await read_soon(request, site, TOKEN_BODY))
        context = await _open(request, site, carrier, place)
    socket, fields = context.socket, read_hello(hello)

    stays = False

    def closed(code: int, reason: str) -> None:
        if stays:
            site.leave(socket, code)
        # If it is in this answer, which may not arrive, it matters only to one that may not come back.
        is_news = stays or (context.page is not None and returns(code) is Return.AWAY)
        if fields is not None and is_news and code not in _HARMLESS:
            site.part(fields.document, Close(code, reason))

    carrier.on_close = closed
    try:
        await socket.start()
        await _hand_over([hello], socket, site)
        socket.flush()
        if fields is not None and fields.wait:
            await _wait(request, site, carrier)
        if site.node.draining:
            # The connection is closed behind this answer, and nobody listens for the next one: it is said now.
            socket.end(CloseCode.RESTART, site.node.return_later())
        body = carrier.answer()
        stays = not carrier.over.done()
        return await answer(request, body, site.limits.stuck)
    finally:
        if not stays:
            await asyncio.shield(site.leave(socket, CloseCode.ABNORMAL))


async def _wait(request: web.Request, site: Site, carrier: AnswerCarrier) -> None:
    """Wait until a poll has something to say, unless too many of its browser session wait already."""
    session_id = (await site.identities.load(request)).session_id
    transport = request.transport
    if transport is None:
        carrier.end()
        return
    watch = Watch(transport, carrier.end)
    try:
        with _held(site, session_id) as is_free:
            if is_free:
                await carrier.ready
    finally:
        watch.stop()


async def post(request: web.Request) -> web.StreamResponse:
    """`POST /post`: a hello and what a page has to say in, what comes of it out."""
    site = get_site(request)
    carrier = AnswerCarrier()
    with await _admit(request, site) as place:
        messages, fault = _read_messages(await read_body(request, site, site.limits.post), site)
        context = await _open(request, site, carrier, place, attaches=False, high_water=ANSWER)
    socket = context.socket
    socket.on_pressure = carrier.suffice
    try:
        await socket.start()
        if fault is not None:
            socket.refuse(fault)
        await _hand_over(messages, socket, site)
        if context.page is not None and not socket.closed:
            await _settled(request, context.page.id, messages[0], carrier, socket, site)
        socket.flush()
        return await answer(request, carrier.answer(), site.limits.stuck)
    finally:
        await asyncio.shield(site.leave(socket, CloseCode.NORMAL))


def _read_messages(body: bytes, site: Site) -> tuple[list[Message], ProtocolError | None]:
    """What a post has brought, or what is wrong with it, which its socket is closed with."""
    try:
        items = split_batch(body)
        if len(items) > site.limits.post_frames:
            raise too_large(site, len(items), site.limits.post_frames, "messages")
        return read_batch(items), None
    except ProtocolError as error:
        return [], error


async def _settled(
    request: web.Request, page_id: str, hello: Message, carrier: AnswerCarrier, socket: Socket, site: Site
) -> None:
    """Wait for the results of what a post has asked for. Of one document one post waits: they go to the newest."""
    fields = read_hello(hello)
    assert fields is not None  # a page was found by it
    transport = request.transport
    if transport is None:
        return
    key, suffice = (page_id, fields.document), carrier.suffice
    working = asyncio.create_task(site.node.jobs.settled(page_id, fields.document, socket))
    watch = Watch(transport, carrier.end)
    try:
        await asyncio.sleep(0)
        if working.done():
            return  # it has asked for nothing
        if key in site.posts:
            site.posts[key]()
        site.posts[key] = suffice
        done = [working, carrier.over, carrier.enough]
        await asyncio.wait(done, timeout=HOLD, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.stop()
        working.cancel()
        if site.posts.get(key) is suffice:
            del site.posts[key]


# --- what they share --------------------------------------------------------------------------------------------------


async def _admit(request: web.Request, site: Site) -> Place:
    """What is checked before a body is read; and room for the socket that follows: bodies that are on their way count.

    Raises:
        What `read_json` raises for its checks, and `Sockets.admit`.
    """
    check_request(request, site, JSON)
    return site.sockets.admit(request, (await site.identities.load(request)).session_id)


async def _open(
    request: web.Request,
    site: Site,
    carrier: Carrier,
    place: Place,
    *,
    attaches: bool = True,
    high_water: int | None = None,
) -> Context:
    context = Context(request, read_only(await aiohttp_session.get_session(request)), attaches=attaches)
    socket = Socket(site.handler(), context, carrier, site.node.output, site.counters, site.limits, high_water)
    site.enter(socket, place)
    return context


async def _hand_over(messages: list[Message], socket: Socket, site: Site) -> None:
    """Give messages to the handler, one after the other, until the socket is closed."""
    if site.node.draining:  # it began while this request was being read
        socket.end(CloseCode.RESTART, site.node.return_later())
    for message in messages:
        if socket.closed:
            return
        if len(frame_payload(message.frame)) > site.limits.message_up:
            site.counters.refused["message too big"] += 1
            socket.end(CloseCode.TOO_BIG, f"a message has more than {site.limits.message_up} bytes")
            return
        if isinstance(message, Text) and not _is_utf8(message):
            socket.refuse(ProtocolError("text that is not UTF-8"))
            return
        await socket.handle(message)


def _is_utf8(message: Text) -> bool:
    """Of a WebSocket aiohttp has seen to it."""
    try:
        frame_payload(message.frame).decode()
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def _held(site: Site, session_id: str | None) -> Iterator[bool]:
    """A request waits; whether it may, by the count of those of its browser session that do."""
    if session_id is None:
        yield True  # its hello will be refused
        return
    is_free = site.held[session_id] < site.limits.held
    site.held[session_id] += is_free
    try:
        yield is_free
    finally:
        site.held[session_id] -= is_free
        if not site.held[session_id]:
            del site.held[session_id]
