"""A TCP proxy that breaks connections on purpose, at an exact byte, and keeps a record of what it has done.

    async with FaultProxy("127.0.0.1", server.port) as proxy:
        ...                                   # the client connects to proxy.port
        link = await proxy.connected()
        link.down.cut_when(inside_frame(b"headline"))
        await link.ended()
        assert proxy.counts["cut"] == 1

It must be used in one event loop. `down` is from the server to the client, `up` the other way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, NamedTuple, Self

HOST: Final = "127.0.0.1"

#: Bytes that are read at once, and that wait in each direction of a connection while it is stalled.
CHUNK: Final = 64 * 1024

#: Looks at what has passed in one direction and at what comes next, and says how many bytes of that to hand on before
#: the connection is cut; None: go on.
Rule = Callable[[bytearray, bytes], int | None]


# --- where to cut -----------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A whole WebSocket frame in a recorded stream: its place, and its payload without the mask."""

    start: int
    end: int
    opcode: int
    payload: bytes


def frames(stream: bytes | bytearray) -> Iterator[Frame]:
    """The whole frames behind the HTTP header of a recorded stream (RFC 6455 section 5.2)."""
    header = stream.find(b"\r\n\r\n")
    start = header + 4
    while header >= 0 and len(stream) >= start + 2:
        size, place = stream[start + 1] & 0x7F, start + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, place = int.from_bytes(stream[place : place + width], "big"), place + width
        mask = b""
        if stream[start + 1] & 0x80:
            mask, place = bytes(stream[place : place + 4]), place + 4
        end = place + size
        if end > len(stream):
            return
        payload = bytes(stream[place:end])
        if mask:
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        yield Frame(start, end, stream[start] & 0x0F, payload)
        start = end


def after_bytes(count: int) -> Rule:
    """Cut when `count` bytes have passed since the connection began; 0: before the first."""

    def rule(before: bytearray, chunk: bytes) -> int | None:
        return max(0, count - len(before)) if len(before) + len(chunk) >= count else None

    return rule


def after_header(before: bytearray, chunk: bytes) -> int | None:
    """Cut at the end of the HTTP header."""
    end = (before + chunk).find(b"\r\n\r\n")
    return None if end < 0 else end + 4 - len(before)


def after_frame(containing: bytes = b"") -> Rule:
    """Cut at the end of the next WebSocket frame that contains some bytes."""

    def rule(before: bytearray, chunk: bytes) -> int | None:
        frame = _next_frame(before, chunk, containing)
        return None if frame is None else frame.end - len(before)

    return rule


def before_frame(containing: bytes = b"") -> Rule:
    """Cut before the next WebSocket frame that contains some bytes: it has been sent, and does not arrive."""

    def rule(before: bytearray, chunk: bytes) -> int | None:
        frame = _next_frame(before, chunk, containing)
        return None if frame is None else max(0, frame.start - len(before))

    return rule


def inside_frame(containing: bytes = b"") -> Rule:
    """Cut in the middle of the next WebSocket frame that contains some bytes."""

    def rule(before: bytearray, chunk: bytes) -> int | None:
        frame = _next_frame(before, chunk, containing)
        return None if frame is None else (max(frame.start, len(before)) + frame.end) // 2 - len(before)

    return rule


def _next_frame(before: bytearray, chunk: bytes, containing: bytes) -> Frame | None:
    for frame in frames(before + chunk):
        if frame.end > len(before) and containing in frame.payload:
            return frame
    return None


# --- one connection ---------------------------------------------------------------------------------------------------


class Lane:
    """One direction of one connection.

    Attributes:
        data: everything that was handed on.
        delay: seconds that each chunk waits before it is handed on.
        piece: how many bytes are handed on at once; 0: as they come.
        hold: nothing is handed on before so many bytes wait, or the sender has ended.
    """

    def __init__(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: Counter[str]
    ) -> None:
        self.data = bytearray()
        self.delay = 0.0
        self.piece = 0
        self.hold = 0
        self._link = link
        self._reader = reader
        self._writer = writer
        self._counts = counts
        self._rule: Rule | None = None
        self._reset = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._moved = asyncio.Event()
        self._ended = False

    def cut_when(self, rule: Rule, *, reset: bool = False) -> None:
        """Cut the connection where `rule` says; it sees what comes from now on. `reset`: by RST instead of FIN."""
        self._rule, self._reset = rule, reset

    def cut_after(self, count: int, *, reset: bool = False) -> None:
        """Cut the connection when `count` bytes have passed in this direction since it began."""
        self.cut_when(after_bytes(count), reset=reset)

    def stall(self) -> None:
        """Hand nothing on until `resume`: the sender sees a full connection, the receiver silence."""
        if self._flowing.is_set():
            self._flowing.clear()
            self._counts["stalled"] += 1

    def resume(self) -> None:
        """Hand on what waits, and what comes."""
        if not self._flowing.is_set():
            self._flowing.set()
            self._counts["resumed"] += 1

    def half_close(self) -> None:
        """End this direction: its receiver sees the end of the stream, and can still write."""
        if not self._ended:
            self._counts["half closed"] += 1
            self._end()

    async def until(self, true: Callable[[bytearray], bool]) -> None:
        """Wait until what was handed on fulfils a condition.

        Raises:
            ConnectionError: the connection has ended, and it does not.
        """
        while not true(self.data):
            if self._ended:
                raise ConnectionError("the connection has ended before what was waited for")
            await self._moved.wait()

    async def passed(self, containing: bytes) -> None:
        """Wait until a whole WebSocket frame that contains some bytes has been handed on."""
        await self.until(lambda data: any(containing in frame.payload for frame in frames(data)))

    async def pump(self) -> None:
        """Hand on until the sender's end, or the cut."""
        while chunk := await self._read():
            await self._flowing.wait()
            if self.delay:
                self._counts["delayed"] += 1
                await asyncio.sleep(self.delay)
            self._link.about_to_pass(self, chunk)
            await self._flowing.wait()
            stop = None if self._rule is None else self._rule(self.data, chunk)
            await self._hand_on(chunk[:stop])
            if stop is not None:
                self._link.end("reset" if self._reset else "cut")
                return
        await self._flowing.wait()
        self._end()

    async def _read(self) -> bytes:
        held = await self._reader.read(CHUNK)
        while len(held) < self.hold:
            chunk = await self._reader.read(CHUNK)
            if not chunk:
                break
            held += chunk
        return held

    async def _hand_on(self, chunk: bytes) -> None:
        piece = self.piece or len(chunk)
        for start in range(0, len(chunk), piece or 1):
            if self._ended:
                return
            part = chunk[start : start + piece]
            self._writer.write(part)
            self.data += part
            self._tell()
            if self.piece:
                self._counts["pieces"] += 1
                # Two turns of the loop: a receiver in this loop has read the piece before the next one is written.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await self._writer.drain()

    def _end(self) -> None:
        if not self._ended:
            self.over()
            self._writer.write_eof()

    def over(self) -> None:
        """Nothing is handed on any more: wake those who wait for it."""
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


#: What is in a request, in lower case, that is to carry a page.
_CARRIES: Final = (b"\r\nupgrade: websocket", b"post /pagews/stream ", b"post /pagews/poll ")


class Link:
    """One connection through the proxy.

    Attributes:
        down: from the server to the client. up: from the client to the server.
        how: None while it is open, else how it ended: `cut`, `reset` or `answered` here, `closed` by client and
            server, or `broken` by one of them, which the other one sees as RST.
    """

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        proxy: FaultProxy,
    ) -> None:
        self.down = Lane(self, server[0], client[1], proxy.counts)
        self.up = Lane(self, client[0], server[1], proxy.counts)
        self.how: str | None = None
        self._writers = (client[1], server[1])
        self._proxy = proxy
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._upgraded = False

    @property
    def open(self) -> bool:
        """Whether bytes can still pass."""
        return self.how is None

    def cut(self) -> None:
        """Close both sides now, by FIN, behind what was handed on."""
        self.end("cut")

    def reset(self) -> None:
        """Close both sides now, by RST."""
        self.end("reset")

    def stall(self) -> None:
        """Stall both directions: a black hole."""
        self.down.stall()
        self.up.stall()

    def resume(self) -> None:
        """Let both directions go again."""
        self.down.resume()
        self.up.resume()

    async def ended(self) -> None:
        """Wait until it has ended, however it did."""
        await self._over.wait()

    def answer(self, response: bytes) -> None:
        """Answer the client in the server's place, and close both sides."""
        self._writers[0].write(response)
        self.end("answered")

    # --- for the proxy and its lanes ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hand on in both directions, to the end of both."""
        self._tasks = [asyncio.create_task(lane.pump()) for lane in (self.down, self.up)]
        try:
            await asyncio.gather(*self._tasks)
            self.end("closed")
        except OSError:  # not all of them are a ConnectionError: ENOTCONN
            self.end("broken")
        except asyncio.CancelledError:
            # A cut from outside cancels the two pumps; nobody cancels this task but the loop that ends.
            if self.open:
                raise
        finally:
            self.end("closed")
            await asyncio.gather(*self._tasks, *(_closed(writer) for writer in self._writers), return_exceptions=True)

    def about_to_pass(self, lane: Lane, chunk: bytes) -> None:
        """Bytes are about to be handed on: tell the proxy when they complete a request that is to carry a page."""
        if lane is self.up and self._proxy.on_request is not None and chunk.startswith((b"GET /", b"POST /")):
            self._proxy.on_request(self, chunk.split(b" ", 2)[1].decode())
        if lane is self.up and not self._upgraded:
            request = (bytes(lane.data) + chunk).lower()
            if b"\r\n\r\n" in request and any(sign in request for sign in _CARRIES):
                self._upgraded = True
                self._proxy.upgrade_seen(self)

    def end(self, how: str) -> None:
        """End it, once."""
        if self.how is not None:
            return
        self.how = how
        self._proxy.counts[how] += 1
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        for writer in self._writers:
            if how in ("reset", "broken"):
                _send_reset(writer)
            else:
                writer.close()
        self.down.over()
        self.up.over()
        self._over.set()


def _send_reset(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        # With a linger time of zero, closing sends RST instead of FIN.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _closed(writer: asyncio.StreamWriter) -> None:
    await writer.wait_closed()


# --- the proxy --------------------------------------------------------------------------------------------------------


class FaultProxy:
    """A TCP proxy on a port of its own, in front of `host` and `port`.

    Attributes:
        port: where clients connect, on 127.0.0.1.
        links: every connection that was accepted, oldest first.
        counts: what has happened: `connected`, `refused`, `unreachable`, `upgraded`, `cut`, `reset`, `answered`,
            `closed`, `broken`, `stalled`, `resumed`, `half closed`, `delayed` chunks and single `pieces`.
        refusing: answer new connections with RST, as if nobody listened.
        on_connect: called with each new connection before its first byte.
        on_request: called with the connection and the path of each request, before the server hears of it.
        on_upgrade: called with each connection that asks for a WebSocket, a stream or a poll, before the server hears.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.links: list[Link] = []
        self.counts: Counter[str] = Counter()
        self.refusing = False
        self.on_connect: Callable[[Link], None] | None = None
        self.on_request: Callable[[Link, str], None] | None = None
        self.on_upgrade: Callable[[Link], None] | None = None
        self._address = (host, port)
        self._server: asyncio.Server
        self._running: set[asyncio.Task[None]] = set()
        self._connected: asyncio.Queue[Link] = asyncio.Queue()
        self._upgraded: asyncio.Queue[Link] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def narrow(self) -> None:
        """Take in no more than a little of what comes by connections from now on, before it is read."""
        for listening in self._server.sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        while self._running:
            await asyncio.wait(self._running)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The proxy's address for a browser, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def open_links(self) -> list[Link]:
        """The connections that are open now."""
        return [link for link in self.links if link.open]

    async def connected(self) -> Link:
        """Wait for the next connection; each is returned once, oldest first."""
        return await self._connected.get()

    async def upgraded(self) -> Link:
        """Wait for the next connection that `on_upgrade` is for; each is returned once, oldest first."""
        return await self._upgraded.get()

    def cut(self) -> None:
        """Cut every open connection."""
        for link in self.open_links:
            link.cut()

    def reset(self) -> None:
        """Reset every open connection."""
        for link in self.open_links:
            link.reset()

    def stall(self) -> None:
        """Stall every open connection."""
        for link in self.open_links:
            link.stall()

    def resume(self) -> None:
        """Let every stalled connection go again."""
        for link in self.open_links:
            link.resume()

    def upgrade_seen(self, link: Link) -> None:
        """A request that is to carry a page is about to reach the server."""
        self.counts["upgraded"] += 1
        self._upgraded.put_nowait(link)
        if self.on_upgrade is not None:
            self.on_upgrade(link)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            self.counts["refused"] += 1
            _send_reset(writer)
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection(*self._address)
        except OSError:
            self.counts["unreachable"] += 1
            _send_reset(writer)
            return
        link = Link((reader, writer), server, self)
        self.links.append(link)
        self.counts["connected"] += 1
        if self.on_connect is not None:
            self.on_connect(link)
        self._connected.put_nowait(link)
        await link.run()
