"""The handler's four callbacks, and the context they share."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .wire import Binary, Close, Text

if TYPE_CHECKING:
    from aiohttp import web

    from .push_targets import Page
    from .socket import Socket

Reply = Text | Binary | Close
Replies = Reply | list[Reply] | None


class Context:
    """What the callbacks of one socket share.

    Attributes:
        request: the aiohttp request that opened the socket.
        socket: the socket, with `send_data`, `send_info` and `close`.
        session_data: the aiohttp-session mapping as it was at the upgrade. It is read only: an open socket cannot set
            a cookie, and writing raises.
        attaches: whether the socket becomes the page's own. That of a post only brings what the page has to say.
        page: the page session, None on a bare socket and before the hello.
        state: a dict of the handler's own.
    """

    __slots__ = ("attaches", "page", "request", "session_data", "socket", "state")

    def __init__(self, request: web.Request, session_data: Mapping[str, Any], *, attaches: bool = True) -> None:
        self.request = request
        self.session_data = session_data
        self.attaches = attaches
        self.socket: Socket
        self.page: Page | None = None
        self.state: dict[str, Any] = {}


class WebSocketHandler:
    """What an application does with one socket. Each socket gets an instance of its own.

    A callback returns None, a `Text`, `Binary` or `Close`, or a list of them; each may be a plain function or `async`.
    Callbacks of one socket never overlap: while one runs, what comes is kept in order, and what it returns is written
    before that. An exception in one is logged and counted, and closes this socket with 1011.

    After Zotonic's `controller_websocket`, whose handler modules have the same callbacks.
    """

    __slots__ = ()

    #: Subprotocols that the socket negotiates; with any, a client that offers none of them is refused.
    protocols: ClassVar[tuple[str, ...]] = ()

    def websocket_init(self, context: Context) -> Replies | Awaitable[Replies]:
        """The socket is open."""
        return None

    def websocket_handle(self, frame: Text | Binary, context: Context) -> Replies | Awaitable[Replies]:
        """The browser has sent a message."""
        return None

    def websocket_info(self, message: Any, context: Context) -> Replies | Awaitable[Replies]:
        """The server has something for the socket: a push, or what was given to `socket.send_info`."""
        return None

    def websocket_terminate(self, reason: int, context: Context) -> Awaitable[None] | None:
        """The socket has ended; `reason` is its close code, 1006 when the connection broke. Called once."""
        return None
