"""A site to be sent anything at all, and the raw connections that bring it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from aiohttp import web
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pagews import Context, DelegateTableDef, Page
from pagews.page_handler import PageHandler
from pagews.site import get_site
from tests.sites import Served, TestSite
from tests.test_protocol import corpus
from tests.wire_client import PATIENCE, SUBPROTOCOL, Visitor, new_document

T = TypeVar("T")

HOST: Final = "127.0.0.1"

table: Final = DelegateTableDef()


@table.on("echo")
async def echo(page: Page, data: Any) -> Any:
    return data


@table.on("upload")
async def upload(page: Page, data: bytes) -> bytes:
    return data


async def authorize(page: Page, topic: str) -> bool:
    return topic.startswith("room")


class Faults(logging.Handler):
    """What was logged as an error. Of what nobody has caught asyncio says so there too."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


class Bench:
    """A site in an event loop of its own, for as long as a property is tried on it: `with Bench() as bench:`

    At the end it must have logged no error, have nothing left open, and serve the next visitor.

    Attributes:
        visitor: a browser whose page was opened. cookie, token: what it got with that.
        ends: the code with which each socket has ended, as its handler was told.
    """

    def __init__(self, site: Served | None = None) -> None:
        self.ends: asyncio.Queue[int] = asyncio.Queue()
        self.site = site or TestSite(delegates=table, authorize=authorize, handler=self._handler())
        self.visitor: Visitor
        self.cookie = b""
        self.token = ""
        self.document = new_document()
        self.faults = Faults()
        self._attempts = 0
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self.faults)
        self.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.run(self._check())
        finally:
            self.run(self._stop())
            self._runner.close()
            gc.collect()
            logging.getLogger().removeHandler(self.faults)
        assert self.faults.texts == []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop of the site."""
        return self._runner.run(work)

    @property
    def app(self) -> web.Application:
        return self.site.workers[0].app

    @property
    def key(self) -> str:
        return self.site.workers[0].key

    @property
    def port(self) -> int:
        return self.site.port

    def refused(self) -> dict[str, int]:
        """What was turned away until now, by reason."""
        return dict(self.site.publisher.statistics().refused)

    def hello(self, **fields: Any) -> str:
        """The hello of the page's document, which comes once more."""
        self._attempts += 1
        known = {"token": self.token, "document": self.document, "attempt": self._attempts}
        return json.dumps(["hello", known | fields])

    async def send_after_upgrade(self, data: bytes) -> tuple[int, bytes]:
        """Send bytes over a new WebSocket, and then no more; returns its close code and all that came."""
        reader, writer = await self.upgrade()
        try:
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                return await self.ends.get(), await _all(reader)
        finally:
            writer.transport.abort()

    async def talk_after_upgrade(self, data: bytes, *, cookie: bytes | None = None) -> tuple[int, bytes]:
        """As `send_after_upgrade`, of bytes that must end the WebSocket: the server has all the time that it takes."""
        reader, writer = await self.upgrade(cookie)
        try:
            writer.write(data)
            async with asyncio.timeout(PATIENCE):
                said = await _all(reader)
                return await self.ends.get(), said
        finally:
            writer.transport.abort()

    async def upgrade(self, cookie: bytes | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        lines = [
            "GET /pagews/socket HTTP/1.1",
            f"Host: {HOST}:{self.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
        ]
        writer.write("\r\n".join(lines).encode() + self._cookie_line(cookie))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return reader, writer

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        cookie: bytes | None = None,
        kind: str = "",
        to_its_end: bool = False,
    ) -> Response:
        """An HTTP request over a connection of its own; of a stream only the head, or all of it `to_its_end`."""
        reader, writer = await self._begin(method, path, body, len(body), kind, cookie)
        try:
            async with asyncio.timeout(PATIENCE):
                status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
                size = int(fields.get("content-length", "0"))
                rest = await (_all(reader) if to_its_end else reader.readexactly(size))
                return Response(int(status.split()[1]), fields, rest)
        finally:
            writer.transport.abort()

    async def begin(self, method: str, path: str, body: bytes, *, length: int, kind: str) -> asyncio.StreamWriter:
        """Begin an HTTP request of which more is announced than comes."""
        return (await self._begin(method, path, body, length, kind, None))[1]

    async def _begin(
        self, method: str, path: str, body: bytes, length: int, kind: str, cookie: bytes | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{self.port}", f"Content-Length: {length}"]
        lines += [f"Content-Type: {kind}"] if kind else []
        writer.write("\r\n".join(lines).encode() + self._cookie_line(cookie) + body)
        return reader, writer

    def _cookie_line(self, cookie: bytes | None) -> bytes:
        return b"\r\nCookie: " + (self.cookie if cookie is None else cookie) + b"\r\n\r\n"

    async def _start(self) -> None:
        await self.site.start()
        self.visitor = Visitor(self.site.url)
        self.token = await self.visitor.token()
        self.cookie = self.visitor.cookie.encode()

    async def _check(self) -> None:
        """Nothing is left of what came, and the next visitor is served."""
        # A page that polls stays attached between two polls.
        body = f'[{self.hello()},["bye"]]'.encode()
        await self.request("POST", "/pagews/post", body, kind="application/json")
        sites = [get_site(worker.app) for worker in self.site.workers]
        async with asyncio.timeout(PATIENCE):
            while any(len(site.sockets) + len(site.endings) + site.held.total() for site in sites):  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0)
        assert not any(site.uploads or site.posts for site in sites)
        async with Visitor(self.site.url) as visitor:
            wire = await visitor.attach()
            assert await wire.ask("send", 1, 1, "echo", "still here") == ["result", 1, True, "still here"]

    async def _stop(self) -> None:
        await self.visitor.__aexit__(None, None, None)
        await self.site.stop()

    def _handler(self) -> type[PageHandler]:
        ends = self.ends

        class Watched(PageHandler):
            __slots__ = ()

            def websocket_terminate(self, reason: int, context: Context) -> None:
                ends.put_nowait(reason)

        return Watched


async def _all(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, or breaks: of one that is closed with bytes unread, TCP tells so."""
    said = bytearray()
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            said += chunk
    return bytes(said)


class Response(NamedTuple):
    """What a server has answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def tries(count: int) -> settings:
    """For a property that is tried so often, however long a busy machine takes to draw the examples."""
    return settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow])


# --- what may come ----------------------------------------------------------------------------------------------------


def frame(
    payload: bytes,
    opcode: int = 1,
    *,
    last: bool = True,
    reserved: int = 0,
    mask: bytes | None = b"\1\2\3\4",
    size: int | None = None,
    width: int = 0,
) -> bytes:
    """A WebSocket frame (RFC 6455 section 5.2), as wrong as it is asked for.

    Arguments:
        mask: None: it is not masked, which a browser's must be.
        size: what it says that its payload has.
        width: bytes in which it says so, if not as few as possible.
    """
    size = len(payload) if size is None else size
    width = width or (0 if size < 126 else 2 if size < 65536 else 8)
    lead = size if not width else 126 if width == 2 else 127
    head = (
        bytes((last << 7 | reserved << 4 | opcode, (mask is not None) << 7 | lead))
        + size.to_bytes(8, "big")[8 - width :]
    )
    if mask is None:
        return head + payload
    pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + mask + masked.to_bytes(len(payload), "big")


CORPUS: Final = [message if isinstance(message, bytes) else message.encode() for message, _, _ in corpus()]

#: What parsers have stumbled over.
HOSTILE: Final = [
    b"",
    b"[" * 5000,
    b'["send",1,1,"echo",' + b"[" * 5000,
    b'["send",1,1,"echo",' + b"[" * 900 + b"]" * 900 + b"]",
    b'["send",1,1,"echo",NaN]',
    b'["send",1,1,"echo",1e999]',
    b'["send",1,1,"echo",' + b"9" * 5000 + b"]",
    b'["send",' + b"9" * 5000 + b',1,"echo",0]',
    b'["send",1e0,1,"echo",0]',
    b'["send",1,1,"echo","\\ud800"]',
    b'["send",1,1,"\\ud800",0]',
    b'["send",1,1,"\\u0000",0]',
    b'["send",1,1,"__proto__",{"__proto__":{"constructor":1}}]',
    b'["join",1,"room*"]',
    b'["join",1,"room\\r\\n{}"]',
    b'["leave",1,"\\ud800"]',
    b'["ack",-1,true,0]',
    b'["ack",9007199254740991,true,0]',
    b'["ack",1,false,{"code":"\\ud800","message":""}]',
    b'["hello",{}]',
    b'["send",1,1,"echo","\xff\xfe"]',
    b'["send",1,1,"echo","\xed\xa0\x80"]',
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x13" + b'["ack",1,true,null]' + b"\xff",
    b"\0\0\0\x1b" + b'["send",1,2,"upload",null]' + b"\xff",
]

JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**54)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["send", "hello", "echo", "ack", "room", "__proto__"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)

FRAMES: Final = st.builds(
    lambda kind, items: json.dumps([kind, *items]).encode(),
    st.sampled_from(["send", "ack", "join", "leave", "bye", "pong", "hello", "push", "", None, 1]),
    st.lists(JSON, max_size=6) | st.tuples(st.integers(1, 9), st.integers(0, 2), st.just("echo"), JSON),
)

#: The payload of a message from a browser.
MESSAGES: Final = st.one_of(
    st.sampled_from(CORPUS), st.sampled_from(HOSTILE), FRAMES, JSON.map(lambda data: json.dumps(data).encode()),
    st.binary(max_size=80),
)  # fmt: skip
