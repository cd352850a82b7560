"""The controller: it accepts the upgrade, and runs the socket's receive loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import aiohttp_session
from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from .admission import RETRY_AFTER
from .errors import CloseCode, ConfigurationError
from .handler import Context, WebSocketHandler
from .identity import read_only
from .origin import check_origin
from .shared_wait import SharedWait
from .site import Site, get_site
from .socket import Socket
from .templating import render
from .wire import Binary, Text

#: Seconds that a browser has to answer a close frame.
CLOSE_TIME: Final = 5.0


class WebSocketCarrier:
    """Carries the bytes of one socket over an upgraded connection, past aiohttp's own writer: frames come framed."""

    __slots__ = ("_closing", "_drained", "_transport", "_writer", "_ws", "write")

    def __init__(self, ws: web.WebSocketResponse, writer: AbstractStreamWriter, transport: asyncio.Transport) -> None:
        self._ws = ws
        self._writer = writer
        self._transport = transport
        self.write = transport.write
        self._closing: asyncio.Task[None] | None = None
        self._drained = SharedWait(writer.drain)

    def backlog(self) -> int:
        return self._transport.get_write_buffer_size()

    async def drain(self) -> None:
        await self._drained()

    def close(self, code: int, reason: bytes) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, reason))

    async def _close(self, code: int, reason: bytes) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIME):
                await self._ws.close(code=code, message=reason)
        except (TimeoutError, ConnectionError):
            self._transport.abort()

    async def closed(self) -> None:
        """Wait until a close that has begun is over."""
        if self._closing is not None:
            await asyncio.wait([self._closing])


async def websocket_start(request: web.Request, handler: type[WebSocketHandler] | None = None) -> web.StreamResponse:
    """Accept a WebSocket in a view, and run it to its end.

    Arguments:
        handler: the class of the socket's handler, made anew for it; None: the application's default.

    Returns:
        the response to return from the view. A request that is no upgrade gets 426 and a page that says so.

    Raises:
        web.HTTPForbidden: the Origin is foreign. web.HTTPBadRequest: the handler's subprotocol is not offered.
        web.HTTPServiceUnavailable: the process is about to stop, or has too many sockets, in all or of this visitor.
    """
    site = get_site(request)
    check_origin(request, site)
    if not is_upgrade(request):
        return _upgrade_required()
    if site.node.draining:
        site.counters.refused["draining"] += 1
        raise web.HTTPServiceUnavailable(text="About to stop.\n", headers={"Retry-After": str(RETRY_AFTER)})
    handler = handler or site.handler
    _check_subprotocol(request, handler, site)
    try:
        ws, socket, carrier = await _open(request, site, handler)
    except ConnectionError:
        return web.Response(status=400)  # the browser has gone during the upgrade, which aiohttp would log as an error
    await _run(socket, carrier, site, ws)
    return ws


def is_upgrade(request: web.Request) -> bool:
    """Whether a request asks to become a WebSocket (RFC 6455 section 4.2.1)."""
    return request.headers.get("Upgrade", "").strip().lower() == "websocket"


def websocket(handler: type[WebSocketHandler]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """An aiohttp route handler whose sockets get an instance each of `handler`:

        app.router.add_get("/socket/custom", pagews.websocket(Echo))

    Raises:
        ConfigurationError: `handler` is not a subclass of `WebSocketHandler`.
    """
    check_handler("websocket()", handler, WebSocketHandler)

    async def controller(request: web.Request) -> web.StreamResponse:
        return await websocket_start(request, handler=handler)

    return controller


def check_handler(what: str, handler: object, base: type) -> None:
    """Raises ConfigurationError unless `handler` is a subclass of `base`."""
    if not (isinstance(handler, type) and issubclass(handler, base)):
        raise ConfigurationError(f"{what}: give a subclass of pagews.{base.__name__}, not {handler!r}")


async def _open(
    request: web.Request, site: Site, handler: type[WebSocketHandler]
) -> tuple[web.WebSocketResponse, Socket, WebSocketCarrier]:
    ws = web.WebSocketResponse(
        protocols=handler.protocols,
        max_msg_size=site.limits.message_up + 1,  # aiohttp refuses what reaches it
        compress=False,
        timeout=CLOSE_TIME,
        autoping=False,  # control frames count among what a browser sends
    )
    identity = await site.identities.load(request)
    with site.sockets.admit(request, identity.session_id) as place:
        writer = await ws.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the browser has gone during the upgrade")
        transport.set_write_buffer_limits(high=site.limits.high_water)
        carrier = WebSocketCarrier(ws, writer, transport)
        context = Context(request, read_only(await aiohttp_session.get_session(request)))
        socket = Socket(handler(), context, carrier, site.node.output, site.counters, site.limits)
        site.enter(socket, place)
    return ws, socket, carrier


async def _run(socket: Socket, carrier: WebSocketCarrier, site: Site, ws: web.WebSocketResponse) -> None:
    """The receive loop. It waits for as long as the socket lives: few and small frames of the stack are memory."""
    code: int = CloseCode.ABNORMAL
    try:
        await socket.start()
        if site.node.draining:  # it began while this socket was being accepted
            socket.end(CloseCode.RESTART, site.node.return_later())
        while not socket.closed:
            try:
                message = await ws.receive()
            except ConnectionError:
                break  # aiohttp closes by itself when it is sent nonsense, and the line may break under that
            if message.type is WSMsgType.TEXT:
                await socket.handle(Text(message.data))
            elif message.type is WSMsgType.BINARY:
                await socket.handle(Binary(message.data))
            elif message.type is WSMsgType.PING or message.type is WSMsgType.PONG:
                await _answer(message, socket, ws)
            else:
                code = _close_code(message.data, ws, site)
                break
    finally:
        # A server that cancels the handlers of lost connections must not cut the end of a socket short.
        await asyncio.shield(site.leave(socket, code))
        await carrier.closed()


async def _answer(message: WSMessage, socket: Socket, ws: web.WebSocketResponse) -> None:
    """A control frame has come: a ping is answered (RFC 6455 section 5.5.2)."""
    if socket.admits() and message.type is WSMsgType.PING:
        with suppress(ConnectionError):  # the line may break under the answer, and the next `receive` says so
            await ws.pong(message.data)


def _close_code(error: object, ws: web.WebSocketResponse, site: Site) -> int:
    if not isinstance(error, WebSocketError):
        return ws.close_code or CloseCode.ABNORMAL
    reason = "message too big" if error.code == WSCloseCode.MESSAGE_TOO_BIG else "malformed frame"
    site.counters.refused[reason] += 1
    # aiohttp itself forgets the code of what it refuses while it closes.
    return error.code


def _check_subprotocol(request: web.Request, handler: type[WebSocketHandler], site: Site) -> None:
    if not handler.protocols:
        return
    offered = {name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
    if offered.isdisjoint(handler.protocols):
        site.counters.refused["subprotocol"] += 1
        raise web.HTTPBadRequest(text=f"This socket speaks {' or '.join(handler.protocols)}.\n")


def _upgrade_required() -> web.Response:
    """RFC 9110 section 15.5.22."""
    return web.Response(
        status=426,
        text=render("upgrade.html"),
        content_type="text/html",
        headers={
            "Upgrade": "websocket",
            "X-Robots-Tag": "noindex",
            "Cache-Control": "no-store",
        },
    )
