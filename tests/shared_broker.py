"""The embedded broker as that of several nodes: one log, one set of records, and a line of deliveries to each node.

What is kept, and how it changes, is the shipped `MemoryBroker`, of which each node has one on the same log and records.
Between them is what Redis is between processes: pub/sub, which may lag or break, and signs of life.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, TypeVar, cast

from pagews import Limits, MemoryBroker
from pagews.broker import Answer, Attach, Attached, Control, Filed, Position, Presence, Receiver, SendClaim
from pagews.errors import BrokerUnavailable, Return, returns
from pagews.log import Replay
from pagews.page import Claim, Owner
from pagews.targets import Address
from pagews.wire import Draft, Message

from .grants import Grants

T = TypeVar("T")

#: What the brokers of all nodes have in common.
SHARED: Final = ("_log", "_records", "_due", "_order", "_keys", "_gone", "_revoked", "_results")
#: Asked of the shared log by any node that reaches it, and answered at once.
CALLS: Final = (
    *("emit", "owner", "detach", "keep", "get_variable", "set_variable", "incr_variable", "append_variable"),
    *("end", "is_gone", "revoke", "revoked", "find_send"),
)


class Bus:
    """What the nodes share: the log, its records, and who lives.

    Attributes:
        nodes: those that live.
        store: a broker of no node, on the same log.
        claimed: pages that were claimed since they were gone, if they were.
        forked: by document that was told it is forked: from which page, and at which head.
        joined: told of every page whose grants have changed, and of its owner.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.clock = clock
        self.store = MemoryBroker(limits, clock=clock, wall=clock)
        self.store._receiver = cast(Receiver, _Everybody(self, None))
        self.nodes: list[NodeBroker] = []
        self.stepped = False
        self.claimed: set[str] = set()
        self.forked: dict[str, tuple[str, int]] = {}
        self.grants = Grants()
        self.joined: Callable[[str, str | None], None]
        self.askers: dict[int, set[NodeBroker]] = defaultdict(set)
        #: By page, the node that has claimed it last; by send, the node that runs it or has.
        self.where: dict[str, NodeBroker] = {}
        self.runners: dict[tuple[str, str, int], NodeBroker] = {}
        #: When a node was last heard of, and any; and those that count as dead and do not know.
        self.seen: dict[NodeBroker, float] = {}
        self.dead: set[NodeBroker] = set()
        self._probed = clock()
        self._ticked = 0.0
        self._news = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        #: Heads of the log, and when it had them.
        self._heads: list[int] = [0]
        self._times: list[float] = [clock()]

    @property
    def head(self) -> Position:
        """The highest number that was given out."""
        return self.store.position

    def note_head(self) -> None:
        self._heads.append(self.head.seq)
        self._times.append(self.clock())

    def issued(self, seq: int) -> float:
        """When a number was given out, or later."""
        return self._times[min(bisect_left(self._heads, seq), len(self._times) - 1)]

    def ended(self) -> list[str]:
        """The pages that are known to have ended."""
        return list(self.store._gone)

    # --- steps --------------------------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """Wait until it is let go on, if answers are to wait on their way there and on their way back."""
        if self.stepped:
            gate = asyncio.get_running_loop().create_future()
            self._waiting.append(gate)
            await gate

    def step(self, index: int) -> None:
        """Let one that waits go on."""
        if self._waiting:
            _open(self._waiting.pop(index % len(self._waiting)))

    def go_on(self) -> None:
        """From now on nothing waits."""
        self.stepped = False
        for gate in self._waiting:
            _open(gate)
        self._waiting.clear()

    # --- signs of life ------------------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether a second has passed since time took a number."""
        if self.clock() - self._ticked < 1:
            return False
        self._ticked = self.clock()
        return True

    def probe(self, node: NodeBroker) -> None:
        """A node gives a sign of life, and lets go of the pages of those that have given none."""
        now = self.clock()
        # While nobody has, all of them stood still.
        silence = max(now - self._probed - 1, 0.0)
        self._probed = now
        self.seen = {other: seen + silence for other, seen in self.seen.items()}
        self.seen[node] = now
        for other, seen in tuple(self.seen.items()):
            if seen <= now - self.limits.lease:
                del self.seen[other]
                self.dead.add(other)
        for page_id, other in tuple(self.where.items()):
            record = self.store._records.get(page_id)
            if record is None:
                del self.where[page_id]
            elif other in self.dead and record.attached and record.owner is not None:
                node.let_go(page_id, record.owner, record.owner.left)
                node.node.detached(page_id, record.session_id, record.user_id)
        self.tell_news()

    def is_alive(self, node: NodeBroker | None) -> bool:
        return node in self.seen

    def tell_news(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def news(self) -> None:
        """Wait until a send may have its result, or never get one."""
        await self._news.wait()


class NodeBroker(MemoryBroker):
    """The broker of one node.

    Attributes:
        node: whom it tells.
        held: nothing comes through its pub/sub for now.
        stalled: it does not reach the log either.
        killed: its process is no more.
    """

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        size = bus.store._variables_size
        super().__init__(bus.limits, clock=bus.clock, wall=bus.clock)
        for name in SHARED:
            setattr(self, name, getattr(bus.store, name))
        self._variables_size = size
        self._receiver = cast(Receiver, _Everybody(bus, self))
        self.node: Receiver
        self.held = self.stalled = self.killed = False
        self._line: deque[Callable[[], object]] = deque()
        self._subscriptions: set[str] = set()
        self._at = bus.head.seq
        self._filed = 0
        self._generation = 0
        self._answers: list[Answer] = []
        self._moved = asyncio.Event()
        #: By page, whether its newest claim was answered: answers come in the order of the claims.
        self._claims: dict[str, asyncio.Event] = {}
        bus.nodes.append(self)
        bus.seen[self] = bus.clock()

    @property
    def _variables_size(self) -> int:
        return self.bus.store._variables_size

    @_variables_size.setter
    def _variables_size(self, size: int) -> None:
        self.bus.store._variables_size = size

    async def start(self, receiver: Receiver) -> None:
        self.node = receiver

    # --- the line -----------------------------------------------------------------------------------------------------

    def put(self, arrive: Callable[[], object]) -> None:
        """Something has been published for this node."""
        self._line.append(arrive)
        self._flow()

    def _flow(self) -> None:
        while self._line and not self.held and not self.killed:
            self._line.popleft()()

    def hold(self, *, stall: bool) -> None:
        self.held, self.stalled = True, stall

    def release(self) -> None:
        """All that was held comes, in its order."""
        self.held = self.stalled = False
        self._flow()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def cut(self) -> None:
        """Its pub/sub connection breaks, with all that was under way, and there is another one."""
        if not self.stalled:
            self._line.clear()
            self._generation += 1
            self.node.interrupted()
            self._take_answers()
            self.release()

    def kill(self) -> None:
        self.killed = True
        self._line.clear()
        self.bus.nodes.remove(self)

    def hand_out(self, channel: str, message: Filed) -> None:
        if channel in self._subscriptions:
            self.put(lambda: self._arrive(channel, message))

    def _arrive(self, channel: str, message: Filed) -> None:
        self.node.deliver(channel, message)
        self._move(message.seq)

    def _move(self, seq: int) -> None:
        self._at = max(self._at, seq)

    async def reach(self) -> None:
        """Wait until it reaches the log; a process that was killed never does."""
        while self.stalled:
            await self._moved.wait()
        if self.killed:
            await asyncio.Event().wait()

    async def _between(self, work: Callable[[], Awaitable[T]]) -> T:
        await self.bus.wait()
        await self.reach()
        answer = await work()
        await self.bus.wait()
        await self.reach()
        return answer

    # --- the broker ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        if self.stalled:
            return
        bus = self.bus
        if bus.is_due():
            super().tick()
            bus.note_head()
        bus.probe(self)
        head = bus.head.seq
        self.put(lambda: self._move(head))
        if self in bus.dead:
            bus.dead.discard(self)
            self.node.counted_as_dead()

    @property
    def position(self) -> Position:
        return Position(self._log.epoch, self._at)

    @property
    def head(self) -> Position:
        return Position(self._log.epoch, max(self._at, self._filed))

    async def current(self) -> bool:
        waited = self.held
        while self.held:
            await self._moved.wait()
        return waited

    async def publish(self, channel: str, draft: Draft, *, ttl: float | None = None, key: str | None = None) -> int:
        await self.reach()
        if draft.receipt:
            self.bus.askers[draft.receipt].add(self)
        seq = await super().publish(channel, draft, ttl=ttl, key=key)
        self._filed = max(self._filed, seq)
        return seq

    async def subscribe(self, channels: Collection[str]) -> None:
        await self.bus.wait()
        await self.reach()
        # What is published from now on comes behind this in the line.
        self._subscriptions |= set(channels)
        confirmed = asyncio.Event()
        self.put(confirmed.set)
        while not confirmed.is_set() and self.held:
            await self._moved.wait()

    def unsubscribe(self, channels: Collection[str]) -> None:
        self._subscriptions -= set(channels)

    async def attach(self, hello: Attach) -> Attached:
        await self.bus.wait()
        await self.reach()
        generation, before = self._generation, self._claims.get(hello.page_id)
        attached = await self._claim_page(hello)
        mine = self._claims[hello.page_id] = asyncio.Event()
        try:
            await self.bus.wait()
            await self.reach()
            if before is not None:
                await before.wait()
        finally:
            mine.set()
        if generation != self._generation and attached.claim is Claim.GRANTED and not attached.revoked:
            owner = Owner(hello.document, hello.attempt, repeat=attached.repeat)
            await self.detach(hello.page_id, owner, left=False)
            raise BrokerUnavailable("pub/sub was lost while the page was attaching")
        return attached

    async def _claim_page(self, hello: Attach) -> Attached:
        bus, page_id = self.bus, hello.page_id
        record, there = self._records.get(page_id), bus.where.get(page_id)
        before = record.owner if record is not None and record.attached else None
        begins = self._begins(page_id, hello.document)
        attached = await super().attach(hello)
        if attached.claim is Claim.FORKED:
            bus.forked[hello.document] = (page_id, bus.head.seq)
        elif attached.claim is Claim.GRANTED and not attached.revoked:
            bus.claimed.add(page_id)
            bus.where[page_id] = self
            if before is not None and there is not None and there is not self:
                there.put(lambda: there.node.superseded(page_id, before))
            if begins:
                self._begin(hello)
            if not bus.is_alive(self):
                bus.dead.add(self)
        return attached

    def _begins(self, page_id: str, document: str | None = None) -> bool:
        """Whether a page has no topics but those of its token: it is new, or another document's once it was gone."""
        record = self._records.get(page_id)
        if record is None or record.topics is None:
            return True
        return record.gone and document is not None and not record.owned_by(document)

    def _begin(self, hello: Attach) -> None:
        bus = self.bus
        other, asked = bus.forked.get(hello.document, ("", 0)) if hello.page_id.startswith("fork") else ("", 0)
        if hello.page_id in bus.grants or other not in self._records:
            bus.grants.begin(hello.page_id, hello.topics, bus.head.seq)
        else:
            bus.grants.fork(hello.page_id, other, hello.topics, asked)

    def let_go(self, page_id: str, owner: Owner, left: bool) -> None:
        """The node that has the page has died."""
        _run_at_once(super().detach(page_id, owner, left=left))

    async def read(self, epoch: str, cursors: Mapping[str, int], limit: int) -> Replay[Filed]:
        ask = super().read
        while True:
            generation = self._generation
            found = await self._between(lambda: ask(epoch, cursors, limit))
            if generation == self._generation:
                return found

    async def topics(self, page_id: str) -> dict[str, int] | None:
        ask = super().topics
        return await self._between(lambda: ask(page_id))

    async def set_topics(
        self, page_id: str, rendered: Collection[str], add: Collection[str], remove: Collection[str]
    ) -> dict[str, int]:
        await self.bus.wait()
        await self.reach()
        before, begins, grants = self.bus.head.seq, self._begins(page_id), self.bus.grants
        topics = await super().set_topics(page_id, rendered, add, remove)
        if begins:
            grants.begin(page_id, rendered, before)
        grants.change(page_id, add, remove, before)
        owner = self._records[page_id].owner
        self.bus.joined(page_id, None if owner is None else owner.document)
        await self.bus.wait()
        await self.reach()
        return topics

    async def close_page(self, page_id: str, code: int, reason: str) -> None:
        await self.reach()
        if returns(code) is Return.BACK:
            await super().close_page(page_id, code, reason)
        else:
            self._file(Address.page(page_id).channel, lambda seq: Control("close", seq, code, reason))

    async def pages(self, channel: str) -> list[Presence]:
        await self.reach()
        return [page for node in self.bus.nodes for page in node.node.present(channel)]

    async def claim_send(self, page_id: str, document: str, send_id: int, *, epoch: str | None = None) -> SendClaim:
        ask, bus, send = super().claim_send, self.bus, (page_id, document, send_id)
        while True:
            claim = await self._between(lambda: self._claim(send, lambda: ask(*send, epoch=epoch)))
            runner = bus.runners.get(send)
            if claim.granted or claim.result is not None or runner is self or not bus.is_alive(runner):
                return claim
            await bus.news()

    async def _claim(self, send: tuple[str, str, int], ask: Callable[[], Awaitable[SendClaim]]) -> SendClaim:
        claim = await ask()
        if claim.granted:
            self.bus.runners[send] = self
        return claim

    async def complete_send(self, page_id: str, document: str, send_id: int, result: Message) -> None:
        ask = super().complete_send
        await self._between(lambda: ask(page_id, document, send_id, result))
        self.bus.runners.pop((page_id, document, send_id), None)
        self.bus.tell_news()

    async def answer(self, answer: Answer) -> None:
        await self._between(lambda: self._file_answer(answer))

    async def _file_answer(self, answer: Answer) -> None:
        askers = self.bus.askers.get(answer.receipt)
        if not askers:
            self.node.answered(answer)
        for asker in askers or ():
            asker._answers.append(answer)
            asker.put(asker._take_answers)

    def _take_answers(self) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            self.node.answered(answer)


def _reaching(name: str) -> Callable[..., Awaitable[Any]]:
    ask = getattr(MemoryBroker, name)

    async def call(self: NodeBroker, *args: Any, **options: Any) -> Any:
        await self.reach()
        return await ask(self, *args, **options)

    return call


for _name in CALLS:
    setattr(NodeBroker, _name, _reaching(_name))


class _Everybody:
    """Tells each node what concerns it; `teller`: the one that has found out what is told once."""

    def __init__(self, bus: Bus, teller: NodeBroker | None) -> None:
        self._bus = bus
        self._teller = teller

    def deliver(self, channel: str, message: Filed) -> None:
        for node in tuple(self._bus.nodes):
            node.hand_out(channel, message)

    def ended(self, page_id: str) -> None:
        for node in tuple(self._bus.nodes):
            _put_ended(node, page_id)

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        if self._teller is not None:
            self._teller.node.gone(page_id, session_id, user_id)

    def result_dropped(self) -> None:
        """Which results a bound has cost is not looked at here."""


def _put_ended(node: NodeBroker, page_id: str) -> None:
    node.put(lambda: node.node.ended(page_id))


def _open(gate: asyncio.Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)


def _run_at_once(work: Any) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")
