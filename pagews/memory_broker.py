"""The embedded broker."""

from __future__ import annotations

import heapq
import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from .broker import Answer, Attach, Attached, Broker, Control, Filed, Position, Presence, Receiver, SendClaim
from .errors import LimitExceeded, PageGone
from .limits import Limits
from .log import Log, Replay
from .page import Claim, Owner, contend, cursors
from .private import private
from .sends import Results, Sends
from .targets import Address
from .variables import Variables, appended, increased
from .wire import Draft, Message, Push

#: Seconds from the retention on in which the last cursor of a page ends: two ticks.
RECORD_MARGIN: Final = 2.0
#: Seconds after which a record is looked at again whose page could still resume, because ticks have come late.
RECORD_RETRY: Final = 1.0
#: Idempotency keys that are remembered at most; the oldest is forgotten first.
KEYS: Final = 100_000


@private
@dataclass(slots=True)
class _Record:
    """What is kept of a page from its first attach, join, variable or task until it is gone.

    `topics`: None while those of its token are all. `gone`: its end has been told; it is kept only because its document
    could still resume. `due`: when it ends if nobody attaches. `head`: the log's when it was made or last attached,
    above every cursor it has.
    """

    topics: dict[str, int] | None = None
    session_id: str = ""
    user_id: str | None = None
    owner: Owner | None = None
    attached: bool = False
    due: float = 0.0
    head: int = 0
    gone: bool = False
    sends: Sends | None = None
    variables: Variables | None = None

    def owned_by(self, document: str) -> bool:
        return self.owner is not None and self.owner.document == document


class MemoryBroker(Broker):
    """The embedded broker: one process, nothing kept on disk. It ends with its process, and so do revocations.

    Arguments:
        limits: retention and sizes.
        revocations: seconds that a revocation is kept: longer than the longest token or session cookie.
        clock: seconds that never go back. `wall`: seconds since the epoch.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        revocations: float = 400 * 24 * 3600.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits = limits or Limits()
        self._revocations = revocations
        self._clock = clock
        self._wall = wall
        self._log: Log[Filed] = Log(
            secrets.token_hex(8),
            retention=limits.retention,
            channel_entries=limits.channel_entries,
            channel_bytes=limits.channel_bytes,
            total_bytes=limits.log_bytes,
        )
        self._receiver: Receiver
        self._records: dict[str, _Record] = {}
        self._due: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._keys: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._revoked: OrderedDict[str, float] = OrderedDict()
        self._variables_size = 0
        self._results = Results(
            limits.results_kept, limits.channel_bytes, limits.results_bytes, lambda: self._receiver.result_dropped()
        )

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def stop(self) -> None:
        self._records.clear()

    def tick(self) -> None:
        now = self._clock()
        self._log.tick(now)
        while self._due and self._due[0][0] <= now:
            due, _, page_id = heapq.heappop(self._due)
            record = self._records.get(page_id)
            if record is None or record.attached or record.due != due:
                continue
            may_resume, was_gone = self._may_resume(record), record.gone
            if not may_resume or (record.owner is not None and record.owner.left):
                self._end(page_id, record)
            if may_resume:
                rest = 0.0 if was_gone else self._resumable - self._limits.grace
                self._expect(page_id, record, max(rest, RECORD_RETRY))
            else:
                del self._records[page_id]
        while self._keys and next(iter(self._keys.values()))[0] < now - self._limits.retention:
            self._keys.popitem(last=False)
        _forget(self._gone, now - self._limits.retention)
        _forget(self._revoked, self._wall() - self._revocations)

    @property
    def position(self) -> Position:
        return Position(self._log.epoch, self._log.head)

    async def current(self) -> bool:
        return False

    @property
    def head(self) -> Position:
        return self.position

    # --- pushes -------------------------------------------------------------------------------------------------------

    async def publish(self, channel: str, draft: Draft, *, ttl: float | None = None, key: str | None = None) -> int:
        if key is None:
            return self._file(channel, lambda seq: Push(seq, draft), ttl)
        filed = self._keys.get((channel, key))
        if filed is None:
            seq = self._file(channel, lambda seq: Push(seq, draft), ttl)
            filed = self._keys[channel, key] = (self._clock(), seq)
            if len(self._keys) > KEYS:
                self._keys.popitem(last=False)
        return filed[1]

    async def emit(self, channel: str, draft: Draft) -> None:
        self._receiver.deliver(channel, Push(0, draft))

    def _file(self, channel: str, make: Callable[[int], Filed], ttl: float | None = None) -> int:
        message = self._log.append(channel, make, self._clock(), ttl)
        self._receiver.deliver(channel, message)
        return message.seq

    async def subscribe(self, channels: Collection[str]) -> None:
        """Everything is delivered here anyway: there is one node."""

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Everything is delivered here anyway: there is one node."""

    async def read(self, epoch: str, cursors: Mapping[str, int], limit: int) -> Replay[Filed]:
        return self._log.read(epoch, cursors, self._clock(), limit)

    def log_size(self) -> tuple[int, int, int, int]:
        return len(self._log), self._log.count, self._log.size, self._log.trimmed

    # --- pages --------------------------------------------------------------------------------------------------------

    async def attach(self, hello: Attach) -> Attached:
        record = self._records.get(hello.page_id)
        claim = contend(record.owner if record else None, hello.document, hello.attempt)
        revoked = self._is_revoked(hello)
        if claim is not Claim.GRANTED or revoked:
            return Attached(claim, revoked, {}, Replay(None, [], 0, False))
        if record is None:
            record = self._records[hello.page_id] = _Record()
        repeat = 0
        if record.owner is not None and record.owner[:2] == (hello.document, hello.attempt):
            repeat = record.owner.repeat + 1
        elif not record.owned_by(hello.document):
            self._let_go_of_results(record)
            record.sends = None
            if record.gone:
                record.topics = None
        if record.topics is None:
            record.topics = dict(hello.topics)
        record.session_id, record.user_id = hello.session_id, hello.user_id
        record.owner = Owner(hello.document, hello.attempt, repeat=repeat)
        record.attached, record.gone = True, False
        self._gone.pop(hello.page_id, None)
        channels = cursors(hello.page_id, hello.session_id, hello.user_id, record.topics, hello.cursor.seq)
        replay = self._log.read(hello.cursor.epoch, channels, self._clock(), hello.limit)
        return Attached(claim, False, record.topics, replay, repeat)

    async def owner(self, page_id: str) -> Owner | None:
        record = self._records.get(page_id)
        return None if record is None or record.gone else record.owner

    async def detach(self, page_id: str, owner: Owner, *, left: bool) -> None:
        record = self._records.get(page_id)
        if record is None or record.owner is None or not record.owner.is_claim_of(owner):
            return
        record.owner = owner._replace(left=left or record.owner.left)
        record.attached = False
        record.head = self._log.head
        self._expect(page_id, record, self._limits.grace if record.owner.left else self._resumable)

    async def set_topics(
        self, page_id: str, rendered: Collection[str], add: Collection[str], remove: Collection[str]
    ) -> dict[str, int]:
        record = self._lasting(page_id) or self._new_record(page_id)
        before = dict.fromkeys(rendered, 0) if record.topics is None else record.topics
        since = dict.fromkeys(add, self._log.head)
        # A new dict: sessions share the one that they were given.
        record.topics = {topic: seq for topic, seq in (since | before).items() if topic not in remove}
        self._file(Address.page(page_id).channel, lambda seq: Control("topics", seq))
        return record.topics

    async def topics(self, page_id: str) -> dict[str, int] | None:
        record = self._records.get(page_id)
        return record.topics if record else None

    async def end(self, page_id: str) -> None:
        record = self._records.get(page_id)
        if record is None:
            return
        self._end(page_id, record)
        # Its document may not know, and resume: the record must outlive that, as after a goodbye.
        record.attached, record.head = False, self._log.head
        if record.owner is not None:
            record.owner = record.owner._replace(left=True)
        self._expect(page_id, record, self._resumable)

    async def close_page(self, page_id: str, code: int, reason: str) -> None:
        self._receiver.deliver(Address.page(page_id).channel, Control("close", 0, code, reason))

    async def pages(self, channel: str) -> list[Presence]:
        return self._receiver.present(channel)

    async def is_gone(self, page_id: str) -> bool:
        return page_id in self._gone

    def _may_resume(self, record: _Record) -> bool:
        """Rule 6: a record outlives every cursor of its page, which would else resume without its topics."""
        return self._log.watermark <= record.head

    @property
    def _resumable(self) -> float:
        """Seconds for which a cursor of this moment is good, if ticks come in time."""
        return self._limits.retention + RECORD_MARGIN

    def _expect(self, page_id: str, record: _Record, seconds: float) -> None:
        record.due = self._clock() + seconds
        heapq.heappush(self._due, (record.due, next(self._order), page_id))

    def _new_record(self, page_id: str) -> _Record:
        """The record of a page that has only been rendered; it ends as that of one that was detached now."""
        record = self._records[page_id] = _Record(head=self._log.head)
        self._expect(page_id, record, self._resumable)
        return record

    def _end(self, page_id: str, record: _Record) -> None:
        if record.gone:
            return
        record.gone = True
        if record.variables is not None:
            self._variables_size -= record.variables.size
            record.variables = None
        self._let_go_of_results(record)
        self._gone[page_id] = self._clock()
        self._receiver.ended(page_id)
        if record.owner is not None:
            self._receiver.gone(page_id, record.session_id, record.user_id)

    def _is_revoked(self, hello: Attach) -> bool:
        if Address.session(hello.session_id).channel in self._revoked:
            return True
        if hello.user_id is None:
            return False
        ended = self._revoked.get(Address.user(hello.user_id).channel)
        return ended is not None and hello.since <= ended

    # --- variables ----------------------------------------------------------------------------------------------------

    async def keep(self, page_id: str) -> None:
        if self._lasting(page_id) is None:
            self._new_record(page_id)

    async def get_variable(self, page_id: str, name: str) -> bytes | None:
        return self._variable(page_id, name)

    async def set_variable(self, page_id: str, name: str, value: bytes | None) -> None:
        self._store(page_id, name, value)

    async def incr_variable(self, page_id: str, name: str, by: int) -> int:
        number = increased(name, self._variable(page_id, name), by)
        self._store(page_id, name, b"%d" % number)
        return number

    async def append_variable(self, page_id: str, name: str, item: bytes) -> None:
        self._store(page_id, name, appended(name, self._variable(page_id, name), item))

    def _lasting(self, page_id: str) -> _Record | None:
        """The record of a page that has not ended."""
        record = self._records.get(page_id)
        if page_id in self._gone or (record is not None and record.gone):
            raise PageGone("the page has ended, and what was kept with it: there is nothing to keep more with")
        return record

    def _variable(self, page_id: str, name: str) -> bytes | None:
        record = self._records.get(page_id)
        return None if record is None or record.variables is None else record.variables.get(name)

    def _store(self, page_id: str, name: str, value: bytes | None) -> None:
        if value is not None and len(value) > self._limits.variable_bytes:
            raise LimitExceeded("variable_bytes", len(value), self._limits.variable_bytes)
        record = self._lasting(page_id)
        variables = Variables() if record is None or record.variables is None else record.variables
        growth = variables.growth(name, value)
        self._check_bounds(variables.size + growth, growth)
        if record is None and value is not None:
            record = self._new_record(page_id)
        if record is not None:
            variables.put(name, value)
            record.variables = variables
            self._variables_size += growth

    def _check_bounds(self, page_size: int, growth: int) -> None:
        limits = self._limits
        if growth > 0 and page_size > limits.page_bytes:
            raise LimitExceeded("page_bytes", page_size, limits.page_bytes)
        if growth > 0 and self._variables_size + growth > limits.pages_bytes:
            raise LimitExceeded("pages_bytes", self._variables_size + growth, limits.pages_bytes)

    # --- identity -----------------------------------------------------------------------------------------------------

    async def revoke(self, channel: str) -> None:
        self._revoked[channel] = self._wall()
        self._revoked.move_to_end(channel)
        self._file(channel, lambda seq: Control("revoked", seq))

    async def revoked(self, channel: str) -> float | None:
        return self._revoked.get(channel)

    # --- sends and answers --------------------------------------------------------------------------------------------

    async def claim_send(self, page_id: str, document: str, send_id: int, *, epoch: str | None = None) -> SendClaim:
        if epoch not in (None, self._log.epoch):
            return SendClaim(False)
        claim = self._find_send(page_id, document, send_id)
        if claim is not None:
            return claim
        record = self._records[page_id]
        if record.sends is None:
            record.sends = Sends()
        self._results.claim(record.sends, send_id)
        return SendClaim(True)

    async def find_send(self, page_id: str, document: str, send_id: int) -> SendClaim | None:
        return self._find_send(page_id, document, send_id)

    def _find_send(self, page_id: str, document: str, send_id: int) -> SendClaim | None:
        record = self._records.get(page_id)
        if record is None or not record.owned_by(document):
            return SendClaim(False)
        if record.sends is None or not record.sends.knows(send_id):
            return None
        return SendClaim(False, record.sends.results.get(send_id))

    async def complete_send(self, page_id: str, document: str, send_id: int, result: Message) -> None:
        record = self._records.get(page_id)
        if record is not None and record.sends is not None and record.owned_by(document) and not record.gone:
            self._results.keep(record.sends, send_id, result)

    def _let_go_of_results(self, record: _Record) -> None:
        if record.sends is not None:
            self._results.let_go(record.sends)

    async def answer(self, answer: Answer) -> None:
        self._receiver.answered(answer)


def _forget(since: OrderedDict[str, float], before: float) -> None:
    """Drop the entries that were made before a time; they stand in the order of their times."""
    while since and next(iter(since.values())) < before:
        since.popitem(last=False)
