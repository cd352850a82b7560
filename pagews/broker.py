"""The broker: the log, and what must outlive a socket. `MemoryBroker` is the embedded one.

The broker keeps for each page that attached, joined, stored something or runs a task one bounded record; it says who
owns a page, what has been revoked, and when a page is gone.
"""

from __future__ import annotations

import abc
import heapq
import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from .errors import LimitExceeded, PageGone
from .limits import Limits
from .log import Log, Replay
from .page import Claim, Owner, contend, cursors
from .targets import Address
from .variables import Variables, appended, increased
from .wire import Draft, Message, Push


class Control(NamedTuple):
    """An entry of the log that is for the nodes, not for browsers.

    `kind`: `topics` (a page's record has changed) or `revoked` (a session or user has ended).
    """

    kind: str
    seq: int

    @property
    def size(self) -> int:
        return 32


Filed = Push | Control

#: Seconds that a record is kept at a time while its page could still resume.
RECORD_MARGIN: Final = 1.0
#: Idempotency keys that are remembered at most; the oldest is forgotten first.
KEYS: Final = 100_000


class Answer(NamedTuple):
    """A page's answer to a push with a receipt."""

    receipt: int
    page_id: str
    document: str
    channels: Collection[str]
    ok: bool
    value: object


class Receiver(Protocol):
    """What a node lets its broker call."""

    def deliver(self, channel: str, message: Filed) -> None:
        """A message has been filed, or a qos 0 push has come."""

    def answered(self, answer: Answer) -> None:
        """A page has answered a push of this node."""

    def ended(self, page_id: str) -> None:
        """A page is gone, or the record of one that never attached has run out; told to every node."""

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        """A page that was once attached is gone; told once in the whole cluster."""


class Position(NamedTuple):
    """A cursor: everything up to `seq` of the log `epoch`."""

    epoch: str
    seq: int


class Attach(NamedTuple):
    """What a node asks for when a page says hello.

    `topics`: those of its token. `since`: when its session or login began, in wall-clock seconds.
    `limit`: bytes to read.
    """

    page_id: str
    session_id: str
    user_id: str | None
    document: str
    attempt: int
    cursor: Position
    topics: Collection[str]
    since: float
    limit: int


class Attached(NamedTuple):
    """What the broker says to a hello. `topics` and `replay` are empty unless `claim` is GRANTED and not `revoked`;
    `repeat` is then that of the `Owner`.
    """

    claim: Claim
    revoked: bool
    topics: dict[str, int]
    replay: Replay[Filed]
    repeat: int = 0


class SendClaim(NamedTuple):
    """What the broker says when a qos 2 send is about to run: run it, or here is what came out of it."""

    granted: bool
    result: Message | None = None


class Broker(abc.ABC):
    """The log and the bus between nodes."""

    @abc.abstractmethod
    async def start(self, receiver: Receiver) -> None:
        """Begin; `position` is valid from then on."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """End."""

    @abc.abstractmethod
    def tick(self) -> None:
        """Called once a second: time takes a number, age takes what is old."""

    @property
    @abc.abstractmethod
    def position(self) -> Position:
        """Up to where this node has been handed everything."""

    @abc.abstractmethod
    async def publish(self, channel: str, draft: Draft, *, ttl: float | None = None, key: str | None = None) -> int:
        """File a push and hand it out; returns its number. With a `key` that was filed on the channel already, within
        the retention, nothing is filed and its number is returned.

        Raises:
            BrokerUnavailable: it was not filed, or perhaps was (`unknown`).
        """

    @abc.abstractmethod
    async def emit(self, channel: str, draft: Draft) -> None:
        """Hand out a push without filing it (qos 0)."""

    @abc.abstractmethod
    async def subscribe(self, channels: Collection[str]) -> None:
        """Returns when everything that is filed on the channels from now on will be delivered here (rule 11)."""

    @abc.abstractmethod
    def unsubscribe(self, channels: Collection[str]) -> None:
        """No page of this node listens to the channels any more."""

    @abc.abstractmethod
    async def attach(self, hello: Attach) -> Attached:
        """In one atomic step: claim the page, look up revocation, read its record and what came after its cursor.

        A node gets the answers about one page in the order of their claims.
        """

    @abc.abstractmethod
    async def owner(self, page_id: str) -> Owner | None:
        """Who has the page by its record; None: nobody has attached it yet, or it has ended."""

    @abc.abstractmethod
    async def detach(self, page_id: str, owner: Owner, *, left: bool) -> None:
        """The owner's socket has ended (`left`: it said goodbye). A page with another owner by now is left alone."""

    @abc.abstractmethod
    async def read(self, epoch: str, cursors: Mapping[str, int], limit: int) -> Replay[Filed]:
        """Read on from the cursors."""

    @abc.abstractmethod
    async def set_topics(
        self, page_id: str, rendered: Collection[str], add: Collection[str], remove: Collection[str]
    ) -> dict[str, int]:
        """Change what a page listens to, with the number since when, and file a control entry for it (rule 21).

        `rendered`: the topics of its token, in case the page has no record yet.
        """

    @abc.abstractmethod
    async def topics(self, page_id: str) -> dict[str, int] | None:
        """What a page listens to by its record: each topic with the number since when; None: that is in its token."""

    @abc.abstractmethod
    async def keep(self, page_id: str) -> None:
        """See that the page has a record, which says when it ends: one that never attaches, after the retention.

        Raises:
            PageGone: the page is known to have ended.
        """

    @abc.abstractmethod
    async def get_variable(self, page_id: str, name: str) -> bytes | None:
        """A variable of a page, as JSON; None when there is none. Makes no record."""

    @abc.abstractmethod
    async def set_variable(self, page_id: str, name: str, value: bytes | None) -> None:
        """Keep a variable, as JSON, in the page's record; None: forget it.

        Raises:
            LimitExceeded: above a bound; nothing was stored. PageGone: the page is known to have ended.
        """

    @abc.abstractmethod
    async def incr_variable(self, page_id: str, name: str, by: int) -> int:
        """In one step: add to a variable that is a whole number, 0 when there is none; returns the sum.

        Raises:
            TypeError: it is no whole number. ValueError: the sum is beyond 2**53 - 1.
            and what `set_variable` raises.
        """

    @abc.abstractmethod
    async def append_variable(self, page_id: str, name: str, item: bytes) -> None:
        """In one step: append to a variable that is a list, an empty one when there is none.

        Raises:
            TypeError: it is no list.
            and what `set_variable` raises.
        """

    @abc.abstractmethod
    async def end(self, page_id: str) -> None:
        """The page is gone now."""

    @abc.abstractmethod
    async def is_gone(self, page_id: str) -> bool:
        """Whether the page is known to have ended."""

    @abc.abstractmethod
    async def revoke(self, channel: str) -> None:
        """End a browser session or all sessions that a user has now, and file a control entry for it (rule 22)."""

    @abc.abstractmethod
    async def revoked(self, channel: str) -> float | None:
        """When a session or user was revoked, in wall-clock seconds."""

    @abc.abstractmethod
    async def claim_send(self, page_id: str, document: str, send_id: int) -> SendClaim:
        """A qos 2 send is about to run: at most one caller is ever granted a (document, id)."""

    @abc.abstractmethod
    async def complete_send(self, page_id: str, document: str, send_id: int, result: Message) -> None:
        """Keep what came out of a claimed send."""

    @abc.abstractmethod
    async def answer(self, answer: Answer) -> None:
        """File a page's answer for whoever asked."""

    @abc.abstractmethod
    def log_size(self) -> tuple[int, int, int, int]:
        """Channels, entries and bytes that the log holds, and entries that its bounds have removed."""


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
    sends: OrderedDict[int, Message | None] | None = None
    sends_size: int = 0
    variables: Variables | None = None

    def owned_by(self, document: str) -> bool:
        return self.owner is not None and self.owner.document == document

    def forget_oldest_send(self) -> None:
        if self.sends:
            result = self.sends.popitem(last=False)[1]
            if result is not None:
                self.sends_size -= len(result.frame)


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
            may_resume = self._may_resume(record)
            if not may_resume or (record.owner is not None and record.owner.left):
                self._end(page_id, record)
            if may_resume:
                self._expect(page_id, record, RECORD_MARGIN)
            else:
                del self._records[page_id]
        while self._keys and next(iter(self._keys.values()))[0] < now - self._limits.retention:
            self._keys.popitem(last=False)
        _forget(self._gone, now - self._limits.retention)
        _forget(self._revoked, self._wall() - self._revocations)

    @property
    def position(self) -> Position:
        return Position(self._log.epoch, self._log.head)

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
        elif record.owner is not None and record.owner.document != hello.document:
            record.sends, record.sends_size = None, 0
            if record.gone:
                record.topics = None
        if record.topics is None:
            record.topics = dict.fromkeys(hello.topics, 0)
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
        self._expect(page_id, record, self._limits.grace if record.owner.left else self._limits.retention)

    async def set_topics(
        self, page_id: str, rendered: Collection[str], add: Collection[str], remove: Collection[str]
    ) -> dict[str, int]:
        record = self._records.get(page_id) or self._new_record(page_id)
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
        self._expect(page_id, record, RECORD_MARGIN)

    async def is_gone(self, page_id: str) -> bool:
        return page_id in self._gone

    def _may_resume(self, record: _Record) -> bool:
        """Rule 6: a record outlives every cursor of its page, which would else resume without its topics."""
        return self._log.watermark <= record.head

    def _expect(self, page_id: str, record: _Record, seconds: float) -> None:
        record.due = self._clock() + seconds
        heapq.heappush(self._due, (record.due, next(self._order), page_id))

    def _new_record(self, page_id: str) -> _Record:
        """The record of a page that has only been rendered; it ends as that of one that was detached now."""
        record = self._records[page_id] = _Record(head=self._log.head)
        self._expect(page_id, record, self._limits.retention)
        return record

    def _end(self, page_id: str, record: _Record) -> None:
        if record.gone:
            return
        record.gone = True
        if record.variables is not None:
            self._variables_size -= record.variables.size
            record.variables = None
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
        record = self._lasting(page_id)
        variables = Variables() if record is None or record.variables is None else record.variables
        growth = variables.growth(name, value)
        self._check_bounds(len(value or b""), variables.size + growth, growth)
        if record is None and value is not None:
            record = self._new_record(page_id)
        if record is not None:
            variables.put(name, value)
            record.variables = variables
            self._variables_size += growth

    def _check_bounds(self, size: int, page_size: int, growth: int) -> None:
        limits = self._limits
        if size > limits.variable_bytes:
            raise LimitExceeded("variable_bytes", size, limits.variable_bytes)
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

    async def claim_send(self, page_id: str, document: str, send_id: int) -> SendClaim:
        record = self._records.get(page_id)
        if record is None or not record.owned_by(document):
            return SendClaim(False)
        if record.sends is None:
            record.sends = OrderedDict()
        sends = record.sends
        if send_id in sends:
            return SendClaim(False, sends[send_id])
        if sends and send_id < next(iter(sends)):
            # Its result, if there was one, is not kept any more: it must not run again.
            return SendClaim(False)
        if len(sends) >= self._limits.results_kept:
            record.forget_oldest_send()
        sends[send_id] = None
        return SendClaim(True)

    async def complete_send(self, page_id: str, document: str, send_id: int, result: Message) -> None:
        record = self._records.get(page_id)
        if record is None or not record.owned_by(document) or not record.sends or send_id not in record.sends:
            return
        record.sends[send_id] = result
        record.sends_size += len(result.frame)
        while record.sends_size > self._limits.channel_bytes and len(record.sends) > 1:
            record.forget_oldest_send()

    async def answer(self, answer: Answer) -> None:
        self._receiver.answered(answer)


def _forget(since: OrderedDict[str, float], before: float) -> None:
    """Drop the entries that were made before a time; they stand in the order of their times."""
    while since and next(iter(since.values())) < before:
        since.popitem(last=False)
