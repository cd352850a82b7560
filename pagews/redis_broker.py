"""The broker for many processes, on Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from . import redis_codec as codec
from . import redis_scripts as scripts
from .broker import Answer, Attach, Attached, Filed, Presence, SendClaim
from .errors import BrokerUnavailable, LimitExceeded, Return, returns
from .log import Replay
from .page import Claim, Owner
from .redis_bus import FIRST_PAUSE, RedisBus
from .targets import Address
from .variables import VARIABLE_SIZE, appended, increased
from .wire import Draft, Message

logger = logging.getLogger("pagews")

#: Answers that are taken at once.
ANSWERS: Final = 100


class RedisBroker(RedisBus):
    """Any number of processes on any number of hosts, which share one Redis 7 or Valkey.

    Arguments:
        url: `redis://…`, `rediss://…` or `unix://…`, as redis-py has it.
        limits: retention and sizes; those of the process that started last hold for all.
        prefix: what all keys and pub/sub channels begin with; sites with different ones can share a server, and so can
            those of different databases, whose number becomes part of it.
        revocations: seconds that a revocation is kept: longer than the longest token or session cookie.

    Raises:
        ConfigurationError: `url` is no address of a Redis.
    """

    #: Some may have been filed since this process has looked.
    _has_answers = False

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
        try:
            if generation != self._generation:
                raise BrokerUnavailable("pub/sub was lost while the page was attaching")
            return Attached(Claim.GRANTED, False, _topics(topics), _replay(found), repeat)
        except BrokerUnavailable:
            await self.detach(hello.page_id, Owner(hello.document, hello.attempt, repeat=repeat), left=False)
            raise

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
                # On another node it has a socket, whatever became of this claim.
                await self._detach(hello.page_id, owner, owner.left, self._node)

        await self._until_done(unclaim)

    async def owner(self, page_id: str) -> Owner | None:
        record = await self._record(page_id)
        if record is None or not record[0] or record[4]:
            return None
        document, attempt, again, left = record[:4]
        with _reading():
            return Owner(document.decode(), int(attempt), bool(left), int(again))

    async def detach(self, page_id: str, owner: Owner, *, left: bool) -> None:
        try:
            await self._detach(page_id, owner, left)
        except BrokerUnavailable:
            # Nobody else lets go of the page of a process that lives.
            self._start(self._until_done(lambda: self._detach(page_id, owner, left)))

    async def _detach(self, page_id: str, owner: Owner, left: bool, node: bytes = b"") -> None:
        await self._run_script(
            scripts.DETACH,
            page_id.encode(),
            owner.document.encode(),
            b"%d" % owner.attempt,
            b"%d" % owner.repeat,
            b"1" if left else b"",
            node,
        )

    async def _until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._whole.wait()
            try:
                await work()
                return
            except BrokerUnavailable as error:
                await self._pause(error)

    async def set_topics(
        self, page_id: str, rendered: Collection[str], add: Collection[str], remove: Collection[str]
    ) -> dict[str, int]:
        (topics,) = await self._run_script(
            scripts.TOPICS if add else scripts.LEAVE,
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
            with suppress(UnicodeDecodeError):  # whose it was cannot be told
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
        # By their ids, for Redis may tell of one twice.
        pages: dict[bytes, Presence] = {}
        place = b"0"
        while True:
            place, found = await self._run_script(scripts.HERE, channel.encode(), place)
            for page, session, user, topics in found:
                with suppress(UnicodeDecodeError, BrokerUnavailable):  # nobody of ours is there
                    pages[page] = Presence(page.decode(), session.decode(), user.decode() or None, _topics(topics))
            if place == b"0":
                return list(pages.values())

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
                scripts.FORGET if value is None else scripts.STORE,
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
        with _reading():
            return None if value is None else _seconds(value)

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
            scripts.FIND if call is None else scripts.CLAIM,
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
            return SendClaim(False, self._result(result))
        return SendClaim(state == b"free")

    def _result(self, body: bytes) -> Message | None:
        try:
            return codec.message(body)
        except ValueError:
            self._receiver.result_dropped()
            return None

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
        (nodes,) = await self._run_script(scripts.ANSWER, b"%d" % answer.receipt, codec.answer_body(answer))
        if not nodes:
            self._receiver.answered(answer)  # which counts what nobody waits for

    async def _take_answers(self) -> None:
        """Take those that were filed for this node; one whose taking is interrupted is taken again."""
        self._has_answers = True
        if self._taking.locked():
            return  # whoever takes them looks once more
        async with self._taking:
            await self._until_done(self._take_all)

    async def _take_all(self) -> None:
        key = self._prefix + b"answers:" + self._node
        while True:
            self._has_answers = False
            bodies = await self._calls(b"LRANGE", key, b"0", b"%d" % (ANSWERS - 1))
            for body in bodies:
                self._take_answer(body)
            if bodies:
                await self._calls(b"LTRIM", key, b"%d" % len(bodies), b"-1")
            if not self._has_answers and len(bodies) < ANSWERS:
                return

    def _take_answer(self, body: bytes) -> None:
        try:
            answer = codec.answer(body)
        except ValueError:
            # Those behind it are not to wait for it.
            logger.warning("an answer in Redis cannot be read, and is dropped: another version may have filed it")
            return
        self._receiver.answered(answer)


@contextmanager
def _reading() -> Iterator[None]:
    """Whoever needs what no node of ours can have written is told as if Redis did not answer."""
    try:
        yield
    except ValueError as error:
        raise BrokerUnavailable("what Redis keeps cannot be read") from error


def _seconds(text: bytes) -> float:
    seconds = float(text)
    if math.isnan(seconds):
        raise ValueError("no time")
    return seconds


def _flat(numbers: Mapping[str, int]) -> list[bytes]:
    return [item for name, number in numbers.items() for item in (name.encode(), b"%d" % number)]


def _topics(flat: list[bytes]) -> dict[str, int]:
    with _reading():
        return {name.decode(): codec.number(since) for name, since in zip(flat[::2], flat[1::2], strict=True)}


def _replay(found: list[Any]) -> Replay[Filed]:
    lost, upto, more, *entries = found
    messages = [codec.filed(int(seq), body) for seq, body in zip(entries[::2], entries[1::2], strict=True)]
    return Replay(lost.decode() or None, messages, int(upto), bool(more))
