"""The shipped log, broker, node and page sessions in virtual time, with browsers that check what they are promised.

What a browser was shown of qos 1 and 2 must be a gap-free, ordered, duplicate-free run of what was accepted on its
channels, or it must have been told `lost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from pagews import Limits, MemoryBroker
from pagews.broker import Attach, Attached, Filed, Position
from pagews.errors import ProtocolError
from pagews.log import Replay
from pagews.node import Arrival
from pagews.page import PageSession, State
from pagews.socket import Socket
from pagews.wire import Draft

from .rig import Passing, Rig, Wire, bare_context, frames

T = TypeVar("T")

#: Short bounds, so that a hundred steps reach all of them.
BOUNDS = {
    "retention": 6.0,
    "grace": 3.0,
    "heartbeat": 4.0,
    "channel_entries": 5,
    "channel_bytes": 700,
    "log_bytes": 2000,
    "high_water": 300,
    "replay_chunk": 150,
}


class BrokenPromise(AssertionError):
    """A page was shown what it should not have been, or not what it should."""


class SteppedBroker(MemoryBroker):
    """The embedded broker, whose answers can be made to wait on their way there and on their way back."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        super().__init__(limits, clock=clock, wall=clock)
        self.stepped = False
        self.waiting: list[asyncio.Future[None]] = []

    async def _between(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._wait()
        answer = await work()
        await self._wait()
        return answer

    async def _wait(self) -> None:
        if self.stepped:
            gate = asyncio.get_running_loop().create_future()
            self.waiting.append(gate)
            await gate

    def recorded(self, page_id: str) -> dict[str, int]:
        """What the record of a page says, now."""
        record = self._records.get(page_id)
        return {} if record is None else dict(record.topics)

    def step(self, index: int) -> None:
        """Let one that waits go on."""
        if self.waiting:
            gate = self.waiting.pop(index % len(self.waiting))
            if not gate.done():
                gate.set_result(None)

    async def subscribe(self, channels: Collection[str]) -> None:
        await self._wait()

    async def attach(self, hello: Attach) -> Attached:
        ask = super().attach
        return await self._between(lambda: ask(hello))

    async def read(self, epoch: str, cursors: Mapping[str, int], limit: int) -> Replay[Filed]:
        ask = super().read
        return await self._between(lambda: ask(epoch, cursors, limit))

    async def topics(self, page_id: str) -> dict[str, int] | None:
        ask = super().topics
        return await self._between(lambda: ask(page_id))


@dataclass
class Accepted:
    """A push that was accepted."""

    seq: int
    channel: str
    deadline: float | None

    def counts(self, now: float) -> bool:
        """Whether it is worth delivering still."""
        return self.deadline is None or self.deadline > now


@dataclass(eq=False)
class Link:
    """One socket of a browser. `read`: how many of its frames the browser has taken."""

    wire: Wire
    socket: Socket
    task: asyncio.Task[None]
    page: PageSession | None = None
    read: int = 0
    broken: bool = False
    ended: bool = False
    left: bool = False

    def frames(self) -> list[bytes]:
        return frames(b"".join(self.wire.writes))


@dataclass(eq=False)
class Document:
    """A browser's document. `token`: page id and cursor that its HTML was rendered with."""

    world: World
    name: str
    page_id: str
    token: Position
    attempt: int = 0
    cursor: Position | None = None
    links: list[Link] = field(default_factory=list)
    topics: dict[str, int] = field(default_factory=dict)
    shown_to: int = 0
    shown: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def link(self) -> Link | None:
        return self.links[-1] if self.links and not self.links[-1].broken else None

    def channels(self) -> dict[str, int]:
        since = {f"page:{self.page_id}": 0, "session:s": 0, "user:u": 0, "topic:t": 0}
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
            and item.counts(self.world.rig.now)
        ]

    def take(self, frame: list[Any]) -> None:
        """A frame has come on the newest socket."""
        match frame:
            case ["welcome", dict() as fields]:
                self._welcomed(fields)
            case ["push", int() as seq, _, _, _]:
                self._show(seq)
            case ["ping", int() as seq]:
                assert self.cursor is not None
                self._covered(seq)
                self.cursor = Position(self.cursor.epoch, max(self.cursor.seq, seq))
            case _:
                raise BrokenPromise(f"{self.name} got {frame}")

    def _welcomed(self, fields: dict[str, Any]) -> None:
        if fields["forked"]:
            self.page_id = fields["page"]
        if fields["lost"] is not None:
            if fields["resumed"]:
                raise BrokenPromise("resumed and lost at once")
            self.lost.append(fields["lost"])
            self.cursor = Position(fields["epoch"], fields["seq"])
            self.shown_to = max(self.shown_to, fields["seq"])
            self.topics = self._granted()
        elif self.cursor is None:
            self.cursor = Position(fields["epoch"], fields["seq"])
            if fields["forked"]:
                self.topics = self._granted()

    def _granted(self) -> dict[str, int]:
        """What its record says that it listens to; after a loss, joins may have to be made again."""
        return {topic: seq for topic, seq in self.world.broker.recorded(self.page_id).items() if topic != "t"}

    def _show(self, seq: int) -> None:
        assert self.cursor is not None, "a push before the welcome"
        if seq <= self.cursor.seq:
            return  # the client drops what it has seen
        item = next(item for item in self.world.accepted if item.seq == seq)
        if item.channel not in self.channels():
            if not item.channel.startswith("topic:"):
                raise BrokenPromise(f"{self.name} was shown {seq} of {item.channel}")
        elif seq <= self.shown_to:
            raise BrokenPromise(f"{self.name} was shown {seq} again or out of order, after {self.shown_to}")
        self._covered(seq - 1)
        self.cursor = Position(self.cursor.epoch, seq)
        self.shown_to = max(self.shown_to, seq)
        self.shown.append(seq)

    def _covered(self, seq: int) -> None:
        missing = self.due(seq)
        if missing:
            raise BrokenPromise(f"{self.name} was moved to {seq}, but was never shown {missing}, nor told lost")


class World:
    """One node and the browsers around it; each method is one thing that can happen."""

    def __init__(self) -> None:
        self.rig = Rig.__new__(Rig)
        limits = Limits(**BOUNDS)  # type: ignore[arg-type]  # counts are whole numbers in there
        self.now = 1000.0
        self.broker = SteppedBroker(limits, lambda: self.rig.now)
        self.rig.__init__(self.broker, **BOUNDS)  # type: ignore[misc]  # the broker needs its clock
        self.accepted: list[Accepted] = []
        self.documents: list[Document] = []
        self.rendered: list[tuple[str, Position]] = []
        self.gone: list[str] = []

    # --- what the application does ------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self.rig.start()
        for page_id in ("p0", "p1"):
            self.rendered.append((page_id, self.broker.position))

    async def render(self, index: int) -> None:
        """The page is rendered anew: documents that open it from now on have the newer cursor."""
        index %= len(self.rendered)
        self.rendered[index] = (self.rendered[index][0], self.broker.position)

    async def publish(self, channel: str, size: int, ttl: float | None) -> None:
        data = msgspec.json.encode("x" * size)
        expected = self.broker.position.seq + 1
        deadline = None if ttl is None else self.rig.now + ttl
        # Known before it is handed out, as the publisher's own log would be.
        self.accepted.append(Accepted(expected, channel, deadline))
        seq = await self.broker.publish(channel, Draft("page", "d", data), ttl=ttl)
        if seq != expected:
            raise BrokenPromise(f"numbered {seq}, expected {expected}")

    async def emit(self, channel: str) -> None:
        await self.broker.emit(channel, Draft("page", "d", b"0"))

    async def subscribe(self, index: int, topic: str) -> None:
        """A document's page listens to a topic from now on."""
        document = self._attached_document(index)
        if document is not None:
            topics = await self.broker.set_topics(document.page_id, ["t"], [topic], [])
            document.topics.setdefault(topic, topics[topic])

    async def unsubscribe(self, index: int, topic: str) -> None:
        document = self._attached_document(index)
        if document is not None:
            await self.broker.set_topics(document.page_id, ["t"], [], [topic])
            document.topics.pop(topic, None)

    # --- what browsers and networks do --------------------------------------------------------------------------------

    async def open(self, index: int) -> None:
        """A browser opens a rendered page: a new one, a duplicate of another tab, or Back."""
        page_id, cursor = self.rendered[index % len(self.rendered)]
        document = Document(self, f"document {len(self.documents)}", page_id, cursor)
        document.shown_to = cursor.seq
        self.documents.append(document)
        await self.connect(len(self.documents) - 1)

    async def connect(self, index: int) -> None:
        document = self._document(index)
        if document is None:
            return
        await self.cut(index)
        document.attempt += 1
        wire = Wire()
        context = bare_context()
        node = self.rig.node
        socket = Socket(Passing(), context, wire, node.output, self.rig.counters, self.rig.limits)
        arrival = Arrival(
            document.page_id,
            "s",
            "u",
            ["t"],
            self.rig.now,
            document.name,
            document.attempt,
            document.cursor or document.token,
        )
        link = Link(wire, socket, asyncio.create_task(_nothing()))
        link.task = asyncio.create_task(self._attach(link, arrival))
        document.links.append(link)

    async def _attach(self, link: Link, arrival: Arrival) -> None:
        """What the default handler does with a hello."""
        node = self.rig.node
        try:
            link.page, forked, replay = await node.attach(arrival, link.socket)
        except ProtocolError as error:
            link.socket.end(error.code, error.reason)
            return
        link.socket.write(node.welcome(link.page, replay, forked=forked))
        node.go(link.page, replay)

    async def receive(self, index: int, count: int) -> None:
        """The browser takes some frames of its newest socket."""
        document = self._document(index)
        if document is None or document.link is None:
            return
        link = document.link
        waiting = link.frames()[link.read :][:count]
        for frame in waiting:
            link.read += 1
            document.take(msgspec.json.decode(frame))
        if waiting and link.page is not None and link.page.attached:
            self.rig.node.heard(link.page)

    async def cut(self, index: int) -> None:
        """The link breaks: what is under way is lost; the server has not noticed."""
        document = self._document(index)
        if document is not None and document.link is not None:
            document.link.broken = True

    async def notice(self, index: int) -> None:
        """The server notices that sockets of a document have ended."""
        for link in self.documents[index % len(self.documents)].links:
            if (link.broken or link.socket.closed) and link.task.done() and not link.ended:
                link.ended = True
                if link.page is not None:
                    await self.rig.node.detach(link.page, left=link.left)

    async def leave(self, index: int) -> None:
        """The document says goodbye, and does not come back."""
        document = self._document(index)
        if document is None or document.link is None or document.link.page is None:
            return
        document.link.left = document.link.broken = document.closed = True

    async def fill(self, index: int) -> None:
        """The browser reads no more."""
        document = self._document(index)
        if document is not None and document.link is not None:
            document.link.wire.fill(self.rig.limits.high_water + 1)

    async def release(self, index: int) -> None:
        for link in self.documents[index % len(self.documents)].links:
            link.wire.release()

    # --- time and order -----------------------------------------------------------------------------------------------

    async def pass_time(self, seconds: int) -> None:
        self.rig.pass_time(seconds)

    async def sleep(self, seconds: int) -> None:
        """The process stands still: time passes, and nobody turns the wheel."""
        self.rig.now += seconds

    async def stepped(self, on: bool) -> None:
        """From now on the broker's answers wait, or do not."""
        self.broker.stepped = on
        if not on:
            for gate in self.broker.waiting:
                if not gate.done():
                    gate.set_result(None)
            self.broker.waiting.clear()

    async def step(self, index: int) -> None:
        self.broker.step(index)

    async def settle(self) -> None:
        """Everything that is under way arrives."""
        await self.stepped(False)
        for _ in range(200):
            await _turns(6)
            busy = False
            for index, document in enumerate(self.documents):
                await self.notice(index)
                for link in document.links:
                    link.wire.release()
                if document.link is not None and len(document.link.frames()) > document.link.read:
                    await self.receive(index, 1000)
                    busy = True
            pages = self.rig.node.pages.values()
            if not busy and all(page.stands(State.LIVE) for page in pages):
                return
        raise BrokenPromise("it does not settle")

    async def check(self) -> None:
        """What must be true at every moment."""
        node = self.rig.node
        if self.rig.counters.failed:
            raise BrokenPromise(f"something failed: {dict(self.rig.counters.failed)}")
        for page_id, page in node.pages.items():
            if page_id != page.id or not page.attached:
                raise BrokenPromise(f"{page_id} is in the table, and is {page.state}")

    async def finish(self) -> None:
        """In the end every document that is still open comes back, and must have everything or know what it lost."""
        await self.settle()
        for index, document in enumerate(self.documents):
            if not document.closed:
                await self.connect(index)
                await self.settle()
        head = self.broker.position.seq
        for document in self.documents:
            if not document.closed and document.link is not None and not document.link.socket.closed:
                missing = document.due(head)
                if missing:
                    raise BrokenPromise(f"{document.name} is live, and was never shown {missing}, nor told lost")
        await self._end_everything()

    async def _end_everything(self) -> None:
        for index in range(len(self.documents)):
            await self.cut(index)
            for link in self.documents[index].links:
                link.broken = True
            await self.notice(index)
        if self.rig.node.pages:
            raise BrokenPromise(f"pages are left: {self.rig.node.pages}")
        if self.rig.node.hub.listeners("session:s"):
            raise BrokenPromise("somebody is left in the hub")
        self.rig.pass_time(30)
        if self.broker.log_size()[:3] != (0, 0, 0):
            raise BrokenPromise(f"the log keeps {self.broker.log_size()} beyond its retention")
        left = [page_id for page_id in ("p0", "p1") if self.broker.recorded(page_id)]
        if left:
            raise BrokenPromise(f"records are left: {left}")
        names = [page_id for event, page_id in self.rig.events if event == "gone"]
        ever = {page_id for event, page_id in self.rig.events if event == "attached"}
        if set(names) != ever:
            raise BrokenPromise(f"gone came for {names}, attached were {ever}")

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _document(self, index: int) -> Document | None:
        """A document that is still open."""
        if not self.documents:
            return None
        document = self.documents[index % len(self.documents)]
        return None if document.closed else document

    def _attached_document(self, index: int) -> Document | None:
        """A document that knows that its page is attached."""
        document = self._document(index)
        if document is None or document.cursor is None or document.link is None:
            return None
        return document if document.link.page is self.rig.node.pages.get(document.page_id) else None


async def _nothing() -> None:
    pass


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Runner:
    """Runs a world in a loop of its own, step by step."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.run(self.world.start())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def step() -> None:
            await work
            await _turns(4)
            await self.world.check()

        self.loop.run_until_complete(step())

    def close(self) -> None:
        """End what is under way."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()
