"""The page session: its states, its transitions, and what it lets through to its socket.

`TRANSITIONS` is the one table; nothing else decides what may follow what. No clock, no socket and no loop in here: the
caller says what happened, and does what it is told.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple


class State(enum.Enum):
    """Where a page session stands."""

    RENDERED = "rendered"  # a token exists, the server keeps nothing
    HOLDING = "holding"  # a hello is being answered: in the hub, what comes is held
    REPLAYING = "replaying"  # welcomed; reads the log up to the present, what comes is held
    LIVE = "live"  # written to as messages come
    LAGGING = "lagging"  # its socket is full: nothing is written, the log keeps it
    DETACHED = "detached"  # no socket; the log keeps everything for the retention
    LEFT = "left"  # said goodbye; may come back within the grace
    GONE = "gone"


class Event(enum.Enum):
    """What can happen to a page session."""

    HELLO = "hello"  # a verified hello
    WELCOMED = "welcomed"  # its first read is there
    CAUGHT_UP = "caught up"  # a read reached the present
    REREAD = "reread"  # what came may be incomplete: read on from the cursor
    LAGGED = "lagged"  # its socket is above the high-water mark
    DRAINED = "drained"  # its socket is below it again
    CUT = "cut"  # its socket ended
    BYE = "bye"  # its document said goodbye
    ENDED = "ended"  # the retention or the grace ran out, or it was closed for good


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.RENDERED, Event.HELLO): State.HOLDING,
    (State.RENDERED, Event.ENDED): State.GONE,
    (State.HOLDING, Event.HELLO): State.HOLDING,
    (State.HOLDING, Event.WELCOMED): State.REPLAYING,
    (State.HOLDING, Event.CUT): State.DETACHED,
    (State.HOLDING, Event.BYE): State.LEFT,
    (State.HOLDING, Event.ENDED): State.GONE,
    (State.REPLAYING, Event.HELLO): State.HOLDING,
    (State.REPLAYING, Event.CAUGHT_UP): State.LIVE,
    (State.REPLAYING, Event.REREAD): State.REPLAYING,
    (State.REPLAYING, Event.LAGGED): State.LAGGING,
    (State.REPLAYING, Event.CUT): State.DETACHED,
    (State.REPLAYING, Event.BYE): State.LEFT,
    (State.REPLAYING, Event.ENDED): State.GONE,
    (State.LIVE, Event.HELLO): State.HOLDING,
    (State.LIVE, Event.REREAD): State.REPLAYING,
    (State.LIVE, Event.LAGGED): State.LAGGING,
    (State.LIVE, Event.CUT): State.DETACHED,
    (State.LIVE, Event.BYE): State.LEFT,
    (State.LIVE, Event.ENDED): State.GONE,
    (State.LAGGING, Event.HELLO): State.HOLDING,
    (State.LAGGING, Event.REREAD): State.LAGGING,
    (State.LAGGING, Event.DRAINED): State.REPLAYING,
    (State.LAGGING, Event.CUT): State.DETACHED,
    (State.LAGGING, Event.BYE): State.LEFT,
    (State.LAGGING, Event.ENDED): State.GONE,
    (State.DETACHED, Event.HELLO): State.HOLDING,
    (State.DETACHED, Event.BYE): State.LEFT,
    (State.DETACHED, Event.ENDED): State.GONE,
    (State.LEFT, Event.HELLO): State.HOLDING,
    (State.LEFT, Event.BYE): State.LEFT,
    (State.LEFT, Event.ENDED): State.GONE,
}

#: An attribute of an enum costs a look-up by name, and `receive` asks for it for every message and page.
_LIVE: Final = State.LIVE

ATTACHED: Final = frozenset({State.HOLDING, State.REPLAYING, State.LIVE, State.LAGGING})
"""The states in which a page has a socket."""


class Owner(NamedTuple):
    """Who a page belongs to: the newest attempt of a document. `left`: it said goodbye. `repeat`: the same attempt has
    come so many times before.
    """

    document: str
    attempt: int
    left: bool = False
    repeat: int = 0

    def is_claim_of(self, other: Owner) -> bool:
        """Whether it is the same claim, whether or not it said goodbye since."""
        return self._replace(left=other.left) == other


class Claim(enum.Enum):
    """What a hello may do with a page (rules 16 and 17)."""

    GRANTED = "granted"  # nobody had it, the same document comes back, or another one after a goodbye
    SUPERSEDED = "superseded"  # a later attempt of the same document was here already
    FORKED = "forked"  # another document has it: the newcomer becomes a page of its own


def contend(owner: Owner | None, document: str, attempt: int) -> Claim:
    """Who wins when `document` says hello to a page that belongs to `owner`."""
    if owner is None or (owner.document != document and owner.left):
        return Claim.GRANTED
    if owner.document != document:
        return Claim.FORKED
    # A browser sends a POST again by itself when its connection dies before an answer: the same attempt, which is newer
    # all the same.
    return Claim.GRANTED if attempt >= owner.attempt else Claim.SUPERSEDED


def cursors(page_id: str, session_id: str, user_id: str | None, topics: Mapping[str, int], seq: int) -> dict[str, int]:
    """The channels of a page, each with the number to read on from: a topic from the later of the page's cursor and
    since when it is listened to (rule 21).
    """
    channels = {f"page:{page_id}": seq, f"session:{session_id}": seq}
    if user_id is not None:
        channels[f"user:{user_id}"] = seq
    for topic, since in topics.items():
        channels[f"topic:{topic}"] = max(seq, since)
    return channels


class PageSession:
    """One attached page: what it listens to, how far it has been written, what is held for it.

    Arguments:
        page_id, session_id, user_id: who it is; `user_id` is None while nobody is logged in.
        topics: each topic with the number since when it is listened to.
        document, attempt: the newest hello. Its `repeat` is in the broker's answer to it.
        epoch, position: the cursor. Everything up to `position` has been handed to the socket.
        since: when its session or login began, in wall-clock seconds.
        held_limit: bytes that may be held while a read is under way; beyond that it reads again.
        socket: where to it writes; opaque in here.
    """

    __slots__ = (
        "_held",
        "_held_limit",
        "_held_size",
        "attempt",
        "document",
        "epoch",
        "heard",
        "id",
        "overflowed",
        "position",
        "relearn",
        "repeat",
        "session_id",
        "since",
        "slot",
        "socket",
        "state",
        "task",
        "told",
        "topics",
        "user_id",
    )

    def __init__(
        self,
        page_id: str,
        *,
        session_id: str,
        user_id: str | None,
        topics: dict[str, int],
        document: str,
        attempt: int,
        epoch: str,
        position: int,
        since: float,
        held_limit: int,
        socket: Any,
    ) -> None:
        self.id = page_id
        self.session_id = session_id
        self.user_id = user_id
        self.topics = topics
        self.document = document
        self.attempt = attempt
        self.repeat = 0
        self.epoch = epoch
        self.position = position
        self.since = since
        self.socket = socket
        #: when its script was last heard, and its place, in the heartbeat
        self.heard = self.slot = 0
        #: what reads on for it; one at a time
        self.task: Any = None
        #: more came while it was reading than may be held, or some did not: it must read again
        self.overflowed = False
        #: its record has changed: its topics must be asked for again
        self.relearn = False
        #: the application has been told that it is attached
        self.told = False
        self.state = State.RENDERED
        self._held: list[tuple[int, Any]] = []
        self._held_size = 0
        self._held_limit = held_limit
        self.happened(Event.HELLO)

    def stands(self, state: State) -> bool:
        """Whether it is in `state` now; for code that waits in between."""
        return self.state is state

    @property
    def attached(self) -> bool:
        """Whether it has a socket."""
        return self.state in ATTACHED

    @property
    def owner(self) -> Owner:
        """The claim by which it has its page."""
        return Owner(self.document, self.attempt, repeat=self.repeat)

    def happened(self, event: Event) -> None:
        """Move on by the table.

        Raises:
            KeyError: the event cannot happen in this state; the caller has a bug.
        """
        self.state = TRANSITIONS[self.state, event]

    def cursors(self) -> dict[str, int]:
        """The channels it listens to, each with the number from where it reads on."""
        return cursors(self.id, self.session_id, self.user_id, self.topics, self.position)

    def replayed(self, seq: int) -> bool:
        """An entry of a read is about to be written: whether it is new."""
        if seq <= self.position:
            return False
        self.position = seq
        return True

    def release(self) -> list[Any]:
        """It goes live: what was held and is new, by number."""
        self.happened(Event.CAUGHT_UP)
        held = self.clear_held()
        held.sort(key=lambda item: item[0])
        return [message for seq, message in held if self.replayed(seq)]

    def clear_held(self) -> list[tuple[int, Any]]:
        """Let go of what is held, e.g. because the log will be read again; returns it."""
        held, self._held, self._held_size, self.overflowed = self._held, [], 0, False
        return held

    def read_again(self) -> None:
        """What came may be incomplete: let go of what is held, and read on from the cursor."""
        if self.state is State.LIVE:
            self.happened(Event.REREAD)
        self.clear_held()
        self.overflowed = True

    def hold(self, seq: int, message: Any, size: int) -> None:
        """Something has come that cannot be written yet: keep it if a read is under way, else leave it to the log."""
        if self.overflowed or not (self.state is State.HOLDING or self.state is State.REPLAYING):
            return
        self._held_size += size
        if self._held_size > self._held_limit:
            self.clear_held()
            self.overflowed = True
        else:
            self._held.append((seq, message))


def receive(pages: Iterable[PageSession], seq: int, message: Any, size: int) -> list[Any]:
    """A message has come for these pages: the sockets to write it to now. `seq` is 0 for qos 0.

    One function for all pages of a channel: it is run for every message and page, and a call for each would cost more
    than what it decides.
    """
    sockets = []
    for page in pages:
        if page.state is _LIVE:
            if not seq:
                sockets.append(page.socket)
            elif seq > page.position:
                page.position = seq
                sockets.append(page.socket)
        elif seq:
            page.hold(seq, message, size)
    return sockets
