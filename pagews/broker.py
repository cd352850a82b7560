"""The broker as the rest of the house sees it: the log, and what must outlive a socket.

The broker keeps for each page that attached, joined, stored something or runs a task one bounded record; it says who
owns a page, what has been revoked, and when a page is gone.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from .log import Replay
from .page import Claim, Owner
from .private import private
from .targets import Address
from .wire import Draft, Message, Push


class Control(NamedTuple):
    """An entry of the log that is for the nodes, not for browsers.

    `kind`: `topics` (a page's record has changed), `revoked` (a session or user has ended), `unreadable` (no node has
    filed that) or, unfiled, `close` (the page's socket is to be closed with `code` and `reason`).
    """

    kind: str
    seq: int
    code: int = 0
    reason: str = ""

    @property
    def size(self) -> int:
        return 32


Filed = Push | Control


@private
class Answer(NamedTuple):
    """A page's answer to a push with a receipt."""

    receipt: int
    page_id: str
    document: str
    channels: Collection[str]
    ok: bool
    value: object


@private
class Presence(NamedTuple):
    """A page that is attached, wherever. `topics`: each with the number since when."""

    page_id: str
    session_id: str
    user_id: str | None
    topics: dict[str, int]


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

    def detached(self, page_id: str, session_id: str, user_id: str | None) -> None:
        """The node that a page was attached to has died; told once in the whole cluster."""

    def superseded(self, page_id: str, owner: Owner) -> None:
        """A claim of this node has been taken over on another."""

    def interrupted(self) -> None:
        """Something that was filed may not have been delivered: every attached page must read on from its cursor."""

    def counted_as_dead(self) -> None:
        """The other nodes took this one for dead, and its pages for detached."""

    def present(self, channel: str) -> list[Presence]:
        """The pages of a channel that are attached to this node."""

    def result_dropped(self) -> None:
        """A bound has cost the result of a send of qos 2, whose repeat cannot be answered with it any more."""


class Position(NamedTuple):
    """A cursor: everything up to `seq` of the log `epoch`."""

    epoch: str
    seq: int


@private
class Attach(NamedTuple):
    """What a node asks for when a page says hello.

    `topics`: to what it listens if it has no record, each with the number since when. `since`: when its session or
    login began, in wall-clock seconds.
    `limit`: bytes to read.
    """

    page_id: str
    session_id: str
    user_id: str | None
    document: str
    attempt: int
    cursor: Position
    topics: Mapping[str, int]
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
    """The log and the bus between nodes.

    Attributes:
        serves_pages: false in a program that only pushes: the log keeps the settings of the nodes, and what is told in
            one process only is told in one of theirs.
    """

    serves_pages = True

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
        """Up to where this node has been handed everything (rule 8)."""

    @property
    @abc.abstractmethod
    def head(self) -> Position:
        """The highest number that this node knows to be given out: what a page that is rendered now begins after."""

    @abc.abstractmethod
    async def current(self) -> bool:
        """Wait until this node hears what is revoked (rule 22). Returns whether it had to wait: what was revoked
        meanwhile may be still to be read.
        """

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

        Raises:
            PageGone: the page is known to have ended.
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
    async def close_page(self, page_id: str, code: int, reason: str) -> None:
        """Tell the node that a page is attached to, if there is one, to close its socket. (One that is not to come back
        is told even if its node does not hear at the moment.)
        """

    @abc.abstractmethod
    async def pages(self, channel: str) -> list[Presence]:
        """The pages of a channel that are attached now."""

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
    async def claim_send(self, page_id: str, document: str, send_id: int, *, epoch: str | None = None) -> SendClaim:
        """A qos 2 send is about to run: at most one caller is ever granted a (document, id).

        `epoch`: that of its page when it came. In another it is not granted: its claim may have been lost with the log.
        """

    @abc.abstractmethod
    async def find_send(self, page_id: str, document: str, send_id: int) -> SendClaim | None:
        """What `claim_send` would say if it did not grant the send; None: it would."""

    @abc.abstractmethod
    async def complete_send(self, page_id: str, document: str, send_id: int, result: Message) -> None:
        """Keep what came out of a claimed send, until its page is gone or a bound is reached."""

    @abc.abstractmethod
    async def answer(self, answer: Answer) -> None:
        """File a page's answer for whoever asked."""

    @abc.abstractmethod
    def log_size(self) -> tuple[int, int, int, int]:
        """Channels, entries and bytes that the log holds, and entries that its bounds have removed."""


async def is_revoked(broker: Broker, session_id: str, user_id: str | None, since: float) -> bool:
    """Whether a session, or a login of its user that began at `since`, has been ended."""
    if await broker.revoked(Address.session(session_id).channel) is not None:
        return True
    ended = None if user_id is None else await broker.revoked(Address.user(user_id).channel)
    return ended is not None and since <= ended
