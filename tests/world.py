"""The shipped log, broker, node, page sessions, handler and publisher in virtual time, and browsers around them.

All but HTTP is what an application runs; the time is the world's, also that of the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import warnings
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, TypeVar

import aiohttp_session
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from pagews import DelegateTableDef, Limits, MemoryBroker, Page, PageGone, Receipt, drain
from pagews.broker import Answer, Attach, Attached, Filed, Position, SendClaim
from pagews.delegates import Delegates
from pagews.errors import CloseCode
from pagews.handler import Context
from pagews.identity import SESSION_ID, SINCE, USER_ID, CookieStorage, Identities
from pagews.log import Replay
from pagews.node import Node
from pagews.page import Claim, PageSession, State
from pagews.page_handler import PageHandler
from pagews.publisher import Publisher
from pagews.site import SITE, SITE_OF_REQUEST, Site
from pagews.socket import Socket
from pagews.targets import Address
from pagews.tokens import Token, Tokens, new_key
from pagews.wire import Message

from .documents import Accepted, BrokenPromise, Document, Line, Link, Ran
from .down_frames import read_down
from .grants import Grants

T = TypeVar("T")
Qos = Literal[0, 1, 2]

#: Short bounds, so that a hundred steps reach all of them; and long ones for what is not meant to end by itself here.
BOUNDS: Final[Mapping[str, Any]] = {
    "retention": 6.0,
    "grace": 3.0,
    "heartbeat": 4.0,
    "stuck": 5.0,
    "channel_entries": 5,
    "channel_bytes": 700,
    "log_bytes": 2000,
    "high_water": 300,
    "replay_chunk": 150,
    "results_kept": 4,
    "token_life": 40.0,
    "callback": 1e6,
    "hello": 1e6,
}

#: The channels that pushes go to: a page as the browser's number of it, or as the node named it when it forked one.
CHANNELS: Final = ("page:0", "page:1", "page:fork1", "session", "user", "topic:t", "topic:joined")

#: At most so many documents in one world.
DOCUMENTS: Final = 6

_KEYS: Final = [new_key().encode()]
_REQUEST: Final = make_mocked_request("GET", "/pagews/socket")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is told."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class SteppedBroker(MemoryBroker):
    """The embedded broker, whose answers can be made to wait on their way there and on their way back."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        super().__init__(limits, clock=clock, wall=clock)
        self.stepped = False
        self.waiting: list[asyncio.Future[None]] = []
        #: Pages that were claimed since they were gone, if they were.
        self.claimed: set[str] = set()
        #: By page, whether its newest claim was answered: answers come in the order of the claims.
        self._answered: dict[str, asyncio.Event] = {}
        #: Heads of the log, and when it had them.
        self.heads: list[int] = [0]
        self.times: list[float] = [clock()]
        self.grants = Grants()
        #: By document that was told it is forked: from which page, and at which head.
        self._forked: dict[str, tuple[str, int]] = {}
        #: Told of every page whose grants have changed, and of its owner.
        self.joined: Callable[[str, str | None], None]

    async def wait(self) -> None:
        """Wait for a step, if steps are taken."""
        if self.stepped:
            gate = asyncio.get_running_loop().create_future()
            self.waiting.append(gate)
            await gate

    async def _between(self, work: Callable[[], Awaitable[T]]) -> T:
        await self.wait()
        answer = await work()
        await self.wait()
        return answer

    def ended(self) -> list[str]:
        """The pages that are known to have ended."""
        return list(self._gone)

    def step(self, index: int) -> None:
        """Let one that waits go on."""
        if self.waiting:
            gate = self.waiting.pop(index % len(self.waiting))
            if not gate.done():
                gate.set_result(None)

    def note_head(self) -> None:
        self.heads.append(self.position.seq)
        self.times.append(self._clock())

    def issued(self, seq: int) -> float:
        """When a number was given out, or later."""
        return self.times[min(bisect_left(self.heads, seq), len(self.times) - 1)]

    def tick(self) -> None:
        super().tick()
        self.note_head()

    async def subscribe(self, channels: Collection[str]) -> None:
        await self.wait()

    async def attach(self, hello: Attach) -> Attached:
        await self.wait()
        begins = self._begins(hello.page_id, hello.document)
        attached = await super().attach(hello)
        if attached.claim is Claim.FORKED:
            self._forked[hello.document] = (hello.page_id, self.position.seq)
        elif attached.claim is Claim.GRANTED and not attached.revoked:
            self.claimed.add(hello.page_id)
            if begins:
                self._begin(hello)
        before, mine = self._answered.get(hello.page_id), asyncio.Event()
        self._answered[hello.page_id] = mine
        try:
            await self.wait()
            if before is not None:
                await before.wait()
        finally:
            mine.set()
        return attached

    async def read(self, epoch: str, cursors: Mapping[str, int], limit: int) -> Replay[Filed]:
        ask = super().read
        return await self._between(lambda: ask(epoch, cursors, limit))

    async def topics(self, page_id: str) -> dict[str, int] | None:
        ask = super().topics
        return await self._between(lambda: ask(page_id))

    async def set_topics(
        self, page_id: str, rendered: Collection[str], add: Collection[str], remove: Collection[str]
    ) -> dict[str, int]:
        await self.wait()
        before, begins = self.position.seq, self._begins(page_id)
        topics = await super().set_topics(page_id, rendered, add, remove)
        if begins:
            self.grants.begin(page_id, rendered, before)
        self.grants.change(page_id, add, remove, before)
        owner = self._records[page_id].owner
        self.joined(page_id, None if owner is None else owner.document)
        await self.wait()
        return topics

    def _begins(self, page_id: str, document: str | None = None) -> bool:
        """Whether a page has no topics but those of its token: it is new, or another document's once it was gone."""
        record = self._records.get(page_id)
        if record is None or record.topics is None:
            return True
        return record.gone and document is not None and not record.owned_by(document)

    def _begin(self, hello: Attach) -> None:
        other, asked = self._forked.get(hello.document, ("", 0)) if hello.page_id.startswith("fork") else ("", 0)
        if hello.page_id in self.grants or other not in self._records:
            self.grants.begin(hello.page_id, hello.topics, self.position.seq)
        else:
            self.grants.fork(hello.page_id, other, hello.topics, asked)

    async def claim_send(self, page_id: str, document: str, send_id: int, *, epoch: str | None = None) -> SendClaim:
        ask = super().claim_send
        return await self._between(lambda: ask(page_id, document, send_id, epoch=epoch))

    async def complete_send(self, page_id: str, document: str, send_id: int, result: Message) -> None:
        ask = super().complete_send
        await self._between(lambda: ask(page_id, document, send_id, result))

    async def answer(self, answer: Answer) -> None:
        ask = super().answer
        await self._between(lambda: ask(answer))


class World:
    """One node and the browser around it; each method is one thing that can happen."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.limits = Limits(**BOUNDS)
        self.broker = SteppedBroker(self.limits, loop.time)
        self.broker.joined = self._joined
        app = web.Application()
        self.publisher = Publisher(self.broker, limits=self.limits, app=app)
        self.counters = self.publisher.counters
        numbers = itertools.count(1)
        self.node = Node(self.broker, self, self.counters, self.limits, lambda: f"fork{next(numbers)}")
        self.publisher.node = self.node
        self.tokens = Tokens(_KEYS, self.limits.token_life, loop.time)
        self.identities = Identities(CookieStorage(_KEYS), None)
        self.identities.node = self.node
        table = DelegateTableDef()
        table.on("work")(self._work)
        delegates = Delegates(self.counters, self.limits.callback)
        delegates.add(table)
        self.site = Site(
            app=app,
            limits=self.limits,
            counters=self.counters,
            tokens=self.tokens,
            identities=self.identities,
            delegates=delegates,
            publisher=self.publisher,
            node=self.node,
            handler=PageHandler,
            authorize=self._authorize,
            allowed_origins=frozenset(),
            public_prefix=None,
        )
        app[SITE] = self.site
        self.accepted: list[Accepted] = []
        self.keys: dict[tuple[str, str], float] = {}
        self.receipts: dict[int, Receipt] = {}
        self.ran = Ran()
        self.documents: list[Document] = []
        self.cookie = aiohttp_session.Session(None, data=None, new=True)
        self._visit = _REQUEST.clone()
        self._visit[SITE_OF_REQUEST] = self.site
        with warnings.catch_warnings():
            # aiohttp-session keeps the session in the request under a plain string.
            warnings.simplefilter("ignore", web.NotAppKeyWarning)
            self._visit[aiohttp_session.SESSION_KEY] = self.cookie
        self.rendered: list[Token] = []
        self.page_ids = itertools.count()
        #: What has been revoked, by channel, and when.
        self.revoked: dict[str, float] = {}
        self.events: list[tuple[str, str, str, float]] = []
        self.closed_pages: set[str] = set()
        #: What runs for pages, by their ids.
        self.tasks: list[tuple[str, asyncio.Task[None]]] = []

    @property
    def now(self) -> float:
        return self.loop.now

    async def start(self) -> None:
        await self.broker.start(self.node)
        await self.login("u")
        for index in range(2):
            await self.render(index)

    # --- what the application does ------------------------------------------------------------------------------------

    async def login(self, user: str | None) -> None:
        """The browser logs in, or with None out: its session is another one."""
        request = self._request()
        old = self.cookie.get(SESSION_ID)
        if user is None:
            await self.identities.logout(request)
        else:
            await self.identities.login(request, user)
        # The world's time, for that of the wall.
        self.cookie[SINCE] = self.now
        if old is not None:
            self._revoked(f"session:{old}")

    async def revoke(self, kind: str) -> None:
        """The application ends the browser's session, or all logins of its user."""
        if kind == "session":
            address = Address.session(self.cookie[SESSION_ID])
            await self.publisher.session(address.name).revoke()
        elif USER_ID in self.cookie:
            address = Address.user(self.cookie[USER_ID])
            await self.publisher.user(address.name).revoke()
        else:
            return
        self._revoked(address.channel)

    async def render(self, index: int) -> None:
        """The page is rendered anew: documents that open it from now on have the newer cursor."""
        index %= 2
        session_id, user_id, since = self.cookie[SESSION_ID], self.cookie.get(USER_ID), self.cookie[SINCE]
        if not self._is_valid(session_id, user_id, since):
            return
        page_id = None
        if index < len(self.rendered):
            before = self.rendered[index]
            page_id = before.page if (before.session, before.user) == (session_id, user_id) else None
        epoch, seq = self.broker.position
        page_id = page_id or f"p{next(self.page_ids)}"
        self.rendered[index : index + 1] = [Token(page_id, session_id, user_id, ["t"], epoch, seq, since, self.now)]

    async def push(self, channel: str, size: int, qos: Qos, ttl: float | None = None, key: str | None = None) -> None:
        address = self._address(channel)
        before = self.broker.position.seq
        receipt = await self.publisher.push(address, "d", "x" * size, qos=qos, ttl=ttl, key=key)
        if receipt is not None:
            self.receipts[receipt.id] = receipt
        filed = self.broker.position.seq > before
        known = None if key is None else self.keys.get((address.channel, key))
        if known is not None and filed and self.now - known <= self.limits.retention:
            raise BrokenPromise(f"a push with the key {key} was filed again after {self.now - known} s")
        if qos and not filed and known is None:
            raise BrokenPromise("a push was accepted, and not filed")
        if filed:
            self.accepted.append(Accepted(before + 1, address.channel, None if ttl is None else self.now + ttl))
            self.broker.note_head()
            if key is not None:
                self.keys[address.channel, key] = self.now

    async def subscribe(self, index: int, topic: str, *, on: bool) -> None:
        """The application lets a document's page listen to a topic from now on, or no more."""
        document = self._document(index)
        if document is not None:
            page = self._page(document)
            try:
                await self._unstepped(page.subscribe(topic) if on else page.unsubscribe(topic))
            except PageGone as error:
                if page.id in self.broker.claimed:
                    raise BrokenPromise(f"{page.id} is here, and yet nothing can be changed about it") from error

    async def set_variable(self, index: int) -> None:
        """The application keeps something with a document's page."""
        document = self._document(index)
        if document is not None:
            with suppress(PageGone):
                await self._page(document).append("kept", document.name)

    async def create_task(self, index: int) -> None:
        """The application runs something for a document's page, which does not end by itself."""
        document = self._document(index)
        if document is not None:
            task = self._page(document).create_task(_work_for_ever())
            self.tasks.append((document.page_id, task))

    async def close_page(self, index: int) -> None:
        """The application ends a document's page."""
        document = self._document(index)
        if document is not None:
            self.closed_pages.add(document.page_id)
            await self.publisher.close_page(document.page_id, 4600, "enough")

    # --- what browsers and networks do --------------------------------------------------------------------------------

    async def open(self, index: int) -> None:
        """A browser opens a rendered page: a new one, or Back."""
        token = self.rendered[index % 2]
        await self._open(token, Position(token.epoch, token.seq))

    async def duplicate(self, index: int) -> None:
        """A browser duplicates a tab."""
        document = self._document(index)
        if document is not None:
            await self._open(self.read_token(document.token), document.rendered)

    async def _open(self, token: Token, rendered: Position) -> None:
        if len(self.documents) >= DOCUMENTS:
            return
        name = f"document-{len(self.documents):08}"
        text, identity = self.tokens.write(token), (token.session, token.user)
        self.documents.append(Document(self, name, text, token.page, rendered, identity, token.since))
        await self.connect(len(self.documents) - 1)

    async def connect(self, index: int) -> None:
        document = self._document(index)
        if document is None:
            return
        await self.cut(index, lose=False)
        request = self._request()
        await self.identities.load(request)
        wire = Line()
        socket = Socket(PageHandler(), Context(request, {}), wire, self.node.output, self.counters, self.limits)
        link = Link(wire, socket)
        link.up.put_nowait(document.hello())
        self.site.sockets.add(socket)
        link.task = self.loop.create_task(link.serve(1006))
        link.task.add_done_callback(lambda task: self.site.sockets.discard(socket))
        document.links.append(link)

    async def receive(self, index: int, count: int) -> None:
        """The browser takes some frames of its newest socket."""
        document = self._document(index)
        if document is None or document.link is None:
            return
        link = document.link
        waiting = link.frames()[link.read :][:count]
        for frame in waiting:
            link.read += 1
            document.take(link, read_down(frame.decode()))
        if link.wire.closed is not None and link.read == len(link.frames()):
            document.ended_by(link.wire.closed[0], valid=self.is_valid(document))

    async def send(self, index: int, qos: Qos) -> None:
        """A document sends something to the server's delegate."""
        document = self._document(index)
        if document is not None:
            document.send(qos)

    async def join(self, index: int, kind: str) -> None:
        """A document asks to listen to a topic, or to do so no more."""
        document = self._document(index)
        if document is not None:
            document.sends += 1
            document.request([kind, document.sends, "joined"])

    async def lie(self, index: int) -> None:
        """A document answers questions that it was never asked."""
        document = self._document(index)
        if document is not None:
            for receipt in tuple(self.receipts):
                if receipt not in document.answers:
                    document.write(["ack", receipt, True, document.name])

    async def cut(self, index: int, *, lose: bool) -> None:
        """The link breaks, and the server has not noticed; `lose`: also what the browser had written."""
        document = self._document(index)
        if document is not None and document.link is not None:
            link = document.link
            link.broken = True
            while lose and not link.up.empty():
                link.up.get_nowait()

    async def notice(self, index: int) -> None:
        """The server notices that sockets of a document have ended."""
        for link in self.documents[index % len(self.documents)].links:
            if (link.broken or link.socket.closed) and not link.ended:
                link.ended = True
                link.up.put_nowait(None)

    async def leave(self, index: int) -> None:
        """The document says goodbye, and does not come back."""
        document = self._document(index)
        if document is not None and document.write(["bye"]):
            document.left = document.closed = document.links[-1].broken = True

    async def fill(self, index: int) -> None:
        """The browser reads no more."""
        document = self._document(index)
        if document is not None and document.link is not None:
            document.link.wire.fill(self.limits.high_water + 1)

    async def release(self, index: int) -> None:
        for link in self.documents[index % len(self.documents)].links:
            link.wire.release()

    # --- time and order -----------------------------------------------------------------------------------------------

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.loop.now += 1.0
            self.node.turn()
            await turns(2)

    async def sleep(self, seconds: int) -> None:
        """The process stands still: time passes, and nobody turns the wheel."""
        self.loop.now += seconds

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
        quiet = 0
        for _ in range(200):
            await turns(6)
            quiet += 1
            for index, document in enumerate(self.documents):
                await self.notice(index)
                for link in document.links:
                    link.wire.release()
                link = document.links[-1]
                if document.link is not None and (len(link.frames()) > link.read or link.wire.closed is not None):
                    await self.receive(index, 1000)
                    quiet = 0
            if quiet > 2 and all(page.stands(State.LIVE) for page in self.node.pages.values()):
                return
        raise BrokenPromise("it does not settle")

    # --- what must be true --------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """What must be true at every moment."""
        if self.counters.failed:
            raise BrokenPromise(f"something failed: {dict(self.counters.failed)}")
        for page_id, page in self.node.pages.items():
            if page_id != page.id or not page.attached:
                raise BrokenPromise(f"{page_id} is in the table, and is {page.state}")
            if not self.is_valid(self._named(page.document)):
                raise BrokenPromise(f"{page_id} is attached, and its identity has ended")
        for page_id in self.broker.ended():
            if await self.broker.get_variable(page_id, "kept") is not None:
                raise BrokenPromise(f"{page_id} is gone, and what was kept with it is there")
        self.tasks = [(page_id, task) for page_id, task in self.tasks if not task.done()]
        for page_id, task in self.tasks:
            if await self.broker.is_gone(page_id):
                raise BrokenPromise(f"{page_id} is gone, and {task} runs for it")
        for (name, send_id), times in self.ran.times.items():
            if times > 1 and send_id in self._named(name).exactly_once:
                raise BrokenPromise(f"send {send_id} of {name} ran {times} times")

    async def finish(self) -> None:
        """In the end every document that is still open comes back, and must have everything or know what it lost."""
        await self.settle()
        for index, document in enumerate(self.documents):
            await self._come_back(index)
            if not document.welcomed:
                # Its token was refused for its age, and renewed.
                await self._come_back(index)
        head = self.broker.position.seq
        for document in self.documents:
            if not document.closed:
                self._check_complete(document, head)
        self._check_answers()
        await self._drain()
        await self._end_everything()

    async def _come_back(self, index: int) -> None:
        if self._document(index) is not None:
            await self.connect(index)
            await self.settle()

    def _check_complete(self, document: Document, head: int) -> None:
        if not document.welcomed:
            raise BrokenPromise(f"{document.name} is open, and cannot come back")
        missing = document.due(head)
        if missing:
            raise BrokenPromise(f"{document.name} is live, and was never shown {missing}, nor told lost")
        if document.outbox or document.unconfirmed:
            raise BrokenPromise(f"{document.name} waits for {document.outbox} and {document.unconfirmed}")
        listens = document.channels().keys() - {"topic:joined"}
        for receipt_id in document.answers:
            receipt = self.receipts[receipt_id]
            if receipt.channel in listens and document.name not in [ack.value for ack in receipt._acks]:
                raise BrokenPromise(f"the answer of {document.name} to {receipt.channel} was not counted")

    def _check_answers(self) -> None:
        for receipt in self.receipts.values():
            names = [ack.value for ack in receipt._acks]
            if len(names) != len(set(names)):
                raise BrokenPromise(f"an answer counts twice: {names}")
            for name in names:
                document = self._named(name)
                kind, _, page_id = receipt.channel.partition(":")
                if receipt.id not in document.answers and kind == "page" and page_id not in document.pages:
                    raise BrokenPromise(f"{name} answered for {receipt.channel}")

    async def _drain(self) -> None:
        """The process is about to stop: what runs for open pages ends first, and then they are sent away."""
        open_now = [document for document in self.documents if not document.closed]
        await self.stepped(True)
        for document in open_now[::2]:
            document.send(2)
        await turns(4)
        draining = self.loop.create_task(drain(self.site.app))
        await turns(4)
        for number, document in enumerate(open_now):
            if document.links[-1].socket.closed is (number % 2 == 0):
                raise BrokenPromise(f"{document.name} has work under way: {number % 2 == 0}, and is closed or not")
        await self.stepped(False)
        await draining
        for document in open_now:
            link = document.links[-1]
            for frame in link.frames()[link.read :]:
                document.take(link, read_down(frame.decode()))
            if document.outbox or link.wire.closed is None or link.wire.closed[0] != CloseCode.RESTART:
                raise BrokenPromise(f"{document.name} waits for {document.outbox}, and was closed: {link.wire.closed}")
        await turns(4)
        if any(not task.done() for _, task in self.tasks):
            raise BrokenPromise(f"tasks of pages outlive the drain: {self.tasks}")

    async def _end_everything(self) -> None:
        for index, document in enumerate(self.documents):
            for link in document.links:
                link.broken = True
            await self.notice(index)
        await turns(6)
        if self.node.pages:
            raise BrokenPromise(f"pages are left: {self.node.pages}")
        if self.node.hub._channels:
            raise BrokenPromise(f"somebody is left in the hub: {self.node.hub._channels}")
        await self.pass_time(30)
        if self.broker.log_size()[:3] != (0, 0, 0):
            raise BrokenPromise(f"the log keeps {self.broker.log_size()} beyond its retention")
        if self.broker._records or self.node.jobs._inboxes or self.broker._variables_size:
            raise BrokenPromise(f"records are left: {self.broker._records} {self.node.jobs._inboxes}")
        last = {page_id: event for event, page_id, _, _ in self.events}
        stays = [page_id for page_id, event in last.items() if event != "gone"]
        if stays:
            raise BrokenPromise(f"gone never came for {stays}")

    # --- what the node tells ------------------------------------------------------------------------------------------

    def attached(self, page: PageSession) -> None:
        self.publisher.attached(page)
        event, _, name, _ = self._last_event(page.id)
        if event == "detached" and name != page.document and not self._named(name).left:
            raise BrokenPromise(f"{page.document} took {page.id} from {name}, which was merely cut")
        self.events.append(("attached", page.id, page.document, self.now))

    def detached(self, page: PageSession) -> None:
        self.publisher.detached(page)
        self.events.append(("detached", page.id, page.document, self.now))

    def detached_elsewhere(self, page_id: str, session_id: str, user_id: str | None) -> None:
        raise BrokenPromise(f"{page_id} was attached elsewhere: there is one node")

    def ended(self, page_id: str) -> None:
        self.publisher.ended(page_id)

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self.publisher.gone(page_id, session_id, user_id)
        event, _, name, then = self._last_event(page_id)
        if event == "attached" or page_id not in self.broker.claimed:
            raise BrokenPromise(f"{page_id} is gone, and was last {event}")
        self.broker.claimed.discard(page_id)
        wait = self.limits.grace if name and self._named(name).left else self.limits.retention
        if page_id not in self.closed_pages and self.now - then < wait:
            raise BrokenPromise(f"{page_id} is gone after {self.now - then} s")
        self.events.append(("gone", page_id, name, self.now))

    def _last_event(self, page_id: str) -> tuple[str, str, str, float]:
        return next((event for event in reversed(self.events) if event[1] == page_id), ("never", page_id, "", 0.0))

    def answered(self, answer: Answer) -> None:
        self.publisher.answered(answer)

    def _joined(self, page_id: str, owner: str | None) -> None:
        for document in self.documents:
            if document.name == owner and document.page_id == page_id:
                document.topics = self.grants.listens(page_id)

    async def _work(self, page: Page, data: list[Any]) -> list[Any]:
        self.ran.note(data[0], data[1])
        await self.broker.wait()
        return data

    async def _authorize(self, page: Page, topic: str) -> bool:
        return True

    # --- what documents ask -------------------------------------------------------------------------------------------

    @property
    def grants(self) -> Grants:
        return self.broker.grants

    def read_token(self, text: str) -> Token:
        token = self.tokens.read(text, expired=True)
        assert token is not None
        return token

    def renew(self, document: Document) -> bool:
        if not self.is_valid(document):
            return False
        document.token = self.tokens.renewed(self.read_token(document.token))
        return True

    def is_valid(self, document: Document) -> bool:
        """Whether the browser still has the identity that the document was rendered for."""
        here = (self.cookie[SESSION_ID], self.cookie.get(USER_ID))
        return document.identity == here and self._is_valid(*document.identity, document.since)

    def may_be_lost(self, reason: str, cursor: Position) -> bool:
        if reason == "epoch" or cursor.epoch != self.broker.position.epoch:
            return False
        if self.broker.log_size()[3]:
            return True
        return reason == "expired" and self.now - self.broker.issued(cursor.seq) >= self.limits.retention

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _is_valid(self, session_id: str, user_id: str | None, since: float) -> bool:
        if f"session:{session_id}" in self.revoked:
            return False
        return user_id is None or since > self.revoked.get(f"user:{user_id}", 0.0)

    def _revoked(self, channel: str) -> None:
        self.revoked[channel] = self.now
        for document in self.documents:
            for link in document.links:
                if not self.is_valid(document) and not link.socket.closed and link.socket._context.page is not None:
                    raise BrokenPromise(f"{document.name} is open, and {channel} has ended")

    def _request(self) -> web.Request:
        return self._visit.clone()

    def _address(self, channel: str) -> Address:
        kind, _, name = channel.partition(":")
        if kind == "session":
            return Address.session(self.cookie[SESSION_ID])
        if kind == "user":
            return Address.user("u")
        if kind == "topic":
            return Address.topic(name)
        return Address.page(self.rendered[int(name)].page if name.isdecimal() else name)

    def _page(self, document: Document) -> Page:
        return Page(self.publisher, document.page_id, *document.identity, ["t"])

    def _document(self, index: int) -> Document | None:
        """A document that is still open."""
        if not self.documents:
            return None
        document = self.documents[index % len(self.documents)]
        return None if document.closed else document

    def _named(self, name: str) -> Document:
        return self.documents[int(name.rpartition("-")[2])]

    async def _unstepped(self, work: Coroutine[Any, Any, T]) -> T:
        stepped, self.broker.stepped = self.broker.stepped, False
        try:
            return await work
        finally:
            self.broker.stepped = stepped


async def _work_for_ever() -> None:
    await asyncio.Event().wait()


async def turns(count: int) -> None:
    """Let the loop do what it has scheduled."""
    for _ in range(count):
        await asyncio.sleep(0)


class Runner:
    """Runs a world in a loop of its own, step by step."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.unseen: list[BaseException] = []
        self.loop.set_exception_handler(self._keep)
        self.world = World(self.loop)
        self.run(self.world.start())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def step() -> None:
            await work
            await turns(4)
            await self.world.check()

        self.loop.run_until_complete(step())
        if self.unseen:
            raise self.unseen[0]

    def _keep(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback of the loop or a task that nobody waits for raises is no less broken."""
        self.unseen.append(context.get("exception") or BrokenPromise(context["message"]))

    def close(self) -> None:
        """End what is under way."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()
