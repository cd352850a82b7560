"""Browser documents in virtual time: they do what the protocol asks of a client, and check what they are promised.

What a document was shown of qos 1 and 2 must be a gap-free, ordered, duplicate-free run of what was accepted on its
channels, or it must have been told `lost`. A send of qos 2 must have run at most once, and its answer must be its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from pagews import Text
from pagews.broker import Position
from pagews.errors import CloseCode, Return, returns
from pagews.socket import Socket
from pagews.tokens import Token

from .grants import Grants
from .rig import Wire, frames


class BrokenPromise(AssertionError):
    """A page was shown what it should not have been, or not what it should."""


@dataclass
class Accepted:
    """A push that was accepted."""

    seq: int
    channel: str
    deadline: float | None

    def counts(self, now: float) -> bool:
        """Whether it is worth delivering still."""
        return self.deadline is None or self.deadline > now


@dataclass
class Ran:
    """The sends that the server's delegate was run for, and how often."""

    times: dict[tuple[str, int], int] = field(default_factory=dict)

    def note(self, document: str, send_id: int) -> None:
        self.times[document, send_id] = self.times.get((document, send_id), 0) + 1


class Surroundings(Protocol):
    """What documents see of the world."""

    @property
    def now(self) -> float: ...

    @property
    def accepted(self) -> list[Accepted]: ...

    @property
    def ran(self) -> Ran: ...

    @property
    def grants(self) -> Grants: ...

    def read_token(self, text: str) -> Token:
        """What a token says, also when its life is over."""

    def renew(self, document: Document) -> bool:
        """Ask for a fresh token; False: there is none for the identity that the browser has now."""

    def ended_at(self, document: Document) -> int | None:
        """The number of the log with which its identity has ended."""

    def may_be_lost(self, reason: str, cursor: Position) -> bool:
        """Whether there is any cause for a loss."""


class Line(Wire):
    """A carrier whose browser can be seen to go on writing, and to be written to after the end."""

    def write(self, data: bytes) -> None:
        if self.closed is not None:
            raise BrokenPromise("written to behind the close")
        super().write(data)


@dataclass(eq=False)
class Link:
    """One socket of a document.

    `up`: what the browser has written and the server has not read; None ends it. `read`: how many frames the browser
    has taken. `broken`: nothing comes through any more, which the server need not have noticed.
    """

    wire: Line
    socket: Socket
    up: asyncio.Queue[list[Any] | None] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    read: int = 0
    welcomed: bool = False
    broken: bool = False
    ended: bool = False
    _decoded: list[bytes] = field(default_factory=list)
    _pieces: int = 0

    def frames(self) -> list[bytes]:
        """Every frame that was written to it."""
        fresh = self.wire.writes[self._pieces :]
        self._pieces += len(fresh)
        for piece in fresh:
            self._decoded += frames(piece)
        return self._decoded

    async def serve(self, code: int) -> None:
        """The server's receive loop."""
        await self.socket.start()
        while not self.socket.closed:
            frame = await self.up.get()
            if frame is None:
                break
            await self.socket.handle(Text(msgspec.json.encode(frame).decode()))
        self.socket.over(code)
        await self.socket.finish()


@dataclass(eq=False)
class Document:
    """One document. `token`: the newest one it has; `rendered`: the cursor that its HTML was rendered at."""

    world: Surroundings
    name: str
    token: str
    page_id: str
    rendered: Position
    identity: tuple[str, str | None]
    since: float
    topics: dict[str, int] = field(default_factory=dict)
    pages: set[str] = field(default_factory=set)
    attempt: int = 0
    cursor: Position | None = None
    links: list[Link] = field(default_factory=list)
    shown_to: int = 0
    shown: list[int] = field(default_factory=list)
    outbox: dict[int, list[Any]] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    sends: int = 0
    exactly_once: set[int] = field(default_factory=set)
    answers: dict[int, list[Any]] = field(default_factory=dict)
    unconfirmed: dict[int, list[Any]] = field(default_factory=dict)
    left: bool = False
    closed: bool = False

    def __post_init__(self) -> None:
        self.shown_to = self.rendered.seq
        self.pages.add(self.page_id)

    @property
    def link(self) -> Link | None:
        return self.links[-1] if self.links and not self.links[-1].broken else None

    @property
    def welcomed(self) -> bool:
        """Whether it has a link on which it was welcomed."""
        return self.link is not None and self.link.welcomed

    def hello(self) -> list[Any]:
        """The first frame of the next attempt."""
        self.attempt += 1
        fields = {"token": self.token, "document": self.name, "attempt": self.attempt}
        if self.cursor is not None:
            fields |= {"epoch": self.cursor.epoch, "seq": self.cursor.seq}
        return ["hello", fields]

    def channels(self) -> dict[str, int]:
        """What it listens to, each with the number since when."""
        session_id, user_id = self.identity
        since = {f"page:{self.page_id}": 0, f"session:{session_id}": 0}
        if user_id is not None:
            since[f"user:{user_id}"] = 0
        return since | {f"topic:{topic}": seq for topic, seq in self.topics.items()}

    def due(self, upto: int) -> list[int]:
        """What it must have been shown up to a number, and has not."""
        since = self.channels()
        return [
            item.seq
            for item in self.world.accepted
            if self.shown_to < item.seq <= upto
            and item.channel in since
            and item.seq > since[item.channel]
            and item.counts(self.world.now)
        ]

    # --- what it writes -----------------------------------------------------------------------------------------------

    def write(self, frame: list[Any]) -> bool:
        """Write to the newest socket, if it has been welcomed."""
        if self.link is None or not self.link.welcomed:
            return False
        self.link.up.put_nowait(frame)
        return True

    def request(self, frame: list[Any]) -> None:
        """Write what wants a result: again after every cut, with the same id."""
        self.outbox[frame[1]] = frame
        if self.write(frame):
            self.written.add(frame[1])

    def send(self, qos: int) -> None:
        self.sends += 1
        frame = ["send", self.sends, qos, "work", [self.name, self.sends]]
        if qos == 2:
            self.exactly_once.add(self.sends)
        if qos:
            self.request(frame)
        else:
            self.write(frame)

    # --- what it takes ------------------------------------------------------------------------------------------------

    def take(self, link: Link, frame: list[Any]) -> None:
        """A frame has come on the newest socket."""
        if not link.welcomed and frame[0] != "welcome":
            raise BrokenPromise(f"{self.name} got {frame} before the welcome")
        match frame:
            case ["welcome", dict() as fields]:
                self._welcomed(link, fields)
            case ["push", 0, *_]:
                pass
            case ["push", int() as seq, _, _, _, *receipt]:
                self._push(seq, receipt[0] if receipt else 0)
            case ["ping", int() as seq]:
                self._move(seq)
                self.write(["pong"])
            case ["result", int() as send_id, bool() as ok, value]:
                self._result(send_id, ok, value)
            case ["acked", int() as receipt]:
                self.unconfirmed.pop(receipt, None)
            case ["token", str() as token]:
                self._take_token(token)
            case _:
                raise BrokenPromise(f"{self.name} got {frame}")

    def _welcomed(self, link: Link, fields: dict[str, Any]) -> None:
        first, link.welcomed = not link.welcomed, True
        if fields["forked"]:
            if fields["page"] != self.page_id:
                self._forget_outcomes()
                # What went to a page of that name before it was this one's is owed only from here.
                self.shown_to = max(self.shown_to, (self.cursor or self.rendered).seq)
            self.page_id = fields["page"]
            self.pages.add(self.page_id)
        elif fields["page"] != self.page_id:
            raise BrokenPromise(f"{self.name} is {self.page_id}, and was welcomed as {fields['page']}")
        if fields["token"] is not None:
            self._take_token(fields["token"])
        if fields["lost"] is not None:
            self._lost(fields)
        elif self.cursor is None:
            if first and fields["seq"] != self.rendered.seq:
                raise BrokenPromise(f"{self.name} begins at {fields['seq']}, and was rendered at {self.rendered.seq}")
            self.cursor = Position(fields["epoch"], fields["seq"])
        # What the page had joined before it was this document's, or before a loss, and has not lost by it.
        self.topics = self.world.grants.listens(self.page_id)
        if first:
            for frame in self.unconfirmed.values():
                self.write(frame)
            for send_id, frame in self.outbox.items():
                self.write(frame)
                self.written.add(send_id)

    def _lost(self, fields: dict[str, Any]) -> None:
        if fields["resumed"]:
            raise BrokenPromise("resumed and lost at once")
        if not self.world.may_be_lost(fields["lost"], self.cursor or self.rendered):
            raise BrokenPromise(f"{self.name} was told lost ({fields['lost']}), and nothing was")
        self.cursor = Position(fields["epoch"], fields["seq"])
        self.shown_to = max(self.shown_to, fields["seq"])
        if fields["lost"] != "trimmed":
            self._forget_outcomes()

    def _forget_outcomes(self) -> None:
        """The record that knew which sends of qos 2 have run may be gone: they must not be sent again."""
        for send_id in self.exactly_once & self.written & self.outbox.keys():
            del self.outbox[send_id]

    def _take_token(self, text: str) -> None:
        token = self.world.read_token(text)
        if (token.epoch, token.seq) != self.rendered or token.page != self.page_id:
            raise BrokenPromise(f"{self.name} has a token of {token.page} at {token.seq}: not what it had before")
        self.token = text

    def _push(self, seq: int, receipt: int) -> None:
        assert self.cursor is not None
        if receipt in self.answers:
            self.unconfirmed[receipt] = self.answers[receipt]
            self.write(self.answers[receipt])
        if seq <= self.cursor.seq:
            return  # the client drops what it has seen
        end = self.world.ended_at(self)
        if end is not None and seq > end:
            raise BrokenPromise(f"{self.name} was shown {seq}, and its identity has ended with {end}")
        item = next(item for item in self.world.accepted if item.seq == seq)
        kind, _, topic = item.channel.partition(":")
        if kind == "topic":
            if not self.world.grants.has(self.page_id, topic, seq):
                raise BrokenPromise(f"{self.name} was shown {seq} of {item.channel}, which it was not granted")
        elif item.channel not in self.channels():
            raise BrokenPromise(f"{self.name} was shown {seq} of {item.channel}")
        if item.channel in self.channels() and seq <= self.shown_to:
            raise BrokenPromise(f"{self.name} was shown {seq} again or out of order, after {self.shown_to}")
        self._move(seq - 1)
        self.cursor = Position(self.cursor.epoch, seq)
        self.shown_to = max(self.shown_to, seq)
        self.shown.append(seq)
        if receipt and receipt not in self.answers:
            self.answers[receipt] = self.unconfirmed[receipt] = ["ack", receipt, True, self.name]
            self.write(self.answers[receipt])

    def _move(self, seq: int) -> None:
        assert self.cursor is not None
        missing = self.due(seq)
        if missing:
            raise BrokenPromise(f"{self.name} was moved to {seq}, but was never shown {missing}, nor told lost")
        self.cursor = Position(self.cursor.epoch, max(self.cursor.seq, seq))

    def _result(self, send_id: int, ok: bool, value: Any) -> None:
        frame = self.outbox.pop(send_id, None)
        if frame is None or frame[0] != "send":
            return
        ran = self.world.ran.times.get((self.name, send_id), 0)
        if ok and (value != [self.name, send_id] or not ran):
            raise BrokenPromise(f"{self.name} got {value} for {send_id}, which ran {ran} times")
        if not ok and not (send_id in self.exactly_once and value["code"] == "outcome-unknown"):
            raise BrokenPromise(f"{self.name} got {value} for {send_id} of qos {frame[2]}")

    def ended_by(self, code: int, *, valid: bool) -> None:
        """It sees that the server has closed its newest socket; `valid`: its identity is good still."""
        link = self.links[-1]
        link.broken = True
        if code == CloseCode.SUPERSEDED:
            raise BrokenPromise(f"the newest socket of {self.name} was superseded")
        if code == CloseCode.IDENTITY and valid:
            raise BrokenPromise(f"{self.name} was sent away, and its identity is good")
        if code == CloseCode.BAD_TOKEN:
            self.closed = not self.world.renew(self)
            if self.closed and valid:
                raise BrokenPromise(f"the token of {self.name} was refused, and is good")
        elif returns(code) is not Return.BACK:
            self.closed = True
