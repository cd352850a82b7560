"""A client that speaks the wire protocol, sharing no code with the library: WebSockets by the `websockets` package,
streams, polls and posts by hand.

`Visitor` is one browser: cookies, pages, sockets. `Wire` is one socket, as raw as a test needs it. `Document` is one
page that does what the protocol asks of a client: comes back from its cursor, drops what it has seen, sends again what
has no answer.
"""

from __future__ import annotations

import abc
import asyncio
import itertools
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, get_args

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Origin, Subprotocol

from tests.down_frames import read_down
from tests.text_wires import Ended, Line, PollCarrier, StreamCarrier, TextCarrier

Transport = Literal["websocket", "stream", "poll"]
TRANSPORTS: Final[tuple[Transport, ...]] = get_args(Transport)

#: Attempts that are left between two of a test for the hellos of polls, which count as attempts too.
POLLS: Final = 1_000_000

#: Seconds that anything may take. The tests wait for events; this only ends those that never come.
PATIENCE: Final = 10.0

SUBPROTOCOL: Final = "pagews.v1"


def new_document() -> str:
    """128 random bits, as every JavaScript context has them."""
    return secrets.token_hex(16)


class Closed(NamedTuple):
    """How a socket has ended: the code and reason of the server's close frame, 1006 when there was none."""

    code: int
    reason: str


class SocketClosed(Exception):
    """A frame was waited for, and the socket has ended instead. Attributes: `code`, `reason`."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(closed)
        self.code, self.reason = closed


class Visitor:
    """One browser: its cookies, and the pages it fetches.

    Arguments:
        url: the site's address, or that of a proxy in front of it, without a slash at the end.
        transport: what carries the sockets that it opens.
    """

    def __init__(self, url: str, transport: Transport = "websocket") -> None:
        self.url = url
        self.transport: Transport = transport
        self._jar = aiohttp.CookieJar(unsafe=True)
        self.http = aiohttp.ClientSession(cookie_jar=self._jar)
        self._wires: list[Wire] = []
        self._lines: list[Line] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for wire in self._wires:
            wire.cut()
        for line in self._lines:
            line.cut()
        await asyncio.gather(*(wire.gone() for wire in self._wires))
        await self.http.close()

    @property
    def cookie(self) -> str:
        """What the browser sends as its Cookie header."""
        return "; ".join(f"{cookie.key}={cookie.value}" for cookie in self._jar)

    async def token(self, path: str = "/") -> str:
        """Open a page; returns the token of its include."""
        async with self.http.get(self.url + path, headers={"Accept": "text/html"}) as response:
            html = await response.text()
            assert response.status == 200, html
        [token] = re.findall(r'data-page="([^"]+)"', html)
        return str(token)

    async def get(self, path: str) -> int:
        """Fetch something for its effects; returns the status."""
        async with self.http.get(self.url + path) as response:
            return response.status

    async def renew(
        self, body: object, *, raw: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """`POST /renew`; returns the status, and the JSON of the answer when it is some."""
        data = json.dumps(body).encode() if raw is None else raw
        headers = {"Content-Type": "application/json", "Origin": self.url, **(headers or {})}
        async with self.http.post(f"{self.url}/pagews/renew", data=data, headers=headers) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else await response.text()

    async def connect(
        self,
        path: str = "/pagews/socket",
        *,
        url: str | None = None,
        origin: str | None = "",
        protocols: tuple[str, ...] = (SUBPROTOCOL,),
        cookie: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> WebSocketWire:
        """Open a WebSocket.

        Arguments:
            url: another address than the visitor's, to whose host it says to connect.
            origin: None: none; empty: the page's own.

        Raises:
            InvalidStatus: the upgrade was refused.
        """
        url = url or self.url
        cookie = self.cookie if cookie is None else cookie
        ws = await connect(
            url.replace("http", "ws", 1) + path,
            origin=None if origin is None else Origin(origin or url),
            subprotocols=[Subprotocol(name) for name in protocols] or None,
            additional_headers={**({"Cookie": cookie} if cookie else {}), **(headers or {})},
            compression=None,
            ping_interval=None,
            open_timeout=PATIENCE,
            close_timeout=PATIENCE,
            max_size=None,
            proxy=None,
            **options,
        )
        wire = WebSocketWire(ws)
        self._wires.append(wire)
        return wire

    def line(self, *, cookie: str | None = None, origin: str | None = "") -> Line:
        """A connection for requests. `origin`: as for `connect`."""
        cookie = self.cookie if cookie is None else cookie
        line = Line(self.url, cookie, None if origin is None else origin or self.url)
        self._lines.append(line)
        return line

    async def open(self, transport: Transport | None = None, *, cookie: str | None = None) -> Wire:
        """Open a socket. A stream or a poll begins with the first message."""
        transport = transport or self.transport
        if transport == "websocket":
            return await self.connect(cookie=cookie)
        kind = StreamCarrier if transport == "stream" else PollCarrier
        wire = TextWire(kind(lambda: self.line(cookie=cookie)), transport)
        self._wires.append(wire)
        return wire

    async def attach(self, token: str | None = None, **hello: Any) -> Wire:
        """Open a socket and say hello with it; returns when it has been welcomed.

        Arguments:
            token: None: that of a page that is opened for it.
            hello: fields of the hello that are not the usual ones.
        """
        token = await self.token() if token is None else token
        wire = await self.open()
        await wire.hello(token, **hello)
        kind, wire.welcome, *_ = await wire.receive()
        assert kind == "welcome"
        return wire


class Wire(abc.ABC):
    """One socket.

    Attributes:
        welcome: what the server said to its hello.
    """

    transport: Transport

    def __init__(self) -> None:
        self.welcome: dict[str, Any] = {}

    @abc.abstractmethod
    async def send_raw(self, data: str | bytes) -> None:
        """Send a message as it is."""

    @abc.abstractmethod
    async def next(self) -> str | bytes:
        """The next message as it is, however long it takes.

        Raises:
            SocketClosed: the socket has ended.
        """

    @abc.abstractmethod
    def cut(self) -> None:
        """Break the connection, without a close frame."""

    @abc.abstractmethod
    async def gone(self) -> None:
        """Wait until nothing of it runs any more, after a cut."""

    @property
    def page(self) -> str:
        """The page id that it was welcomed with."""
        return str(self.welcome["page"])

    async def send(self, *frame: object) -> None:
        """Send a frame."""
        await self.send_raw(json.dumps(frame))

    async def send_binary(self, payload: bytes, *frame: object) -> None:
        """Send a frame with bytes as its data."""
        header = json.dumps(frame).encode()
        await self.send_raw(len(header).to_bytes(4, "big") + header + payload)

    async def hello(self, token: str, *, document: str | None = None, attempt: int = 1, **fields: Any) -> None:
        """Say hello, and do not wait for the welcome. Each attempt has room for the hellos of many polls."""
        document = document or new_document()
        known = {"token": token, "document": document, "attempt": attempt * POLLS, "transport": self.transport}
        await self.send("hello", {**known, **fields})

    async def receive_raw(self) -> str | bytes:
        """The next message as it is.

        Raises:
            SocketClosed: the socket has ended.
        """
        async with asyncio.timeout(PATIENCE):
            return await self.next()

    async def receive(self) -> list[Any]:
        """The next frame; one with bytes has them where its data is."""
        return read_down(await self.receive_raw())

    async def ask(self, *frame: object) -> list[Any]:
        """Send a frame; returns the next one that comes."""
        await self.send(*frame)
        return await self.receive()

    async def closed(self) -> Closed:
        """Wait for the end, whatever still comes before it."""
        while True:
            try:
                await self.receive_raw()
            except SocketClosed as end:
                return Closed(end.code, end.reason)


class WebSocketWire(Wire):
    """A WebSocket."""

    transport = "websocket"

    def __init__(self, ws: ClientConnection) -> None:
        super().__init__()
        self.ws = ws

    async def send_raw(self, data: str | bytes) -> None:
        await self.ws.send(data)

    async def next(self) -> str | bytes:
        try:
            return await self.ws.recv()
        except ConnectionClosed as error:
            received = error.rcvd
            raise SocketClosed(Closed(received.code, received.reason) if received else Closed(1006, "")) from error

    def cut(self) -> None:
        self.ws.transport.abort()

    async def gone(self) -> None:
        await self.ws.wait_closed()


class TextWire(Wire):
    """A stream or polls, with posts."""

    def __init__(self, carrier: TextCarrier, transport: Transport) -> None:
        super().__init__()
        self.carrier = carrier
        self.transport = transport

    async def send_raw(self, data: str | bytes) -> None:
        await self.carrier.send(data)

    async def next(self) -> str | bytes:
        message = await self.carrier.receive()
        if isinstance(message, Ended):
            raise SocketClosed(Closed(*message))
        return message

    def cut(self) -> None:
        self.carrier.cut()

    async def gone(self) -> None:
        await self.carrier.gone()


class Push(NamedTuple):
    """What a document was shown."""

    seq: int
    to: str
    delegate: str
    data: Any


class Document:
    """One page that comes back for as long as it runs: `async with Document(visitor, token) as document:`

    Attributes:
        received: every push, as its delegates were shown them.
        results: the answers to its sends, by id.
        welcomes: what every hello was answered with. `closes`: how every socket ended.
        repeated: frames below the cursor, which it has dropped.
        delegate: called with each push; what it returns answers one that asks.
    """

    def __init__(self, visitor: Visitor, token: str) -> None:
        self.received: list[Push] = []
        self.results: dict[int, list[Any]] = {}
        self.welcomes: list[dict[str, Any]] = []
        self.closes: list[Closed] = []
        self.repeated = 0
        #: what carries its next socket; None: what its visitor says
        self.transport: Transport | None = None
        self.delegate: Callable[[Push], Awaitable[Any]] = _nothing
        #: its page's token, the newest that it was given
        self.token = token
        #: what it calls itself
        self.id = new_document()
        self._visitor = visitor
        self._attempts = itertools.count(1)
        self._ids = itertools.count(1)
        self._epoch: str | None = None
        self._seq = 0
        self._unanswered: dict[int, list[Any]] = {}
        self._answers: dict[int, list[Any]] = {}
        self._wire: Wire | None = None
        # One that it moves to.
        self._next: Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        # What is sent again goes out before what is sent anew.
        self._in_order = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and self._task.exception() is not None and error is None:
            raise self._task.exception() or AssertionError

    @property
    def unanswered(self) -> int:
        """How many sends have no result, and answers no confirmation."""
        return len(self._unanswered) + len(self._answers)

    async def send(self, delegate: str, data: Any = None, *, qos: int = 1) -> int:
        """Send now, and again after every cut until there is a result; returns the id."""
        async with self._in_order:
            number = next(self._ids)
            frame = self._unanswered[number] = ["send", number, qos, delegate, data]
            if self._wire is not None:
                await self._write(self._wire, frame)
        return number

    async def move(self, transport: Transport) -> None:
        """Go on over another transport: say hello there, and let the old socket be superseded."""
        self.transport = transport
        wire = await self._visitor.open(transport)
        await self._greet(wire)
        self._next = wire

    async def until(self, true: Callable[[Document], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(3 * PATIENCE), self._changed:
            await self._changed.wait_for(lambda: true(self) or (self._task is not None and self._task.done()))
        assert true(self), f"the document has ended: {self._task!r}"

    async def _run(self) -> None:
        try:
            while True:
                await self._visit()
                await self._tell()
        finally:
            await asyncio.shield(self._tell())

    async def _visit(self) -> None:
        wire, self._next = self._next, None
        if wire is None:
            try:
                wire = await self._visitor.open(self.transport)
            except (OSError, EOFError, InvalidHandshake):
                self.closes.append(Closed(1006, "no upgrade"))
                return
            await self._greet(wire)
        try:
            while True:
                try:
                    message = await wire.next()
                except SocketClosed as end:
                    self.closes.append(Closed(end.code, end.reason))
                    return
                await self._take(wire, read_down(message))
                await self._tell()
        finally:
            self._wire = None
            wire.cut()

    async def _greet(self, wire: Wire) -> None:
        cursor = {} if self._epoch is None else {"epoch": self._epoch, "seq": self._seq}
        attempt = next(self._attempts) * POLLS
        hello = {"token": self.token, "document": self.id, "attempt": attempt, **cursor}
        await self._write(wire, ["hello", hello])

    async def _take(self, wire: Wire, frame: list[Any]) -> None:
        match frame:
            case ["welcome", dict() as fields]:
                self.welcomes.append(fields)
                assert fields["lost"] is None, fields
                assert fields["forked"] is False, fields
                if self._epoch is None:
                    self._epoch, self._seq = fields["epoch"], fields["seq"]
                self.token = fields["token"] or self.token
                async with self._in_order:
                    self._wire = wire
                    for waiting in [*self._unanswered.values(), *self._answers.values()]:
                        await self._write(wire, waiting)
            case ["push", seq, to, delegate, data, *receipt]:
                if seq and seq <= self._seq:
                    self.repeated += 1
                    return
                self._seq = seq or self._seq
                push = Push(seq, to, delegate, data)
                self.received.append(push)
                value = await self.delegate(push)
                if receipt:
                    self._answers[receipt[0]] = ["ack", receipt[0], True, value]
                    await self._write(wire, self._answers[receipt[0]])
            case ["ping", seq]:
                self._seq = max(self._seq, seq)
                await self._write(wire, ["pong"])
            case ["acked", receipt]:
                self._answers.pop(receipt, None)
            case ["result", number, *outcome]:
                self._unanswered.pop(number, None)
                self.results[number] = outcome
            case ["token", token]:
                self.token = token
            case _:
                raise AssertionError(f"the server sent {frame!r}")

    async def _write(self, wire: Wire, frame: list[Any]) -> None:
        # What needs an answer is sent again after the next welcome.
        with suppress(ConnectionClosed):
            await wire.send(*frame)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _nothing(push: Push) -> None:
    """A page without delegates."""
