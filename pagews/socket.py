"""One live socket: its mailbox, which keeps callbacks apart and in order, and its output.

What carries the bytes is the `Carrier`; everything above them is here, and the same for every transport.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

from .counters import Counters
from .errors import CloseCode, ProtocolError, check_close
from .handler import Context, Replies, WebSocketHandler
from .limits import Limits
from .private import private
from .rate import Bucket
from .tasks import is_own_end
from .time_limit import TimeLimit
from .wire import Binary, Close, Text, clip_reason

logger = logging.getLogger("pagews")

#: What an info that does not know its size counts for in the mailbox, in bytes.
INFO_SIZE: Final = 256
#: A mailbox, or what is unsent, may reach this many times the high-water mark before its socket is given up.
OVERFLOW: Final = 4
#: A socket's backlog is looked at after so many small writes, each at most the high-water mark divided by this.
LOOKS: Final = 8


class Carrier(Protocol):
    """What carries the bytes of one socket, and nothing else."""

    @property
    def write(self) -> Callable[[bytes], object]:
        """Takes whole frames; never waits. Nothing is written after `close`."""

    def backlog(self) -> int:
        """Bytes taken but not yet handed to the network."""

    async def drain(self) -> None:
        """Wait until the backlog is low. Raises ConnectionError when the connection is lost."""

    def close(self, code: int, reason: bytes) -> None:
        """Begin to close, with a close code, behind what was written."""


class Output:
    """What the sockets of one process share. It collects what they have to write: one write per socket and loop turn.

    Attributes:
        time_limit: how long a callback may run.
    """

    __slots__ = ("_dirty", "time_limit")

    def __init__(self, callback: float) -> None:
        self.time_limit = TimeLimit(callback)
        self._dirty: list[Socket] = []

    def add(self, sockets: Iterable[Socket]) -> None:
        """`sockets` have something to write at the end of this turn."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.extend(sockets)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for socket in dirty:
            # As `Socket.flush`, without a call for each.
            out = socket._out
            if out is not None:
                socket._out = None
                data = out if isinstance(out, bytes) else b"".join(out)
                socket._carry(data)
                socket._writes = writes = socket._writes + 1
                if writes == LOOKS or len(data) > socket._look:
                    socket._look_at_backlog()


class _Kind(enum.Enum):
    """What waits in a mailbox."""

    DATA = "data"
    INFO = "info"
    FRAME = "frame"
    CLOSE = "close"


@private
class _Item(NamedTuple):
    kind: _Kind
    payload: Any
    size: int
    done: asyncio.Future[None] | None


class Socket:
    """One live connection, as a handler sees it.

    `send_data`, `send_info` and `close` may be called from any callback or task of the loop; all go through the one
    mailbox, in the order called, behind the frames that the running callback returns.
    """

    __slots__ = (
        "_carrier",
        "_carry",
        "_context",
        "_counters",
        "_handler",
        "_high_water",
        "_idle",
        "_is_high",
        "_limits",
        "_look",
        "_out",
        "_output",
        "_queue",
        "_queued",
        "_relief",
        "_running",
        "_task",
        "_unsent",
        "_writes",
        "bucket",
        "close_code",
        "on_end",
        "on_pressure",
    )

    def __init__(
        self,
        handler: WebSocketHandler,
        context: Context,
        carrier: Carrier,
        output: Output,
        counters: Counters,
        limits: Limits,
        high_water: int | None = None,
    ) -> None:
        self._handler = handler
        self._context = context
        self._carrier = carrier
        self._carry = carrier.write
        self._output = output
        self._counters = counters
        self._limits = limits
        #: Its own if it has one, for a carrier that drains as a whole or not at all.
        self._high_water = high_water or limits.high_water
        #: A write of more bytes is followed by a look at the backlog.
        self._look = self._high_water // LOOKS
        # One frame, or several: most turns have one, and a list of one is dear when there are many sockets.
        self._out: bytes | list[bytes] | None = None
        #: Bytes of the frames of this turn, if there are several.
        self._unsent = 0
        #: Writes since the backlog was looked at.
        self._writes = 0
        self._is_high = False
        self._queue: deque[_Item] | None = None
        self._queued = 0
        self._running = False
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._relief: asyncio.Task[None] | None = None
        #: What it may send. That of its page, once it has one.
        self.bucket = Bucket()
        #: The code it was closed with, None while it is open.
        self.close_code: int | None = None
        #: Awaited when it has ended, after `websocket_terminate`, whatever that did.
        self.on_end: Callable[[], Awaitable[None]] | None = None
        #: Called when more waits than the high-water mark; None: it has time to drain, and is closed then.
        self.on_pressure: Callable[[], None] | None = None
        context.socket = self

    # --- for handlers and applications --------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it has ended, or is about to."""
        return self.close_code is not None

    def send_data(self, data: str | bytes) -> None:
        """Send text or bytes to the browser.

        Raises:
            TypeError: `data` is neither.
        """
        self.send(Text(data) if isinstance(data, str) else Binary(data))

    def send(self, message: Text | Binary) -> None:
        """Send a message that is framed already, e.g. one that goes to many sockets."""
        if self._running:
            self._enqueue(_Kind.DATA, message, len(message.frame))
        elif self.close_code is None:
            self.write(message)

    def send_at_once(self, message: Text | Binary) -> None:
        """As `send`, but not at the end of this turn, unless something else goes out then: for a single answer."""
        if self._out is None and not self._running and self.close_code is None:
            self._out = message.frame
            self.flush()
        else:
            self.send(message)

    def send_info(self, message: object) -> None:
        """Give something to the handler's `websocket_info`."""
        send_info((self,), message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket, behind what was sent before.

        Arguments:
            code: 1000, or 3000 to 4999; the table of close codes says whether the browser comes back.
            reason: at most 123 bytes of UTF-8; more is cut off.

        Raises:
            ValueError: an endpoint may not send this code.
        """
        check_close(code)
        if self._running:
            self._enqueue(_Kind.CLOSE, Close(code, reason), 0)
        else:
            self.end(code, reason)

    # --- for the controller and the node ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Call `websocket_init`."""
        self._running = True
        await self._call("websocket_init", lambda: self._handler.websocket_init(self._context))

    async def handle(self, frame: Text | Binary) -> None:
        """Give a message from the browser to the handler; returns when it has been handled."""
        if not self.admits():
            return
        self._counters.sent += 1
        if self._running:
            done = asyncio.get_running_loop().create_future()
            self._enqueue(_Kind.FRAME, frame, INFO_SIZE, done)
            await done
        elif self.close_code is None:
            self._running = True
            await self._call("websocket_handle", lambda: self._handler.websocket_handle(frame, self._context))

    def admits(self) -> bool:
        """Whether the browser may send one more message, or control frame, now; if it may not, the socket is closed."""
        now = asyncio.get_running_loop().time()
        if self.bucket.take(now, self._limits.rate, self._limits.burst):
            return True
        if self.close_code is None:
            self._counters.refused["rate"] += 1
            self.end(CloseCode.TOO_MANY, "too many messages in too little time")
        return False

    def over(self, code: int) -> None:
        """The connection is over, with `code` unless it was closed before; nothing is written any more."""
        if self.close_code is None:
            self.close_code = code
        self._release_queue()

    async def finish(self) -> None:
        """It is over: let a running callback end, then call `websocket_terminate`."""
        assert self.close_code is not None  # over, or closed
        if self._task is not None:
            await asyncio.wait([self._task])
        try:
            with self._output.time_limit.watch():
                ended = self._handler.websocket_terminate(self.close_code, self._context)
                if ended is not None:
                    await ended
        except (Exception, asyncio.CancelledError) as error:
            if is_own_end(error):
                raise
            self._count_failure("websocket_terminate", error)
        finally:
            if self.on_end is not None:
                await self.on_end()

    def write(self, message: Text | Binary) -> None:
        """Put a message into the output; it goes out at the end of this loop turn."""
        frame = message.frame
        out = self._out
        if out is None:
            self._out = frame
            self._output.add((self,))
        elif isinstance(out, bytes):
            self._out = [out, frame]
            self._unsent = len(out) + len(frame)
        else:
            out.append(frame)
            self._unsent += len(frame)
            if self._unsent > self._high_water:
                self._press()

    def flush(self) -> None:
        """Hand the output to the carrier, in one piece."""
        out = self._out
        if out is None:
            return
        self._out = None
        self._carry(out if isinstance(out, bytes) else b"".join(out))
        self._look_at_backlog()

    def _look_at_backlog(self) -> None:
        self._writes = 0
        backlog = self._carrier.backlog()
        was_high, self._is_high = self._is_high, backlog > self._high_water
        # One large message may lie above every mark; more of them, while it does not drain, may not.
        if was_high and backlog > OVERFLOW * self._high_water:
            self.end(CloseCode.TOO_SLOW, "the reader is too slow")
        elif self._is_high:
            self._press()

    def end(self, code: int, reason: str) -> None:
        """Close at once: what waits in the mailbox is dropped, what is in the output goes out first."""
        if self.close_code is not None:
            return
        self.close_code = code
        self._counters.closed[code] += 1
        self.flush()
        self._carrier.close(code, clip_reason(reason))
        self._release_queue()

    def refuse(self, error: ProtocolError) -> None:
        """Close it over what the browser has sent."""
        if error.code == CloseCode.MALFORMED:
            self._counters.refused["malformed frame"] += 1
        elif error.code == CloseCode.SUPERSEDED:
            self._counters.refused["superseded"] += 1
        elif error.code == CloseCode.IDENTITY:
            self._counters.refused["identity"] += 1
        elif error.code == CloseCode.BAD_TOKEN:
            self._counters.refused["token"] += 1
        self.end(error.code, error.reason)

    async def drained(self) -> None:
        """Wait until the mailbox is empty and the carrier below its mark.

        Raises:
            TimeoutError: nothing moved for `limits.stuck` seconds.
            ConnectionError: the connection is lost.
        """
        while self.close_code is None:
            if self._running:
                if self._idle is None:
                    self._idle = asyncio.get_running_loop().create_future()
                await asyncio.shield(self._idle)
                continue
            self.flush()
            before = self._carrier.backlog()
            try:
                async with asyncio.timeout(self._limits.stuck):
                    await self._carrier.drain()
                return
            except TimeoutError:
                if self._carrier.backlog() >= before:
                    raise
        raise ConnectionResetError("the socket has ended")

    # --- the mailbox --------------------------------------------------------------------------------------------------

    def _enqueue(self, kind: _Kind, payload: Any, size: int, done: asyncio.Future[None] | None = None) -> None:
        if self.close_code is not None:
            if done is not None:
                done.set_result(None)
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(_Item(kind, payload, size, done))
        self._queued += size
        if self._queued > self._high_water:
            if self._queued > OVERFLOW * self._high_water:
                self._counters.dropped["mailbox"] += len(self._queue)
                self.end(CloseCode.TOO_SLOW, "its callbacks are too slow for what comes")
            else:
                self._press()

    def _next(self) -> None:
        """Work through the mailbox, until it is empty or a callback must be waited for."""
        while self._queue:
            kind, payload, size, done = self._queue.popleft()
            self._queued -= size
            if kind is _Kind.DATA:
                self.write(payload)
            elif kind is _Kind.CLOSE:
                self.end(*payload)
            else:
                name = "websocket_info" if kind is _Kind.INFO else "websocket_handle"
                try:
                    replies = getattr(self._handler, name)(payload, self._context)
                    if inspect.isawaitable(replies):
                        self._wait_for(name, replies, done)
                        return
                    self._reply(replies)
                except Exception as error:
                    self._failed(name, error)
            if done is not None and not done.done():
                done.set_result(None)
        self._running = False
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    async def _call(self, name: str, callback: Callable[[], Replies | Awaitable[Replies]]) -> None:
        try:
            replies = callback()
            if inspect.isawaitable(replies):
                with self._output.time_limit.watch():
                    replies = await replies
            self._reply(replies)
        except (Exception, asyncio.CancelledError) as error:
            if is_own_end(error):
                raise
            self._failed(name, error)
        finally:
            self._next()

    def _wait_for(self, name: str, replies: Awaitable[Replies], done: asyncio.Future[None] | None) -> None:
        async def wait() -> None:
            try:
                with self._output.time_limit.watch():
                    self._reply(await replies)
            except (Exception, asyncio.CancelledError) as error:
                if is_own_end(error):
                    raise
                self._failed(name, error)
            finally:
                if done is not None and not done.done():
                    done.set_result(None)
                self._task = None
                self._next()

        self._task = asyncio.create_task(wait())

    def _reply(self, replies: Replies) -> None:
        if self.close_code is not None or replies is None:
            return
        for reply in replies if isinstance(replies, list) else [replies]:
            if isinstance(reply, Text | Binary):
                self.write(reply)
            elif isinstance(reply, Close):
                check_close(reply.code)
                self.end(reply.code, reply.reason)
                return
            else:
                raise TypeError(
                    f"a callback returned {type(reply).__name__}: return None, Text, Binary, Close or a list of them"
                )

    def _failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, ProtocolError):
            self.refuse(error)
            return
        self._count_failure(name, error)
        self.end(CloseCode.INTERNAL, f"{name} failed")

    def _count_failure(self, name: str, error: BaseException) -> None:
        self._counters.failed[name] += 1
        logger.error("%s.%s failed", type(self._handler).__name__, name, exc_info=error)

    def _release_queue(self) -> None:
        queue, self._queue, self._queued = self._queue, None, 0
        for item in queue or ():
            if item.done is not None and not item.done.done():
                item.done.set_result(None)

    # --- slow readers -------------------------------------------------------------------------------------------------

    def _press(self) -> None:
        """It is above its mark: a page lags then; a bare socket has time to drain, and is given up after that."""
        if self.on_pressure is not None:
            self.on_pressure()
        elif self._relief is None:
            self._relief = asyncio.create_task(self._drain_or_end())

    async def _drain_or_end(self) -> None:
        try:
            await self.drained()
        except TimeoutError:
            self.end(CloseCode.TOO_SLOW, "the reader is too slow")
        except ConnectionError:
            pass  # it has ended meanwhile
        finally:
            self._relief = None


def send_info(sockets: Iterable[Socket], message: object) -> None:
    """Give something to the `websocket_info` of many sockets of one output: the path of a push.

    One function for all of them, for it is run for every message and page. What fails in one is that one's own.
    """
    dirty = []
    for socket in sockets:
        if socket._running:
            socket._enqueue(_Kind.INFO, message, getattr(message, "size", INFO_SIZE))
            continue
        if socket.close_code is not None:
            continue
        # The mailbox is empty, so the callback runs here and now.
        socket._running = True
        try:
            replies = socket._handler.websocket_info(message, socket._context)
            if type(replies) is Text:
                if socket._out is None:
                    # As `Socket.write`, for the first frame of a turn.
                    socket._out = replies.frame
                    dirty.append(socket)
                else:
                    socket.write(replies)
            elif replies is not None:
                if inspect.isawaitable(replies):
                    socket._wait_for("websocket_info", replies, None)
                    continue
                socket._reply(replies)
        except Exception as error:
            socket._failed("websocket_info", error)
        if socket._queue:
            socket._next()
        else:
            socket._running = False
    if dirty:
        dirty[0]._output.add(dirty)
