"""A node with its broker in virtual time, and pages that speak to it through carriers that are lists."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
from aiohttp.test_utils import make_mocked_request

from pagews import Context, Limits, MemoryBroker, WebSocketHandler
from pagews.broker import Answer, Broker, Position
from pagews.counters import Counters
from pagews.handler import Replies
from pagews.node import Arrival, Node
from pagews.page import PageSession
from pagews.socket import Socket
from pagews.wire import Draft

_REQUEST = make_mocked_request("GET", "/")


def frames(data: bytes) -> list[bytes]:
    """The payloads of a run of unmasked frames."""
    found = []
    while data:
        header = {126: 4, 127: 10}.get(data[1], 2)
        size = data[1] if header == 2 else int.from_bytes(data[2:header], "big")
        found.append(data[header : header + size])
        data = data[header + size :]
    return found


class Wire:
    """A carrier that keeps what it is given, and has a backlog for as long as the test wants one."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed: tuple[int, bytes] | None = None
        self.waiting = 0
        self.empty = asyncio.Event()
        self.empty.set()
        self.ended = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def backlog(self) -> int:
        return self.waiting

    async def drain(self) -> None:
        await self.empty.wait()

    def close(self, code: int, reason: bytes) -> None:
        self.closed = (code, reason)
        self.ended.set()

    def fill(self, size: int) -> None:
        self.waiting = size
        self.empty.clear()

    def release(self) -> None:
        self.waiting = 0
        self.empty.set()

    @property
    def texts(self) -> list[str]:
        """What was written, frame by frame."""
        return [payload.decode() for payload in frames(b"".join(self.writes))]


async def turn() -> None:
    """Let the loop do what it has scheduled."""
    for _ in range(8):
        await asyncio.sleep(0)


class Passing(WebSocketHandler):
    """Hands every push on."""

    def websocket_info(self, message: Any, context: Context) -> Replies:
        return message.message  # type: ignore[no-any-return]  # pushes are all that comes


def bare_context() -> Context:
    """The context of a socket that nobody has asked for."""
    return Context(_REQUEST, {})


class Rig:
    """One node in virtual time."""

    def __init__(self, broker: Broker | None = None, **limits: float) -> None:
        self.now = 1000.0
        self.limits = Limits(**limits)  # type: ignore[arg-type]  # counts among them are whole
        self.counters = Counters()
        self.events: list[tuple[str, str]] = []
        self.answers: list[Answer] = []
        self.broker = broker or MemoryBroker(self.limits, clock=lambda: self.now, wall=lambda: self.now)
        numbers = itertools.count(1)
        self.node = Node(self.broker, self, self.counters, self.limits, lambda: f"fork{next(numbers)}")

    async def start(self) -> Rig:
        """Connect node and broker; the heartbeat is turned by `pass_time`."""
        await self.broker.start(self.node)
        return self

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        for _ in range(round(seconds)):
            self.now += 1.0
            self.node.turn()

    async def push(self, channel: str, data: object = None, **options: Any) -> int:
        return await self.broker.publish(channel, draft(data), **options)

    def attached(self, page: PageSession) -> None:
        self.events.append(("attached", page.id))

    def detached(self, page: PageSession) -> None:
        self.events.append(("detached", page.id))

    def detached_elsewhere(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self.events.append(("detached elsewhere", page_id))

    def ended(self, page_id: str) -> None:
        """What it does to receipts is the publisher's."""

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self.events.append(("gone", page_id))

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)


def draft(data: object = None, **fields: Any) -> Draft:
    return Draft("page", "d", msgspec.json.encode(data), **fields)


class Client:
    """One document: what it has been sent, and its cursor."""

    def __init__(self, rig: Rig, page_id: str = "p", document: str = "d", topics: tuple[str, ...] = ()) -> None:
        self.rig = rig
        self.page_id = page_id
        self.document = document
        self.topics = topics
        self.attempt = 0
        self.cursor = rig.broker.position
        self.wire = Wire()
        self.socket: Socket
        self.page: PageSession

    async def attach(
        self, *, attempt: int | None = None, cursor: Position | None = None, user: str | None = None
    ) -> None:
        """Attach by a new socket; returns when what there was to read has been written."""
        self.attempt = self.attempt + 1 if attempt is None else attempt
        node, self.wire = self.rig.node, Wire()
        context = bare_context()
        self.socket = Socket(Passing(), context, self.wire, node.output, self.rig.counters, self.rig.limits)
        arrival = Arrival(
            self.page_id,
            "s",
            user,
            dict.fromkeys(self.topics, 0),
            self.rig.now,
            self.document,
            self.attempt,
            cursor or self.cursor,
        )
        page, forked, replay = await node.attach(arrival, self.socket)
        self.page = page
        self.socket.write(node.welcome(page, replay, forked=forked))
        node.go(page, replay)
        await turn()

    async def detach(self, *, left: bool = False) -> None:
        """Its connection breaks, or it says goodbye."""
        self.socket.over(1006)
        await self.rig.node.detach(self.page, left=left)

    @property
    def frames(self) -> list[Any]:
        """Every frame of the newest socket, decoded."""
        return [msgspec.json.decode(text) for text in self.wire.texts]

    @property
    def pushed(self) -> list[int]:
        """The numbers of the pushes that the newest socket was written."""
        return [frame[1] for frame in self.frames if frame[0] == "push"]

    @property
    def welcome(self) -> dict[str, Any]:
        """The last welcome of the newest socket."""
        return [frame[1] for frame in self.frames if frame[0] == "welcome"][-1]  # type: ignore[no-any-return]  # JSON
