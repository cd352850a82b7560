"""A process and its Redis: connections, the epoch, the probe, and what comes through pub/sub."""

from __future__ import annotations

import abc
import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any, Final, NamedTuple, NoReturn

from . import redis_codec as codec
from . import redis_scripts as scripts
from .broker import Broker, Control, Position, Receiver
from .errors import BrokerUnavailable, ConfigurationError, PageGone
from .limits import Limits
from .page import Owner
from .redis_link import FAILURES, Calls, Line, Subscriptions, UnknownScript, check_url, database
from .redis_scripts import Script

logger = logging.getLogger("pagews")

#: Seconds without a probe coming through after which what pub/sub brings is not trusted any more.
STALE: Final = 3.0
#: How often a process probes at once while there is more that is due, which is 200 pages each time.
PROBES_PER_TURN: Final = 20
#: Seconds that a start may take beyond those of one answer: a process that begins is busy.
START: Final = 2.0
#: Seconds before Redis is tried again, at first and at most; half of it is chance.
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
#: The same at most, while Redis answers but pub/sub does not come about.
LISTEN_PAUSE: Final = 1.0


class TwoServers(ConnectionError):
    """The address has moved between the two connections: which of the servers has the log, only a new pair can tell."""


class RedisBus(Broker):
    """What one process has of Redis: its two connections, the epoch, the probe, and what comes through pub/sub.

    What is kept in Redis, and how it changes, is `RedisBroker`.
    """

    def __init__(
        self,
        url: str,
        limits: Limits | None = None,
        *,
        prefix: str = "pagews:",
        revocations: float = 400 * 24 * 3600.0,
    ) -> None:
        check_url(url)
        self._url = url
        self._limits = limits = limits or Limits()
        self._revocations = revocations
        # Pub/sub knows no databases.
        number = database(url)
        self._prefix = (f"{prefix}{number}:" if number else prefix).encode()
        self._log_key = self._prefix + b"log"
        #: This process, from its start to its stop: the application may have been made before a fork.
        self._node = b""
        self._calls = Calls(limits.broker)
        self._subscriptions = Subscriptions(self._receive)
        #: Somebody else has published on these channels, which was said.
        self._is_crowded = False
        self._receiver: Receiver
        self._position = Position("", 0)
        self._epoch = b""
        #: The highest number of a push of this process in this epoch, and of the pages that it alone was to tell of.
        self._filed = self._taken = 0
        #: Set while pub/sub brings everything that is filed.
        self._whole = asyncio.Event()
        #: Rises with each connection that pub/sub has lost.
        self._generation = 0
        #: Set when pub/sub must begin anew although its connection stands.
        self._doubted = asyncio.Event()
        #: Set, and made anew, whenever a probe has come through.
        self._heard = asyncio.Event()
        self._heard_at = 0.0
        self._lasts: dict[bytes, int] = {}
        #: The highest number that pub/sub has brought on this connection.
        self._latest = 0
        #: Set, and made anew, when a send that another process runs may have its result, or never get one.
        self._news = asyncio.Event()
        self._taking = asyncio.Lock()
        self._is_first = True
        #: The others have let go of this process's pages, and do not know yet that it knows.
        self._counted_as_dead = False
        self._policy = "noeviction"
        self._is_away = False
        #: What has last gone wrong with a connection.
        self._fault: BaseException | None = None
        self._running: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- start, stop, and the two connections -------------------------------------------------------------------------

    async def start(self, receiver: Receiver) -> None:
        """Begin.

        Raises:
            ConfigurationError: the server evicts keys, or refuses the password.
            BrokerUnavailable: it was not reached within `limits.broker` and two more seconds.
        """
        self._receiver = receiver
        self._node = secrets.token_hex(8).encode()
        self._subscriptions.want([self._node_channel, self._prefix + b"nodes"])
        self._running = asyncio.create_task(self._run())
        heard = asyncio.create_task(self._heard.wait())
        try:
            done, _ = await asyncio.wait(
                [self._running, heard], timeout=self._limits.broker + START, return_when=asyncio.FIRST_COMPLETED
            )
            if self._running in done:
                self._running.result()
            if not done:
                raise BrokerUnavailable(
                    f"Redis was not reached within {self._limits.broker + START:g} s: {self._fault}"
                )
        except BaseException:
            await self.stop()
            raise
        finally:
            heard.cancel()

    async def stop(self) -> None:
        if self._calls.connected:
            with suppress(BrokerUnavailable, TimeoutError):
                async with asyncio.timeout(self._limits.broker):
                    # Whatever it has left attached, others let go of at once.
                    await self._calls(b"ZADD", self._prefix + b"alive", b"XX", b"0", self._node)
        # What ends begins something to be done later, perhaps.
        while tasks := [task for task in (self._running, self._probing, *self._tasks) if task and not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self._calls.give_up()

    def tick(self) -> None:
        self._calls.expire()
        if self._whole.is_set() and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe_or_doubt())

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                line = await Line.open(self._url, self._limits.broker)
                calling = asyncio.create_task(self._calls.run(line))
                try:
                    await self._until_lost(line, calling)
                finally:
                    calling.cancel()
                    await asyncio.wait([calling])
            except Exception as error:  # whatever it was, pages wait for another connection
                if isinstance(error, ConfigurationError) and self._is_first:
                    raise
                if not isinstance(error, (*FAILURES, ConfigurationError)):
                    logger.exception("what came from Redis could not be used: the connections are made anew")
                pause = FIRST_PAUSE if not self._is_away else min(2 * pause, LAST_PAUSE)
                self._has_gone(error)
            self._calls.expire()
            await asyncio.sleep(random.uniform(pause / 2, pause))

    async def _until_lost(self, line: Line, calling: asyncio.Task[None]) -> NoReturn:
        """Listen, on one connection after another, for as long as the one for calls stands."""
        pause = FIRST_PAUSE
        while True:
            listening = asyncio.create_task(self._listen(line))
            try:
                await asyncio.wait([calling, listening], return_when=asyncio.FIRST_COMPLETED)
                if calling.done():
                    calling.result()
                listening.result()
            except FAILURES as error:
                if calling.done() or isinstance(error, TwoServers):
                    raise
                pause = FIRST_PAUSE if not self._is_away else min(2 * pause, LISTEN_PAUSE)
                self._has_gone(error)
            finally:
                listening.cancel()
                await asyncio.wait([listening])
            await asyncio.sleep(random.uniform(pause / 2, pause))

    async def _listen(self, calls: Line) -> None:
        """Rule 13: a new pub/sub connection is a new beginning."""
        await self._open()
        line = await Line.open(self._url, self._limits.broker)
        if line.run_id != calls.run_id:
            await line.close()
            raise TwoServers("the two connections have reached two servers")
        self._doubted.clear()
        self._lasts.clear()
        self._latest = 0
        reading = asyncio.create_task(self._subscriptions.run(line, self._is_whole))
        doubting = asyncio.create_task(self._doubted.wait())
        try:
            await asyncio.wait([reading, doubting], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            # Before anything is waited for: the other connection often breaks too, and cuts that short.
            self._doubted.set()
            self._generation += 1
            if self._whole.is_set():
                self._whole.clear()
                self._receiver.interrupted()
            for task in (reading, doubting):
                task.cancel()
            await asyncio.wait([reading, doubting])

    async def _open(self) -> None:
        """Load the scripts, and learn or claim the epoch."""
        await asyncio.gather(*(self._calls(b"SCRIPT", b"LOAD", script.text, opens=True) for script in scripts.ALL))
        await self._send_probe()
        self._calls.open()

    async def _is_whole(self) -> None:
        """All is confirmed: what is filed from now on comes here, what was filed before can be read."""
        self._whole.set()
        self._start(self._take_answers())
        await self.probe()
        self._has_come()
        await asyncio.Event().wait()  # for as long as the connection stands

    def _has_gone(self, error: BaseException) -> None:
        self._fault = error
        if not self._is_away:
            self._is_away = True
            logger.warning("Redis is away (%s): pushes fail, pages stay attached and read on when it is back", error)

    def _has_come(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.warning("Redis is back")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except BrokerUnavailable:
                pass  # whoever comes back does it again
            except Exception:  # nobody awaits it: whatever it was must be seen
                logger.exception("what Redis has sent could not be used")

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may not have begun

    # --- the probe ----------------------------------------------------------------------------------------------------

    async def probe(self) -> None:
        """One sign of life; returns when it has come through pub/sub.

        Raises:
            BrokerUnavailable: it did not.
        """
        heard = self._heard
        await self._send_probe()
        for _ in range(2):
            # Twice: it may have been this process that slept, and what came meanwhile is waiting to be read.
            with suppress(TimeoutError):
                async with asyncio.timeout(STALE / 2):
                    await heard.wait()
                    return
        raise BrokerUnavailable("a probe has not come through pub/sub")

    async def _probe_or_doubt(self) -> None:
        try:
            await self.probe()
        except BrokerUnavailable as error:
            if self._whole.is_set():
                self._has_gone(error)
                self._doubted.set()

    async def _send_probe(self) -> None:
        for _ in range(PROBES_PER_TURN):
            if not await self._send_one_probe():
                return

    async def _send_one_probe(self) -> bool:
        """Whether another is due at once: there is more to end, or it must say that it knows of its death."""
        limits = self._limits
        numbers = (limits.lease, limits.retention, limits.channel_entries, limits.channel_bytes, limits.grace)
        reply = await self._evaluate(
            scripts.PROBE,
            self._epoch,
            self._node,
            secrets.token_hex(8).encode(),
            b"1" if self._is_first and self.serves_pages else b"",
            *(b"%r" % number for number in numbers),
            b"%d" % limits.results_kept,
            b"" if self.serves_pages else b"1",
            b"1" if self._counted_as_dead else b"",
            b"%d" % self._taken,
            opens=True,
        )
        epoch, seq, _, policy, was_dead, news, more = reply
        self._check_policy(policy.decode())
        self._is_first = False
        if epoch != self._epoch:
            self._epoch = epoch
            self._filed = self._taken = 0
            self._position = Position(epoch.decode(), int(seq))
            if self._whole.is_set():
                self._doubted.set()
        for item in news:
            self._take_news(item)
        if was_dead or self._counted_as_dead:
            # Once more when it lives again: what has come in between has been let go of, too.
            self._counted_as_dead = bool(was_dead)
            self._receiver.counted_as_dead()
        return bool(more or was_dead)

    def _take_news(self, item: bytes) -> None:
        number, kind, page, session, user = item.split(b" ", 4)
        if int(number) <= self._taken:
            return  # another probe was under way, whose answer had it too
        self._taken = int(number)
        tell = self._receiver.gone if kind == b"gone" else self._receiver.detached
        with suppress(UnicodeDecodeError):  # no node of ours has written it
            tell(page.decode(), session.decode(), user.decode() or None)

    def _check_policy(self, policy: str) -> None:
        """Rule 4. One that changes while pages are attached is said; what it evicts then makes a new epoch."""
        if policy == self._policy:
            return
        fault = f"its maxmemory-policy is {policy}, and must be noeviction: it would lose messages"
        if policy != "noeviction" and self._is_first:
            raise ConfigurationError(f"this Redis cannot keep the log: {fault}")
        if policy != "noeviction":
            logger.error("Redis has been set up anew: %s", fault)
        self._policy = policy

    @property
    def position(self) -> Position:
        return self._position

    @property
    def head(self) -> Position:
        # What this process has pushed was accepted before, whether or not it has come back yet.
        return Position(self._position.epoch, max(self._position.seq, self._filed))

    async def current(self) -> bool:
        waited = False
        while not self._whole.is_set() or asyncio.get_running_loop().time() - self._heard_at > STALE:
            waited = True
            await self._heard.wait()
        return waited

    # --- what comes through pub/sub -----------------------------------------------------------------------------------

    @property
    def _node_channel(self) -> bytes:
        return self._prefix + b"node:" + self._node

    def _receive(self, channel: bytes, data: bytes) -> None:
        if channel == self._node_channel or channel == self._prefix + b"nodes":
            self._receive_notice(channel, data)
            return
        name = channel[len(self._prefix) :].decode()
        try:
            message = codec.published(data)
        except ValueError:
            self._receive_nonsense(channel)
            self._receiver.deliver(name, Control("unreadable", 0))
            return
        epoch = self._epoch.decode()
        if message.epoch != epoch:
            if message.seq:
                self._doubted.set()
            return
        if message.seq and not self._follows(channel, message.seq, message.prev):
            self._doubted.set()
            return
        if self._doubted.is_set():
            return
        self._receiver.deliver(name, codec.filed(message.seq, message.body))
        if message.seq:
            self._position = Position(epoch, message.seq)

    def _receive_notice(self, channel: bytes, data: bytes) -> None:
        kind, _, rest = data.partition(b" ")
        notice = _NOTICES.get(kind)
        if notice is None:
            return  # a later version has sent it
        try:
            arguments = notice.read(rest.decode().split())
        except ValueError:
            self._receive_nonsense(channel)
            return
        notice.hear(self, *arguments)

    def _receive_nonsense(self, channel: bytes) -> None:
        if not self._is_crowded:
            self._is_crowded = True
            # Of whom it is the channel is nobody's business: a session's has its id.
            kind = channel[len(self._prefix) :].partition(b":")[0].decode()
            logger.warning("somebody publishes what is not ours, to a %s: it is dropped, also from now on", kind)

    def _follows(self, channel: bytes, seq: int, prev: int) -> bool:
        """Whether nothing is missing on a channel before an entry, and the numbers go on."""
        if seq <= self._latest:
            return False
        self._latest = seq
        if not self._subscriptions.are_confirmed(channel):
            return True
        last = self._lasts.get(channel)
        self._lasts[channel] = seq
        return last is None or prev <= last

    def _hear_position(self, epoch: str, seq: int) -> None:
        if epoch != self._epoch.decode() or seq < self._latest:
            self._doubted.set()
        if self._doubted.is_set():
            return
        self._latest = seq
        self._position = Position(epoch, seq)
        self._heard_at = asyncio.get_running_loop().time()
        heard, self._heard = self._heard, asyncio.Event()
        heard.set()
        self._hear_result()  # whoever runs one may have died

    def _hear_ended(self, page_id: str) -> None:
        self._receiver.ended(page_id)

    def _hear_gone(self, page_id: str, session_id: str, user_id: str | None = None) -> None:
        self._receiver.gone(page_id, session_id, user_id)

    def _hear_superseded(self, page_id: str, document: str, attempt: int, repeat: int) -> None:
        self._receiver.superseded(page_id, Owner(document, attempt, repeat=repeat))

    def _hear_result(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _hear_answers(self) -> None:
        self._start(self._take_answers())

    @abc.abstractmethod
    async def _take_answers(self) -> None:
        """Hand over the answers that were filed for this process."""

    async def subscribe(self, channels: Collection[str]) -> None:
        try:
            async with asyncio.timeout(self._limits.broker):
                await self._subscriptions.add([self._prefix + channel.encode() for channel in channels])
                await self._whole.wait()
        except TimeoutError:
            raise BrokerUnavailable("Redis is away") from None

    def unsubscribe(self, channels: Collection[str]) -> None:
        names = [self._prefix + channel.encode() for channel in channels]
        for name in names:
            self._lasts.pop(name, None)
        self._subscriptions.discard(names)

    # --- scripts ------------------------------------------------------------------------------------------------------

    async def _evaluate(self, script: Script, *arguments: bytes, opens: bool = False) -> Any:
        try:
            return await self._calls(b"EVALSHA", script.digest, b"1", self._log_key, *arguments, opens=opens)
        except UnknownScript:
            # Somebody has flushed them; nothing has run.
            await self._calls(b"SCRIPT", b"LOAD", script.text, opens=opens)
            return await self._calls(b"EVALSHA", script.digest, b"1", self._log_key, *arguments, opens=opens)

    async def _run_script(self, script: Script, *arguments: bytes) -> list[Any]:
        """What a script answers behind its 'ok', on the log as it is now.

        Raises:
            BrokerUnavailable: no answer. PageGone: the page has ended.
        """
        until = asyncio.get_running_loop().time() + self._limits.broker
        while True:
            epoch = self._epoch
            reply: list[Any] = await self._evaluate(script, epoch, *arguments)
            if reply[0] == b"ok":
                return reply[1:]
            if reply[0] == b"ended":
                raise PageGone("the page has ended, and what was kept with it: there is nothing to keep more with")
            # Another epoch; nothing was done (rule 20).
            if epoch == self._epoch:
                self._doubted.set()
                await self._until_epoch_changes(epoch, until)

    async def _until_epoch_changes(self, epoch: bytes, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                while self._epoch == epoch:
                    await self._heard.wait()
        except TimeoutError:
            raise BrokerUnavailable("Redis has lost its log, and no other has begun") from None


def _user(text: str) -> str:
    # In hexadecimal, for a user id may have spaces.
    return bytes.fromhex(text).decode()


class _Notice(NamedTuple):
    """What nodes tell each other: what hears it, what makes arguments of its words, and how many may be left out."""

    hear: Callable[..., None]
    words: tuple[Callable[[str], object], ...] = ()
    optional: int = 0

    def read(self, words: list[str]) -> list[object]:
        """The arguments. Raises ValueError for what no node of ours has sent."""
        if not len(self.words) - self.optional <= len(words) <= len(self.words):
            raise ValueError("a notice has so many words, and no others")
        return [convert(word) for convert, word in zip(self.words, words, strict=False)]


_NOTICES: Final[dict[bytes, _Notice]] = {
    b"position": _Notice(RedisBus._hear_position, (str, codec.number)),
    b"ended": _Notice(RedisBus._hear_ended, (str,)),
    b"gone": _Notice(RedisBus._hear_gone, (str, str, _user), optional=1),
    b"superseded": _Notice(RedisBus._hear_superseded, (str, str, codec.number, codec.number)),
    b"result": _Notice(RedisBus._hear_result),
    b"answers": _Notice(RedisBus._hear_answers),
}
