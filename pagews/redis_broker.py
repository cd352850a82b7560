"""The broker for many processes, on Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, NoReturn

from . import redis_codec as codec
from . import redis_scripts as scripts
from .broker import Answer, Attach, Attached, Broker, Filed, Position, Presence, Receiver, SendClaim
from .errors import BrokerUnavailable, ConfigurationError, LimitExceeded, PageGone, Return, returns
from .limits import Limits
from .log import Replay
from .page import Claim, Owner
from .redis_link import FAILURES, Calls, Line, Subscriptions, UnknownScript, check_url
from .redis_scripts import Script
from .targets import Address
from .variables import VARIABLE_SIZE, appended, increased
from .wire import Draft, Message

logger = logging.getLogger("pagews")

#: Seconds without a probe coming through after which what pub/sub brings is not trusted any more.
STALE: Final = 3.0
#: Seconds before Redis is tried again, at first and at most; half of it is chance.
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0


class TwoServers(ConnectionError):
    """The address has moved between the two connections: which of the servers has the log, only a new pair can tell."""


class RedisBroker(Broker):
    """Any number of processes on any number of hosts, which share one Redis 7 or Valkey.

    Arguments:
        url: `redis://…`, `rediss://…` or `unix://…`, as redis-py has it.
        limits: retention and sizes; those of the process that started last hold for all.
        prefix: what all keys and pub/sub channels begin with; sites with different ones can share a server.
        revocations: seconds that a revocation is kept: longer than the longest token or session cookie.

    Raises:
        ConfigurationError: `url` is no address of a Redis.
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
        self._prefix = prefix.encode()
        self._log_key = self._prefix + b"log"
        #: This process, from its start to its stop: the application may have been made before a fork.
        self._node = b""
        self._calls = Calls(limits.broker)
        self._subscriptions = Subscriptions(self._receive)
        self._receiver: Receiver
        self._position = Position("", 0)
        self._epoch = b""
        #: The highest number of a push of this process in this epoch.
        self._filed = 0
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
        #: Set, and made anew, when a send that another process runs may have its result, or never get one.
        self._news = asyncio.Event()
        self._taking = asyncio.Lock()
        self._is_first = True
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
            BrokerUnavailable: it was not reached within `limits.broker` seconds.
        """
        self._receiver = receiver
        self._node = secrets.token_hex(8).encode()
        self._subscriptions.want([self._node_channel, self._prefix + b"nodes"])
        self._running = asyncio.create_task(self._run())
        heard = asyncio.create_task(self._heard.wait())
        done, _ = await asyncio.wait(
            [self._running, heard], timeout=self._limits.broker, return_when=asyncio.FIRST_COMPLETED
        )
        heard.cancel()
        if self._running in done:
            self._running.result()
        if not done:
            await self.stop()
            raise BrokerUnavailable(f"Redis was not reached within {self._limits.broker:g} s: {self._fault}")

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
            except (*FAILURES, ConfigurationError) as error:
                if isinstance(error, ConfigurationError) and self._is_first:
                    raise
                pause = FIRST_PAUSE if not self._is_away else min(2 * pause, LAST_PAUSE)
                self._has_gone(error)
            except Exception:  # whatever it was, pages wait for another connection
                logger.exception("what came from Redis could not be used: the connections are made anew")
            self._calls.expire()
            await asyncio.sleep(random.uniform(pause / 2, pause))

    async def _until_lost(self, line: Line, calling: asyncio.Task[None]) -> NoReturn:
        """Listen, on one connection after another, for as long as the one for calls stands."""
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
                self._has_gone(error)
            finally:
                listening.cancel()
                await asyncio.wait([listening])
            await asyncio.sleep(random.uniform(FIRST_PAUSE / 2, FIRST_PAUSE))

    async def _listen(self, calls: Line) -> None:
        """Rule 13: a new pub/sub connection is a new beginning."""
        await self._open()
        line = await Line.open(self._url, self._limits.broker)
        if line.run_id != calls.run_id:
            await line.close()
            raise TwoServers("the two connections have reached two servers")
        self._doubted.clear()
        self._lasts.clear()
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
            except Exception:
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
            opens=True,
        )
        epoch, seq, _, policy, was_dead, gone, detached = reply
        self._check_policy(policy.decode())
        self._is_first = False
        if epoch != self._epoch:
            self._epoch = epoch
            self._filed = 0
            self._position = Position(epoch.decode(), int(seq))
            if self._whole.is_set():
                self._doubted.set()
        for page, session, user in _threes(gone):
            self._receiver.gone(page, session, user)
        for page, session, user in _threes(detached):
            self._receiver.detached(page, session, user)
        if was_dead:
            self._receiver.counted_as_dead()

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
            kind, _, rest = data.partition(b" ")
            notice = _NOTICES.get(kind)
            if notice is not None:  # else a later version has sent it
                notice(self, *rest.decode().split())
            return
        try:
            message = codec.published(data)
        except ValueError:
            logger.error("somebody publishes what is not ours on %r", channel)
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
        self._receiver.deliver(channel[len(self._prefix) :].decode(), codec.filed(message.seq, message.body))
        if message.seq:
            self._position = Position(epoch, message.seq)

    def _follows(self, channel: bytes, seq: int, prev: int) -> bool:
        """Whether nothing is missing on a channel before an entry."""
        if not self._subscriptions.are_confirmed(channel):
            return True
        last = self._lasts.get(channel)
        self._lasts[channel] = seq
        return last is None or prev <= last

    def _hear_position(self, epoch: str, seq: str) -> None:
        if epoch != self._epoch.decode():
            self._doubted.set()
        if self._doubted.is_set():
            return
        self._position = Position(epoch, int(seq))
        self._heard_at = asyncio.get_running_loop().time()
        heard, self._heard = self._heard, asyncio.Event()
        heard.set()
        self._hear_result()  # whoever runs one may have died

    def _hear_ended(self, page_id: str) -> None:
        self._receiver.ended(page_id)

    def _hear_gone(self, page_id: str, session_id: str, user_hex: str = "") -> None:
        # In hexadecimal, for a user id may have spaces.
        self._receiver.gone(page_id, session_id, bytes.fromhex(user_hex).decode() or None)

    def _hear_superseded(self, page_id: str, document: str, attempt: str, repeat: str) -> None:
        self._receiver.superseded(page_id, Owner(document, int(attempt), repeat=int(repeat)))

    def _hear_result(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _hear_answers(self) -> None:
        self._start(self._take_answers())

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

    # --- pushes -------------------------------------------------------------------------------------------------------

    async def publish(self, channel: str, draft: Draft, *, ttl: float | None = None, key: str | None = None) -> int:
        return await self._file(channel, codec.push_body(draft), ttl, key, draft.receipt)

    async def _file(
        self, channel: str, body: bytes, ttl: float | None = None, key: str | None = None, receipt: int = 0
    ) -> int:
        (number,) = await self._run_script(
            scripts.PUBLISH,
            channel.encode(),
            body,
            b"" if ttl is None else b"%r" % ttl,
            (key or "").encode(),
            b"%d" % receipt if receipt else b"",
            self._node,
        )
        self._filed = max(self._filed, int(number))
        return int(number)

    async def emit(self, channel: str, draft: Draft) -> None:
        await self._publish_unfiled(channel, codec.push_body(draft))

    async def _publish_unfiled(self, channel: str, body: bytes) -> None:
        await self._calls(b"PUBLISH", self._prefix + channel.encode(), codec.unfiled(self._epoch.decode(), body))

    async def read(self, epoch: str, cursors: Mapping[str, int], limit: int) -> Replay[Filed]:
        while True:
            await self._whole.wait()
            generation = self._generation
            try:
                (found,) = await self._run_script(scripts.READ, epoch.encode(), b"%d" % limit, *_flat(cursors))
            except BrokerUnavailable as error:
                # Reading changes nothing. A page that is attached waits for as long as it takes.
                await self._pause(error)
                continue
            if generation == self._generation:
                return _replay(found)

    def log_size(self) -> tuple[int, int, int, int]:
        return len(self._subscriptions), 0, 0, 0

    # --- pages --------------------------------------------------------------------------------------------------------

    async def attach(self, hello: Attach) -> Attached:
        generation = self._generation
        try:
            state, *rest = await self._claim_page(hello)
        except (BrokerUnavailable, asyncio.CancelledError) as error:
            if not isinstance(error, BrokerUnavailable) or error.unknown:
                self._start(self._unclaim_later(hello))
            raise
        if state != b"granted":
            claim = Claim.GRANTED if state == b"revoked" else Claim(state.decode())
            return Attached(claim, state == b"revoked", {}, Replay(None, [], 0, False))
        repeat, topics, found = rest
        if generation != self._generation:
            await self.detach(hello.page_id, Owner(hello.document, hello.attempt, repeat=repeat), left=False)
            raise BrokerUnavailable("pub/sub was lost while the page was attaching")
        return Attached(Claim.GRANTED, False, _topics(topics), _replay(found), repeat)

    async def _claim_page(self, hello: Attach) -> list[Any]:
        return await self._run_script(
            scripts.ATTACH,
            self._node,
            hello.page_id.encode(),
            hello.session_id.encode(),
            (hello.user_id or "").encode(),
            hello.document.encode(),
            b"%d" % hello.attempt,
            hello.cursor.epoch.encode(),
            b"%d" % hello.cursor.seq,
            b"%d" % hello.limit,
            b"%r" % hello.since,
            *_flat(hello.topics),
        )

    async def _unclaim_later(self, hello: Attach) -> None:
        """Whether the page was granted is not known: if it was, let go of it, unless it has come here again."""

        async def unclaim() -> None:
            owner = await self.owner(hello.page_id)
            is_claim = owner is not None and owner.is_claim_of(
                Owner(hello.document, hello.attempt, repeat=owner.repeat)
            )
            if owner is not None and is_claim and not self._receiver.present(Address.page(hello.page_id).channel):
                await self._detach(hello.page_id, owner, owner.left)

        await self._until_done(unclaim)

    async def owner(self, page_id: str) -> Owner | None:
        record = await self._record(page_id)
        if record is None or not record[0] or record[4]:
            return None
        document, attempt, again, left = record[:4]
        return Owner(document.decode(), int(attempt), bool(left), int(again))

    async def detach(self, page_id: str, owner: Owner, *, left: bool) -> None:
        try:
            await self._detach(page_id, owner, left)
        except BrokerUnavailable:
            # Nobody else lets go of the page of a process that lives.
            self._start(self._until_done(lambda: self._detach(page_id, owner, left)))

    async def _detach(self, page_id: str, owner: Owner, left: bool) -> None:
        await self._run_script(
            scripts.DETACH,
            page_id.encode(),
            owner.document.encode(),
            b"%d" % owner.attempt,
            b"%d" % owner.repeat,
            b"1" if left else b"",
        )

    async def _until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._whole.wait()
            with suppress(BrokerUnavailable):
                await work()
                return
            await asyncio.sleep(random.uniform(FIRST_PAUSE / 2, FIRST_PAUSE))

    async def set_topics(
        self, page_id: str, rendered: Collection[str], add: Collection[str], remove: Collection[str]
    ) -> dict[str, int]:
        (topics,) = await self._run_script(
            scripts.TOPICS,
            page_id.encode(),
            b"%d" % len(rendered),
            *(topic.encode() for topic in rendered),
            b"%d" % len(add),
            *(topic.encode() for topic in add),
            *(topic.encode() for topic in remove),
        )
        return _topics(topics)

    async def topics(self, page_id: str) -> dict[str, int] | None:
        record = await self._record(page_id)
        return None if record is None or not record[5] else _topics(record[6])

    async def _record(self, page_id: str) -> list[Any] | None:
        found = await self._run_script(scripts.RECORD, page_id.encode())
        return found[0] if found else None

    async def keep(self, page_id: str) -> None:
        await self._run_script(scripts.KEEP, page_id.encode())

    async def end(self, page_id: str) -> None:
        told = await self._run_script(scripts.END, page_id.encode(), b"" if self.serves_pages else b"1")
        if told:
            session, user = told
            self._receiver.gone(page_id, session.decode(), user.decode() or None)

    async def close_page(self, page_id: str, code: int, reason: str) -> None:
        channel, body = Address.page(page_id).channel, codec.close_body(code, reason)
        if returns(code) is Return.BACK:
            await self._publish_unfiled(channel, body)
        else:
            await self._file(channel, body)

    async def is_gone(self, page_id: str) -> bool:
        return bool(await self._calls(b"EXISTS", self._prefix + b"gone:" + page_id.encode()))

    async def pages(self, channel: str) -> list[Presence]:
        (found,) = await self._run_script(scripts.HERE, channel.encode())
        return [
            Presence(page.decode(), session.decode(), user.decode() or None, _topics(topics))
            for page, session, user, topics in found
        ]

    # --- variables ----------------------------------------------------------------------------------------------------

    async def get_variable(self, page_id: str, name: str) -> bytes | None:
        value: bytes | None = await self._calls(b"HGET", self._prefix + b"variables:" + page_id.encode(), name.encode())
        return value

    async def set_variable(self, page_id: str, name: str, value: bytes | None) -> None:
        await self._change(page_id, name, lambda _: value)

    async def incr_variable(self, page_id: str, name: str, by: int) -> int:
        return int(await self._change(page_id, name, lambda before: b"%d" % increased(name, before, by)) or 0)

    async def append_variable(self, page_id: str, name: str, item: bytes) -> None:
        await self._change(page_id, name, lambda before: appended(name, before, item))

    async def _change(self, page_id: str, name: str, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Compare and set, until nobody comes in between."""
        limits = self._limits
        while True:
            before = await self.get_variable(page_id, name)
            value = change(before)
            if value is not None and len(value) > limits.variable_bytes:
                raise LimitExceeded("variable_bytes", len(value), limits.variable_bytes)
            outcome = await self._run_script(
                scripts.STORE,
                page_id.encode(),
                name.encode(),
                b"" if before is None else b"1",
                before or b"",
                b"" if value is None else b"1",
                value or b"",
                b"%d" % VARIABLE_SIZE,
                b"%d" % limits.page_bytes,
            )
            if not outcome:
                return value
            if outcome[0] == b"full":
                raise LimitExceeded("page_bytes", outcome[1], limits.page_bytes)

    # --- identity -----------------------------------------------------------------------------------------------------

    async def revoke(self, channel: str) -> None:
        await self._run_script(scripts.REVOKE, channel.encode(), b"%r" % time.time(), b"%r" % self._revocations)

    async def revoked(self, channel: str) -> float | None:
        value = await self._calls(b"GET", self._prefix + b"revoked:" + channel.encode())
        return None if value is None else float(value)

    # --- sends and answers --------------------------------------------------------------------------------------------

    async def claim_send(self, page_id: str, document: str, send_id: int, *, epoch: str | None = None) -> SendClaim:
        call = secrets.token_hex(4)
        loop = asyncio.get_running_loop()
        # Whoever has it must be done by then, or has not been able to say what came out of it.
        until = loop.time() + self._limits.callback + self._limits.lease
        while True:
            try:
                claim = await self._claim(page_id, document, send_id, epoch or "", call)
            except BrokerUnavailable as error:
                if not error.unknown:
                    raise
                # It may be claimed: then nobody else would ever run it, or say that it has not run.
                await self._pause(error)
                continue
            if claim is not None:
                return claim
            if loop.time() > until:
                return SendClaim(False)

    async def find_send(self, page_id: str, document: str, send_id: int) -> SendClaim | None:
        while True:
            claim = await self._claim(page_id, document, send_id, "", None)
            if claim is not None:
                return None if claim.granted else claim

    async def _claim(self, page_id: str, document: str, send_id: int, epoch: str, call: str | None) -> SendClaim | None:
        """`call`: what claims it; None: find out. Returns None when another node ran it a moment ago, and has a result
        now, or has died.
        """
        news = self._news
        state, result, cost = await self._run_script(
            scripts.CLAIM,
            self._node,
            page_id.encode(),
            document.encode(),
            b"%d" % send_id,
            b"" if call is None else b"1",
            b"%r" % self._limits.lease,
            epoch.encode(),
            (call or "").encode(),
        )
        self._count_cost(cost)
        if state == b"running":
            await news.wait()
            return None
        if state == b"done":
            return SendClaim(False, codec.message(result))
        return SendClaim(state == b"free")

    async def complete_send(self, page_id: str, document: str, send_id: int, result: Message) -> None:
        while True:
            try:
                (cost,) = await self._run_script(
                    scripts.COMPLETE,
                    self._node,
                    page_id.encode(),
                    document.encode(),
                    b"%d" % send_id,
                    codec.message_body(result),
                )
                break
            except BrokerUnavailable as error:
                # It has run, and another node may wait for its result.
                await self._pause(error)
        self._count_cost(cost)

    async def _pause(self, error: BrokerUnavailable) -> None:
        """Before the same is asked again; raises what it could not be asked for when this broker has stopped."""
        if self._running is None or self._running.done():
            raise error
        await asyncio.sleep(random.uniform(FIRST_PAUSE / 2, FIRST_PAUSE))

    def _count_cost(self, results: int) -> None:
        for _ in range(results):
            self._receiver.result_dropped()

    async def answer(self, answer: Answer) -> None:
        (askers,) = await self._run_script(scripts.ANSWER, b"%d" % answer.receipt, codec.answer_body(answer))
        if not askers:
            self._receiver.answered(answer)  # which counts what nobody waits for

    async def _take_answers(self) -> None:
        """Take those that were filed for this node; one whose taking is interrupted is taken again."""
        key = self._prefix + b"answers:" + self._node
        async with self._taking:
            bodies = await self._calls(b"LRANGE", key, b"0", b"-1")
            for body in bodies:
                self._receiver.answered(codec.answer(body))
            if bodies:
                await self._calls(b"LTRIM", key, b"%d" % len(bodies), b"-1")


_NOTICES: Final[dict[bytes, Callable[..., None]]] = {
    b"position": RedisBroker._hear_position,
    b"ended": RedisBroker._hear_ended,
    b"gone": RedisBroker._hear_gone,
    b"superseded": RedisBroker._hear_superseded,
    b"result": RedisBroker._hear_result,
    b"answers": RedisBroker._hear_answers,
}


def _flat(numbers: Mapping[str, int]) -> list[bytes]:
    return [item for name, number in numbers.items() for item in (name.encode(), b"%d" % number)]


def _topics(flat: list[bytes]) -> dict[str, int]:
    return {name.decode(): int(since) for name, since in zip(flat[::2], flat[1::2], strict=True)}


def _threes(flat: list[bytes]) -> list[tuple[str, str, str | None]]:
    return [
        (page.decode(), session.decode(), user.decode() or None)
        for page, session, user in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]


def _replay(found: list[Any]) -> Replay[Filed]:
    lost, upto, more, *entries = found
    messages = [codec.filed(int(seq), body) for seq, body in zip(entries[::2], entries[1::2], strict=True)]
    return Replay(lost.decode() or None, messages, int(upto), bool(more))
