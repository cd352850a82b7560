"""The load client: many connections of one process, and the proof that none missed a message."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence

from benchmarks.dialects import Dialect
from benchmarks.errors import MeasurementFailed
from benchmarks.payload import MARK, NUMBER_DIGITS
from benchmarks.posts import Posts
from benchmarks.readers import Heard
from benchmarks.visits import Document, Visit

# So many browsers connect at the same time, unless all come at once.
_ATTACH_TOGETHER = 32
# SO_LINGER switched on, for no seconds: closing is a reset.
_RESET = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """What a page hears by. Raises nothing into the loop: what goes wrong is handed to the load."""

    def __init__(self, load: Load, document: Document) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._reader = load.dialect.reader()
        self._unconfirmed = 0
        self._cut = False
        self.document = document
        self.attached: asyncio.Future[None] = load.loop.create_future()
        self.next_number = 0
        self.end_number = 0
        self.last_delivery = b""
        self.last_arrival_ns = 0
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._load.dialect.opening(self.document))

    def data_received(self, data: bytes) -> None:
        self.last_arrival_ns = time.monotonic_ns()
        try:
            for heard, frame in self._reader.feed(data):
                self._receive(heard, frame)
        except MeasurementFailed as failure:
            self._load.fail(failure)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._cut:
            self._load.fail(MeasurementFailed(f"the server closed a connection: {exc}"))

    def send_echo(self, payload: str, qos: int) -> None:
        """Ask the server for this payload."""
        self.sent += 1
        self._write(self._load.dialect.echo(payload, self.sent, qos))

    def cut(self, *, reset: bool = False) -> None:
        """End the connection without a word, in the middle of whatever it does."""
        self._cut = True
        self._load.dialect.left(self.document, self.last_delivery)
        if self._transport is not None:
            if reset:
                self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _opened(self) -> None:
        dialect = self._load.dialect
        if greeting := dialect.greeting(self.document):
            self._write(greeting)
        if dialect.attached_by_upgrade:
            self.attached.set_result(None)

    def _receive(self, heard: Heard, frame: bytes) -> None:
        mark = frame.find(MARK)
        if heard is Heard.MESSAGE and mark >= 0:
            number = int(frame[mark + 1 : mark + 1 + NUMBER_DIGITS])
            if number != self.next_number or number == self.end_number:
                raise MeasurementFailed(f"received {number}, when {self._expected()} was to come")
            self.next_number = number + 1
            self.last_delivery = frame
            if acknowledgement := self._load.dialect.acknowledgement(frame):
                self._unconfirmed += 1
                self._write(acknowledgement)
            self._check_complete()
        elif heard is Heard.MESSAGE:
            self._receive_other(frame)
        elif heard is Heard.OPEN:
            self._opened()
        elif heard is Heard.ANSWERED:
            self._write(self._load.dialect.next_request(self.document, self.last_delivery))
        else:
            raise MeasurementFailed(f"the server closed a connection: {frame!r}")

    def _check_complete(self) -> None:
        if self.next_number == self.end_number and not self._unconfirmed:
            self._load.one_complete()

    def _expected(self) -> str:
        return "nothing" if self.next_number == self.end_number else str(self.next_number)

    def _receive_other(self, frame: bytes) -> None:
        dialect = self._load.dialect
        if not self.attached.done() and dialect.completes_attach(frame, self.document):
            self.attached.set_result(None)
        elif self._unconfirmed and dialect.is_confirmation(frame):
            self._unconfirmed -= 1
            self._check_complete()
        elif answer := dialect.answer(frame, self.document):
            if dialect.answers_apart:
                self._load.posts.add(answer)
            else:
                self._write(answer)


class Load:
    """The connections to one server.

    Every message has a number, and the numbers that a connection expects are named before they are asked for. Anything
    else that arrives, and anything that does not, fails the measurement.
    """

    def __init__(self, dialect: Dialect, port: int, timeout: float = 60) -> None:
        self.loop = asyncio.get_running_loop()
        self.dialect = dialect
        self.connections: list[Connection] = []
        self.posts = Posts(port, self.fail)
        self._port = port
        self._timeout = timeout
        self._incomplete = 0
        self._all_complete: asyncio.Future[None] = self.loop.create_future()
        self._failure: MeasurementFailed | None = None
        self._next_number = 0

    async def attach(self, visits: Sequence[Visit]) -> None:
        """Open a socket for each visit, some at a time, and wait until every page is attached.

        The last one is alone, so that client and server agree on which page attached last.
        """
        documents = [Document(visit) for visit in visits]
        crowd, last = documents[:-1], documents[-1:]
        for first in range(0, len(crowd), _ATTACH_TOGETHER):
            await self.attach_at_once(crowd[first : first + _ATTACH_TOGETHER])
        await self.attach_at_once(last)

    async def attach_at_once(self, documents: Iterable[Document]) -> None:
        """Open a socket for each document in the same moment, and wait until every page is attached."""
        await self._attach_all([self._new_connection(document) for document in documents])

    async def resume_at_once(self, documents: Sequence[Document], first: int, count: int) -> None:
        """The same for documents that were cut; wait until each has received these numbers, which it has missed."""
        connections = [self._new_connection(document) for document in documents]
        self.expect(connections, first, count)
        await self._attach_all(connections)
        await self.complete(connections)

    async def deliver(self, connections: Sequence[Connection], count: int, ask: Callable[[int, int], None]) -> None:
        """Call ``ask(first number, count)`` and wait until each of these connections received just those numbers, and
        knows that its answers have arrived.
        """
        first = self.take_numbers(count)
        self.expect(connections, first, count)
        ask(first, count)
        await self.complete(connections)

    def expect(self, connections: Sequence[Connection], first: int, count: int) -> None:
        """From now on, each of these connections is to receive just these numbers."""
        for connection in connections:
            connection.next_number = first
            connection.end_number = first + count
        self._incomplete = len(connections)
        self._all_complete = self.loop.create_future()

    async def complete(self, connections: Sequence[Connection]) -> None:
        """Wait until each of these connections received what it expects."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._all_complete
        except TimeoutError:
            missing = sum(connection.end_number - connection.next_number for connection in connections)
            raise MeasurementFailed(f"{missing} messages did not arrive within {self._timeout} s") from None
        self.check()

    def take_numbers(self, count: int) -> int:
        """The first of so many numbers that no message has had."""
        first = self._next_number
        self._next_number += count
        return first

    def one_complete(self) -> None:
        """A connection has received the last number that it expects."""
        self._incomplete -= 1
        if not self._incomplete and not self._all_complete.done():
            self._all_complete.set_result(None)

    def fail(self, failure: MeasurementFailed) -> None:
        """Remember what went wrong first, and wake whoever waits."""
        self._failure = self._failure or failure
        for waiter in (self._all_complete, *(connection.attached for connection in self.connections)):
            if not waiter.done():
                waiter.set_result(None)

    def check(self) -> None:
        """Raise what went wrong, also between two deliveries."""
        if self._failure is not None:
            raise self._failure

    def cut(self, *, reset: bool = False) -> list[Document]:
        """End every connection, with a TCP reset if wanted; returns the documents, which can come back."""
        connections, self.connections = self.connections, []
        self.posts.drop()
        for connection in connections:
            connection.cut(reset=reset)
        return [connection.document for connection in connections]

    def close(self) -> None:
        """End every connection for good."""
        self.cut()

    def _new_connection(self, document: Document) -> Connection:
        connection = Connection(self, document)
        self.connections.append(connection)
        return connection

    async def _attach_all(self, connections: Sequence[Connection]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.gather(*map(self._attach_one, connections))
        except TimeoutError:
            waiting = sum(not connection.attached.done() for connection in connections)
            raise MeasurementFailed(f"{waiting} pages were not attached within {self._timeout} s") from None

    async def _attach_one(self, connection: Connection) -> None:
        await self.loop.create_connection(lambda: connection, "127.0.0.1", self._port)
        await connection.attached
        self.check()
