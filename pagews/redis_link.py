"""The two connections to Redis: one for calls, one to listen. The only importer of redis-py.

Its connections are used and nothing above them: its clients repeat commands and renew subscriptions by themselves,
which here would push twice (rule 23) and hide that messages were missed (rule 13).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from .errors import BrokerUnavailable, ConfigurationError
from .private import without_password
from .redis_codec import pack

#: Bytes of commands that wait for their replies at most.
MOST_BYTES: Final = 64 * 1024 * 1024

#: The oldest version that has what the scripts need.
OLDEST: Final = 7

#: How the connections are made, whatever the address says.
OWN: Final[dict[str, Any]] = {
    "protocol": 2,
    "socket_timeout": None,
    "retry": None,
    "health_check_interval": 0,
    "decode_responses": False,
}

#: What a lost or refusing Redis raises.
FAILURES: Final = (RedisError, OSError, TimeoutError)


class UnknownScript(Exception):
    """Redis does not know the script; nothing has run."""


class Line:
    """One connection. What is put goes out in order, in one piece per loop turn.

    Attributes:
        run_id: of the server it reached.
    """

    def __init__(self, connection: AbstractConnection, run_id: str) -> None:
        self.run_id = run_id
        self._connection = connection
        self._out: list[bytes] = []
        self._more = asyncio.Event()

    @classmethod
    async def open(cls, url: str, timeout: float) -> Line:
        """Connect, within `timeout` seconds.

        Raises:
            ConfigurationError: the server refuses the user or password, or is none that fits; and what `FAILURES`
                names.
        """
        connection = _pool(url).make_connection()
        try:
            async with asyncio.timeout(timeout):
                await connection.connect()
                await connection.send_packed_command(pack((b"INFO", b"server")), check_health=False)
                run_id = _run_id(await connection.read_response(), url)
        except AuthenticationError as error:
            await connection.disconnect(nowait=True)
            raise ConfigurationError(f"broker={without_password(url)!r}: {error}") from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection, run_id)

    def put(self, data: bytes) -> None:
        """Send `data`, at the end of this turn."""
        self._out.append(data)
        self._more.set()

    async def run(self, receive: Callable[[Any], None]) -> None:
        """Write what is put, and give every reply to `receive`, errors too, until the connection breaks; then raise.

        Cancel it, and the connection is closed.
        """
        writing = asyncio.create_task(self._write())
        try:
            while True:
                try:
                    receive(await self._connection.read_response())
                except ResponseError as error:
                    receive(error)
                    if isinstance(error, ReadOnlyError):
                        raise
        finally:
            writing.cancel()
            await asyncio.wait([writing])
            await self._connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close it; one that runs is closed by cancelling that."""
        await self._connection.disconnect(nowait=True)

    async def _write(self) -> None:
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                out, self._out = self._out, []
                await self._connection.send_packed_command(b"".join(out), check_health=False)
        except FAILURES:
            await self._connection.disconnect(nowait=True)  # whoever reads is told so


def _run_id(info: bytes, url: str) -> str:
    """Of a server that has all that is needed, from what it says of itself."""
    facts = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    mode = facts.get("redis_mode") or facts.get("server_mode", "")  # the second is what Valkey calls it
    if int(facts["redis_version"].partition(".")[0]) < OLDEST or mode == "cluster":
        raise ConfigurationError(
            f"broker={without_password(url)!r}: this is Redis {facts['redis_version']}, {mode}; one"
            f" server of {OLDEST} or newer is needed, or Valkey, and no cluster"
        )
    return facts["run_id"]


def check_url(url: str) -> None:
    """Raises ConfigurationError unless `url` is one that a connection can be made from."""
    try:
        options = _pool(url).connection_kwargs
        _pool(url).make_connection()
    except (ValueError, TypeError, AttributeError) as error:  # the last for an option of a wrong type
        if "@" in url:  # what cannot be read may be a part of the password, and the error would say it
            how = "write /, # and ? in a password as %2F, %23 and %3F"
            raise ConfigurationError(f"broker={without_password(url)!r} cannot be read: {how}") from None
        raise ConfigurationError(f"broker={without_password(url)!r}: {error}") from error
    for name, value in OWN.items():
        if options[name] != value:
            raise ConfigurationError(f"broker={without_password(url)!r}: leave out {name}=, which is not yours to set")


def database(url: str) -> int:
    """The number of the database that an address names."""
    return int(_pool(url).connection_kwargs.get("db", 0))


def _pool(url: str) -> ConnectionPool:
    # It reads addresses with all their options; its connections are made one by one.
    return ConnectionPool.from_url(url, **OWN)


class _Call:
    """A command.

    Attributes:
        deadline: when it fails, in the loop's time: it may have waited for a line before it was sent.
        sent_at: when it was given to a line.
    """

    __slots__ = ("deadline", "reply", "request", "sent_at")

    def __init__(self, request: bytes, reply: asyncio.Future[Any], deadline: float) -> None:
        self.request = request
        self.reply = reply
        self.deadline = deadline
        self.sent_at = math.inf


class Calls:
    """Commands and their replies, over one line after another; those of a loop turn share a write.

    Never sent twice. One whose reply is lost with its line fails with `BrokerUnavailable.unknown`; one that waits for a
    line fails after its time without.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._line: Line | None = None
        self._is_open = False
        #: When there was a line for the last time.
        self._lost_at = -math.inf
        #: Of the calls that are kept: nobody may wait for them any more, but they take their room.
        self._bytes = 0
        self._waiting: deque[_Call] = deque()
        self._sent: deque[_Call] = deque()

    async def __call__(self, *arguments: bytes, opens: bool = False) -> Any:
        """The reply to a command. `opens`: it may be the first on a line, before `open`.

        Raises:
            BrokerUnavailable: none came in time, or Redis refuses it. UnknownScript: it was one.
        """
        loop = asyncio.get_running_loop()
        request = pack(arguments)
        if self._line is None and loop.time() > self._lost_at + self._timeout:
            raise BrokerUnavailable("Redis is away")
        if self._bytes > MOST_BYTES:
            raise BrokerUnavailable(f"more than {MOST_BYTES} bytes wait for Redis to answer")
        call = _Call(request, loop.create_future(), loop.time() + self._timeout)
        if self._line is not None and (self._is_open or opens):
            self._send(self._line, call)
        else:
            self._put(self._waiting, call)
        return await call.reply

    async def run(self, line: Line) -> None:
        """Use `line` until it breaks; then raise what broke it."""
        self._line = line
        watching = asyncio.create_task(self._watch())
        reading = asyncio.create_task(line.run(self._receive))
        try:
            await asyncio.wait([watching, reading], return_when=asyncio.FIRST_COMPLETED)
            (watching if watching.done() else reading).result()
        finally:
            self._line, self._is_open = None, False
            self._lost_at = asyncio.get_running_loop().time()
            for task in (watching, reading):
                task.cancel()
            await asyncio.wait([watching, reading])
            while self._sent:
                call = self._take(self._sent)
                _fail(call, BrokerUnavailable("Redis was lost before it had answered", unknown=True))

    def open(self) -> None:
        """Rule 18: the epoch of this line's server is known. What waits may go out."""
        if self._line is None:
            return
        self._is_open = True
        while self._waiting:
            call = self._take(self._waiting)
            if not call.reply.done():
                self._send(self._line, call)

    def expire(self) -> None:
        """Give up what has waited for a line too long. Called at a steady pace."""
        now = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0].deadline <= now:
            _fail(self._take(self._waiting), BrokerUnavailable("Redis is away"))

    @property
    def connected(self) -> bool:
        """Whether there is a line that is open."""
        return self._is_open

    def give_up(self) -> None:
        """There will be no line any more."""
        while self._waiting:
            _fail(self._take(self._waiting), BrokerUnavailable("the broker has stopped"))

    def _put(self, calls: deque[_Call], call: _Call) -> None:
        calls.append(call)
        self._bytes += len(call.request)

    def _take(self, calls: deque[_Call]) -> _Call:
        call = calls.popleft()
        self._bytes -= len(call.request)
        return call

    def _send(self, line: Line, call: _Call) -> None:
        call.sent_at = asyncio.get_running_loop().time()
        self._put(self._sent, call)
        line.put(call.request)

    def _receive(self, reply: Any) -> None:
        call = self._take(self._sent)
        if isinstance(reply, NoScriptError):
            _fail(call, UnknownScript())
        elif isinstance(reply, ResponseError):
            _fail(call, BrokerUnavailable(f"Redis refuses: {reply}"))
        elif not call.reply.done():
            call.reply.set_result(reply)

    async def _watch(self) -> None:
        """Raises TimeoutError when the line has not answered for too long, and fails the calls that are late on it."""
        loop = asyncio.get_running_loop()
        late = f"Redis has not answered for {self._timeout:g} s"
        before = loop.time()
        while True:
            await asyncio.sleep(self._timeout / 20)
            # Late the last time, and a turn for what has come has not helped: it may have been this process that slept.
            if self._sent and self._sent[0].sent_at + self._timeout <= before:
                raise TimeoutError(late)
            for call in self._sent:
                # It waited for the line before, which is not this one's fault.
                if call.deadline <= before:
                    _fail(call, BrokerUnavailable(late, unknown=True))
            before = loop.time()


def _fail(call: _Call, error: Exception) -> None:
    if not call.reply.done():
        call.reply.set_exception(error)


class Subscriptions:
    """What a node listens to, over one line after another.

    Arguments:
        receive: called with the channel and the data of every message.
    """

    def __init__(self, receive: Callable[[bytes, bytes], None]) -> None:
        self._receive = receive
        self._line: Line | None = None
        #: Each channel with whether its last SUBSCRIBE is confirmed (rule 12).
        self._wanted: dict[bytes, asyncio.Future[None]] = {}
        #: What was sent, in the order in which Redis confirms it; None: an UNSUBSCRIBE.
        self._unconfirmed: deque[asyncio.Future[None] | None] = deque()

    def __len__(self) -> int:
        return len(self._wanted)

    def are_confirmed(self, channel: bytes) -> bool:
        """Whether everything that is published on a channel comes here."""
        confirmed = self._wanted.get(channel)
        return confirmed is not None and confirmed.done()

    async def add(self, channels: Iterable[bytes]) -> None:
        """Listen to `channels`; returns when all are confirmed."""
        pending = self.want(channels)
        if pending:
            await asyncio.wait(pending)

    def want(self, channels: Iterable[bytes]) -> list[asyncio.Future[None]]:
        """Listen to `channels`, on the next line if there is none; returns what is not confirmed yet."""
        pending = []
        new = []
        for channel in channels:
            confirmed = self._wanted.get(channel)
            if confirmed is None:
                confirmed = self._wanted[channel] = asyncio.get_running_loop().create_future()
                new.append(channel)
            if not confirmed.done():
                pending.append(confirmed)
        self._subscribe(new)
        return pending

    def discard(self, channels: Collection[bytes]) -> None:
        """Do not listen to `channels` any more."""
        known = [channel for channel in channels if channel in self._wanted]
        for channel in known:
            _confirm(self._wanted.pop(channel))
        if known and self._line is not None:
            self._unconfirmed.extend([None] * len(known))
            self._line.put(pack((b"UNSUBSCRIBE", *known)))

    async def run(self, line: Line, whole: Callable[[], Awaitable[None]]) -> None:
        """Use `line` until it breaks; then raise what broke it. `whole` is awaited when all is confirmed on it."""
        self._line = line
        self._unconfirmed.clear()
        loop = asyncio.get_running_loop()
        for channel, confirmed in self._wanted.items():
            if confirmed.done():
                self._wanted[channel] = loop.create_future()
        pending = list(self._wanted.values())
        self._subscribe(list(self._wanted))
        reading = asyncio.create_task(line.run(self._read))
        using = asyncio.create_task(self._use(pending, whole))
        try:
            await asyncio.wait([reading, using], return_when=asyncio.FIRST_COMPLETED)
            (using if using.done() else reading).result()
        finally:
            self._line = None
            for task in (reading, using):
                task.cancel()
            await asyncio.wait([reading, using])

    async def _use(self, pending: list[asyncio.Future[None]], whole: Callable[[], Awaitable[None]]) -> None:
        if pending:
            await asyncio.wait(pending)
        await whole()

    def _subscribe(self, channels: Collection[bytes]) -> None:
        if channels and self._line is not None:
            self._unconfirmed.extend(self._wanted[channel] for channel in channels)
            self._line.put(pack((b"SUBSCRIBE", *channels)))

    def _read(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise reply
        kind, channel, data = reply
        if kind == b"message":
            self._receive(channel, data)
            return
        confirmed = self._unconfirmed.popleft()
        if confirmed is not None:
            _confirm(confirmed)


def _confirm(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
