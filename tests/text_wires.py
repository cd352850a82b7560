"""Streams, polls and posts, spoken by hand over plain connections, sharing no code with the library."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

#: What a page says in the one lane; everything else goes in the other, and so does not wait for a delegate.
ASKING: Final = ("send", "join", "leave")


class Answer(NamedTuple):
    """A response: its status, its headers by lower-case names, and its body, empty for a stream."""

    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """One connection to a site, kept alive: requests go over it one after the other.

    Arguments:
        url: the site's address.
        cookie: what the browser sends as its Cookie header.
        origin: None: none is sent.
    """

    def __init__(self, url: str, cookie: str, origin: str | None) -> None:
        self._host = urlsplit(url).netloc
        self._cookie = cookie
        self._origin = origin
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def use(self, connection: socket.socket) -> None:
        """Go over a connection that is there already, of which next to nothing is read before it is asked for."""
        self._streams = await asyncio.open_connection(sock=connection, limit=4096)

    async def request(self, path: str, body: bytes, *, streams: bool = False, **headers: str) -> Answer:
        """POST, with more headers or others than usual; `streams`: do not wait for the body.

        Raises:
            OSError, EOFError: the connection cannot be made, or breaks.
        """
        if self._streams is None:
            host, _, port = self._host.partition(":")
            self._streams = await asyncio.open_connection(host, int(port))
        reader, writer = self._streams
        usual = {"Host": self._host, "Content-Type": "application/json", "Content-Length": str(len(body))}
        if self._cookie:
            usual["Cookie"] = self._cookie
        if self._origin is not None:
            usual["Origin"] = self._origin
        usual |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in usual.items() if value)]
        writer.write("\r\n".join([*lines, "\r\n"]).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(head[0].split()[1])
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        if streams and status == 200:
            return Answer(status, found, b"")
        answer = Answer(status, found, await reader.readexactly(int(found.get("content-length", "0"))))
        if found.get("connection", "").lower() == "close":
            self.cut()
        return answer

    async def chunks(self) -> AsyncIterator[bytes]:
        """What comes of a body that goes on, piece by piece, to its end.

        Raises:
            EOFError: the connection broke before that.
        """
        assert self._streams is not None
        reader = self._streams[0]
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]

    def cut(self) -> None:
        """Break the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def as_item(message: str | bytes) -> str:
    """A message as an item of a JSON array."""
    return message if isinstance(message, str) else json.dumps(base64.b64encode(message).decode())


def from_item(item: Any) -> str | bytes:
    """The message that an item of a JSON array is."""
    return base64.b64decode(item, validate=True) if isinstance(item, str) else json.dumps(item)


class Ended(NamedTuple):
    """How the messages of a wire have ended."""

    code: int
    reason: str


class TextCarrier:
    """One carrier: what it hears comes out of `receive`, in order, and then its end.

    Arguments:
        line: makes a connection.
    """

    def __init__(self, line: Callable[[], Line]) -> None:
        self._make = line
        self._lines: list[Line] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard: asyncio.Queue[str | bytes | Ended] = asyncio.Queue()
        self._end: Ended | None = None
        #: The hello of a post: the first message that was sent.
        self._hello = ""
        self._lanes: dict[bool, list[str]] = {True: [], False: []}
        self._sending: dict[bool, asyncio.Task[None]] = {}

    async def send(self, message: str | bytes) -> None:
        """The first one opens it; more go up by posts, in two lanes. Nothing does when it has ended."""
        if self._end is not None:
            return
        if not self._hello:
            self._hello = as_item(message)
            await self._begin()
            return
        asks = isinstance(message, bytes) or message.startswith(tuple(f'["{kind}"' for kind in ASKING))
        if isinstance(message, bytes):
            asks = b'"send"' in message[:20]
        self._lanes[asks].append(as_item(message))
        if asks not in self._sending or self._sending[asks].done():
            self._sending[asks] = self._spawn(lambda: self._lane(asks))

    async def receive(self) -> str | bytes | Ended:
        """The next message, or how it has ended."""
        if self._heard.empty() and self._end is not None:
            return self._end
        return await self._heard.get()

    def cut(self) -> None:
        """Break it off."""
        self._over(Ended(1006, ""))

    async def post(self, *items: str) -> Answer:
        """Send a post of its own."""
        return await self._line().request("/pagews/post", f"[{','.join(items)}]".encode())

    async def gone(self) -> None:
        """Wait until nothing of it runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # --- for the two kinds --------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        raise NotImplementedError

    def _hear(self, message: str | bytes) -> None:
        """Hand on a message that has come."""
        if self._end is not None:
            return
        frame = json.loads(message) if isinstance(message, str) else None
        match frame:
            case ["close", int(code), str(reason)]:
                self._over(Ended(code, reason))
                return
            case ["token", str(token)] | ["welcome", {"token": str(token)}]:
                kind, fields = json.loads(self._hello)
                self._hello = json.dumps([kind, fields | {"token": token}])
        self._heard.put_nowait(message)

    def _over(self, end: Ended) -> None:
        if self._end is not None:
            return
        self._end = end
        self._heard.put_nowait(end)
        for line in self._lines:
            line.cut()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()

    def _line(self) -> Line:
        line = self._make()
        self._lines.append(line)
        return line

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work()
            except (OSError, EOFError):
                self._over(Ended(1006, ""))

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _lane(self, asks: bool) -> None:
        line = self._line()
        while items := self._lanes[asks]:
            self._lanes[asks] = []
            answer = await line.request("/pagews/post", f"[{','.join([self._hello, *items])}]".encode())
            if answer.status != 200:
                self._over(Ended(1006, f"post: status {answer.status}"))
                return
            for item in json.loads(answer.body):
                self._hear(from_item(item))


class StreamCarrier(TextCarrier):
    """The server's messages come as events of one response."""

    async def _begin(self) -> None:
        line = self._line()
        try:
            answer = await line.request("/pagews/stream", self._hello.encode(), streams=True)
        except (OSError, EOFError):
            self._over(Ended(1006, "no answer"))
            return
        if answer.status != 200:
            self._over(Ended(1006, f"status {answer.status}"))
            return
        assert answer.headers["content-type"].startswith("text/event-stream")
        self._spawn(lambda: self._read(line))

    async def _read(self, line: Line) -> None:
        events = b""
        async for chunk in line.chunks():
            *whole, events = (events + chunk).split(b"\n\n")
            for event in whole:
                if event.startswith(b"data: "):
                    data = event[6:].decode()
                    assert "\n" not in data
                    self._hear(data if data.startswith("[") else base64.b64decode(data, validate=True))
        self._over(Ended(1006, "the body has ended"))


class PollCarrier(TextCarrier):
    """The server's messages come in answers. It asks for the next one when someone waits for it."""

    def __init__(self, line: Callable[[], Line]) -> None:
        super().__init__(line)
        self._polls: Line
        self._polling: asyncio.Task[None] | None = None
        self._is_first = True
        self._cursor: dict[str, Any] = {}

    async def _begin(self) -> None:
        self._polls = self._line()
        try:
            await self._poll(self._hello)
        except (OSError, EOFError):
            self._over(Ended(1006, "no answer"))

    async def receive(self) -> str | bytes | Ended:
        if self._heard.empty() and self._end is None and (self._polling is None or self._polling.done()):
            self._polling = self._spawn(self._go_on)
        return await super().receive()

    async def _go_on(self) -> None:
        while self._heard.empty() and self._end is None:
            kind, fields = json.loads(self._hello)
            fields |= {"attempt": fields["attempt"] + 1, "wait": True, **self._cursor}
            self._hello = json.dumps([kind, fields])
            await self._poll(self._hello)

    async def _poll(self, hello: str) -> None:
        answer = await self._polls.request("/pagews/poll", hello.encode())
        if answer.status != 200:
            self._over(Ended(1006, f"status {answer.status}"))
            return
        items = json.loads(answer.body)
        assert items[0][0] in ("welcome", "close"), "every answer begins with one of them"
        for item in items:
            self._note(from_item(item))

    def _note(self, message: str | bytes) -> None:
        """Move the cursor; a welcome that says nothing new is no news."""
        frame = json.loads(message if isinstance(message, str) else message[4 : 4 + int.from_bytes(message[:4], "big")])
        match frame:
            case ["welcome", {"lost": None, "forked": False, "token": None, "epoch": epoch, "seq": seq}]:
                self._cursor = {"epoch": epoch, "seq": seq}
                if not self._is_first:
                    return
            case ["welcome", {"epoch": epoch, "seq": seq}]:
                self._cursor = {"epoch": epoch, "seq": seq}
            case ["push" | "ping", seq, *_]:
                self._cursor["seq"] = max(seq, self._cursor["seq"])
        self._is_first = False
        self._hear(message)
