"""The shipped log, broker, node, page sessions, handler and publisher in virtual time, and browsers around them.

All but HTTP is what an application runs; the time is the world's, also that of the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, TypeVar

import aiohttp_session
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from pagews import Limits, Page, PageGone, Receipt, drain
from pagews.broker import Position
from pagews.errors import CloseCode
from pagews.handler import Context
from pagews.identity import SESSION_ID, SINCE, USER_ID
from pagews.page import PageSession, State
from pagews.page_handler import PageHandler
from pagews.site import SITE_OF_REQUEST
from pagews.socket import Socket
from pagews.targets import Address
from pagews.tokens import Token, Tokens

from .documents import Accepted, BrokenPromise, Document, Line, Link, Ran
from .down_frames import read_down
from .grants import Grants
from .shared_broker import Bus
from .world_process import KEYS, Process

T = TypeVar("T")
Qos = Literal[0, 1, 2]

#: Short bounds, so that a hundred steps reach all of them; and long ones for what is not meant to end by itself here.
BOUNDS: Final[Mapping[str, Any]] = {
    "retention": 6.0,
    "grace": 3.0,
    "heartbeat": 4.0,
    "stuck": 5.0,
    "lease": 2.0,
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

_REQUEST: Final = make_mocked_request("GET", "/pagews/socket")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is told."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class World:
    """Processes on one log, and the browser around them; each method is one thing that can happen.

    Arguments:
        count: how many processes there are. One that is killed is started again at once, as another one.
    """

    def __init__(self, loop: VirtualLoop, count: int) -> None:
        self.loop = loop
        self.limits = Limits(**BOUNDS)
        self.bus = Bus(self.limits, loop.time)
        self.bus.joined = self._joined
        self.tokens = Tokens(KEYS, self.limits.token_life, loop.time)
        self._fork_numbers = itertools.count(1)
        self.processes = [self._new_process() for _ in range(count)]
        self._turns = itertools.count()
        self.accepted: list[Accepted] = []
        self.keys: dict[tuple[str, str], float] = {}
        self.receipts: dict[int, list[tuple[Process, Receipt]]] = defaultdict(list)
        self.ran = Ran()
        self.documents: list[Document] = []
        self.cookie = aiohttp_session.Session(None, data=None, new=True)
        self._visit = _REQUEST.clone()
        with warnings.catch_warnings():
            # aiohttp-session keeps the session in the request under a plain string.
            warnings.simplefilter("ignore", web.NotAppKeyWarning)
            self._visit[aiohttp_session.SESSION_KEY] = self.cookie
        self.rendered: list[Token] = []
        self.page_ids = itertools.count()
        #: What has been revoked: a channel, when, and the number of the log then.
        self.revoked: list[tuple[str, float, int]] = []
        #: What the nodes have told, where.
        self.events: list[tuple[str, str, str, float, Process | None]] = []
        self.closed_pages: set[str] = set()
        #: In which process each link ends.
        self.places: dict[Link, Process] = {}
        #: How often a process was killed, or did not reach the log.
        self.deaths = 0
        #: Set unless delegates take their time.
        self._quick = asyncio.Event()
        self._quick.set()

    @property
    def now(self) -> float:
        return self.loop.now

    def _new_process(self) -> Process:
        return Process(self.bus, self, self.tokens, self._fork_numbers)

    def _process(self) -> Process:
        """One after the other of those that reach the log: whoever comes is sent to any."""
        reachable = [process for process in self.processes if not process.broker.stalled]
        return reachable[next(self._turns) % len(reachable)]

    async def start(self) -> None:
        for process in self.processes:
            await process.broker.start(process.node)
        await self.login("u")
        for index in range(2):
            await self.render(index)

    # --- what the application does ------------------------------------------------------------------------------------

    async def login(self, user: str | None) -> None:
        """The browser logs in, or with None out: its session is another one."""
        request = self._request()
        old = self.cookie.get(SESSION_ID)
        if user is None:
            await self._process().identities.logout(request)
        else:
            await self._process().identities.login(request, user)
        # The world's time, for that of the wall.
        self.cookie[SINCE] = self.now
        if old is not None:
            self._revoked(f"session:{old}")

    async def revoke(self, kind: str) -> None:
        """The application ends the browser's session, or all logins of its user."""
        if kind == "session":
            address = Address.session(self.cookie[SESSION_ID])
            await self._process().publisher.session(address.name).revoke()
        elif USER_ID in self.cookie:
            address = Address.user(self.cookie[USER_ID])
            await self._process().publisher.user(address.name).revoke()
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
        epoch, seq = self._process().broker.head
        page_id = page_id or f"p{next(self.page_ids)}"
        self.rendered[index : index + 1] = [Token(page_id, session_id, user_id, ["t"], epoch, seq, since, self.now)]

    async def push(self, channel: str, size: int, qos: Qos, ttl: float | None = None, key: str | None = None) -> None:
        address = self._address(channel)
        before, process = self.bus.head.seq, self._process()
        receipt = await process.publisher.push(address, "d", "x" * size, qos=qos, ttl=ttl, key=key)
        filed = self.bus.head.seq > before
        if receipt is not None and filed:
            self.receipts[receipt.id].append((process, receipt))
        known = None if key is None else self.keys.get((address.channel, key))
        if known is not None and filed and self.now - known <= self.limits.retention:
            raise BrokenPromise(f"a push with the key {key} was filed again after {self.now - known} s")
        if qos and not filed and known is None:
            raise BrokenPromise("a push was accepted, and not filed")
        if filed:
            self.accepted.append(Accepted(before + 1, address.channel, None if ttl is None else self.now + ttl))
            self.bus.note_head()
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
                if page.id in self.bus.claimed:
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
            process = self._process()
            task = self._page(document, process).create_task(_work_for_ever())
            process.tasks.append((document.page_id, task))

    async def close_page(self, index: int) -> None:
        """The application ends a document's page."""
        document = self._document(index)
        if document is not None:
            self.closed_pages.add(document.page_id)
            await self._process().publisher.close_page(document.page_id, 4600, "enough")

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

    async def connect(self, index: int, place: int | None = None) -> None:
        """A document opens a socket, at a process if that is given."""
        document = self._document(index)
        if document is None:
            return
        await self.cut(index, lose=False)
        process = self._process() if place is None else self.processes[place % len(self.processes)]
        request = self._request()
        request[SITE_OF_REQUEST] = process.site
        # By one that reaches the log: that its own process waits for it is the same as a hello that waits.
        await self._process().identities.load(request)
        wire = Line()
        socket = Socket(PageHandler(), Context(request, {}), wire, process.node.output, process.counters, self.limits)
        link = Link(wire, socket)
        link.up.put_nowait(document.hello())
        process.site.sockets.add(socket, process.site.sockets.admit(request, None))
        link.task = self.loop.create_task(link.serve(1006))
        link.task.add_done_callback(lambda task: process.site.sockets.discard(socket))
        self.places[link] = process
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

    async def slow(self, on: bool) -> None:
        """From now on delegates take their time, or not any more."""
        if on:
            self._quick.clear()
        else:
            self._quick.set()

    async def move_at_work(self, index: int, place: int) -> None:
        """A document moves to another process while a delegate of it runs, and asks for the result there."""
        await self.slow(True)
        await self.send(index, 2)
        await turns(4)
        await self.connect(index, place)
        await turns(4)
        await self.receive(index, 1000)

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
            for process in tuple(self.processes):
                process.node.turn()
            await turns(2)

    async def sleep(self, seconds: int) -> None:
        """The process stands still: time passes, and nobody turns the wheel."""
        self.loop.now += seconds

    async def stepped(self, on: bool) -> None:
        """From now on the broker's answers wait, or do not."""
        self.bus.stepped = on
        if not on:
            self.bus.go_on()

    async def step(self, index: int) -> None:
        self.bus.step(index)

    # --- what happens to processes ------------------------------------------------------------------------------------

    async def hold(self, index: int, *, stall: bool) -> None:
        """A process hears no more of what is published; `stall`: nor does it reach the log, unless it is the last."""
        process = self.processes[index % len(self.processes)]
        others = any(not other.broker.stalled for other in self.processes if other is not process)
        self.deaths += stall
        process.broker.hold(stall=stall and others)

    async def go_on(self, index: int) -> None:
        """All that was held for a process comes."""
        self.processes[index % len(self.processes)].broker.release()

    async def lose_line(self, index: int) -> None:
        """What was held for a process is lost, and it knows."""
        process = self.processes[index % len(self.processes)]
        process.cuts += 1
        process.broker.cut()

    async def kill(self, index: int) -> None:
        """A process ends without a word, and another one is in its place."""
        place = index % len(self.processes)
        process = self.processes[place]
        process.broker.kill()
        self.deaths += 1
        for link, there in self.places.items():
            if there is process:
                link.broken = link.ended = True
        for documents_receipts in self.receipts.values():
            documents_receipts[:] = [pair for pair in documents_receipts if pair[0] is not process]
        self.processes[place] = another = self._new_process()
        await another.broker.start(another.node)

    async def settle(self) -> None:
        """Everything that is under way arrives."""
        await self.stepped(False)
        await self.slow(False)
        for process in self.processes:
            process.broker.release()
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
            if quiet > 2 and all(page.stands(State.LIVE) for _, page in self._pages()):
                return
        raise BrokenPromise("it does not settle")

    # --- what must be true --------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """What must be true at every moment."""
        for process in self.processes:
            if process.counters.failed:
                raise BrokenPromise(f"something failed: {dict(process.counters.failed)}")
            for page_id, page in process.node.pages.items():
                if page_id != page.id or not page.attached:
                    raise BrokenPromise(f"{page_id} is in the table, and is {page.state}")
                knows = process.hears and (page.state is State.LIVE or not process.cuts)
                if knows and not process.cuts:
                    self._check_place(process, page)
                if knows and not self.is_valid(self._named(page.document)):
                    raise BrokenPromise(f"{page_id} is attached, and its identity has ended")
            process.tasks = [(page_id, task) for page_id, task in process.tasks if not task.done()]
            for page_id, task in process.tasks:
                if process.hears and await self.bus.store.is_gone(page_id):
                    raise BrokenPromise(f"{page_id} is gone, and {task} runs for it")
        for page_id in self.bus.ended():
            if await self.bus.store.get_variable(page_id, "kept") is not None:
                raise BrokenPromise(f"{page_id} is gone, and what was kept with it is there")
        for (name, send_id), times in self.ran.times.items():
            if times > 1 and send_id in self._named(name).exactly_once:
                raise BrokenPromise(f"send {send_id} of {name} ran {times} times")

    def _check_place(self, process: Process, page: PageSession) -> None:
        """A page is where its record says."""
        bus = self.bus
        if bus.where.get(page.id, process.broker) is not process.broker:
            raise BrokenPromise(f"{page.id} is attached here, and has moved")
        record = bus.store._records.get(page.id)
        if bus.is_alive(process.broker) and process.broker not in bus.dead and not (record and record.attached):
            raise BrokenPromise(f"{page.id} is attached here, and counts as detached")

    async def finish(self) -> None:
        """In the end every document that is still open comes back, and must have everything or know what it lost."""
        await self.settle()
        if self.deaths:
            # Others find out, and who lives again; nobody waits for the result of a send that a dead one has claimed.
            await self.pass_time(int(self.limits.lease) + 2)
            await self.settle()
        for index, document in enumerate(self.documents):
            await self._come_back(index)
            if not document.welcomed:
                # Its token was refused for its age, and renewed.
                await self._come_back(index)
        head = self.bus.head.seq
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
            receipts = [receipt for _, receipt in self.receipts[receipt_id]]
            names = [ack.value for receipt in receipts for ack in receipt._acks]
            if receipts and receipts[0].channel in listens and document.name not in names:
                raise BrokenPromise(f"the answer of {document.name} to {receipts[0].channel} was not counted")

    def _check_answers(self) -> None:
        for _, receipt in itertools.chain.from_iterable(self.receipts.values()):
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
        draining = [self.loop.create_task(drain(process.site.app)) for process in self.processes]
        await turns(4)
        for number, document in enumerate(open_now):
            if document.links[-1].socket.closed is (number % 2 == 0):
                raise BrokenPromise(f"{document.name} has work under way: {number % 2 == 0}, and is closed or not")
        await self.stepped(False)
        await asyncio.gather(*draining)
        for document in open_now:
            link = document.links[-1]
            for frame in link.frames()[link.read :]:
                document.take(link, read_down(frame.decode()))
            if document.outbox or link.wire.closed is None or link.wire.closed[0] != CloseCode.RESTART:
                raise BrokenPromise(f"{document.name} waits for {document.outbox}, and was closed: {link.wire.closed}")
        await turns(4)
        for process in self.processes:
            if any(not task.done() for _, task in process.tasks):
                raise BrokenPromise(f"tasks of pages outlive the drain: {process.tasks}")

    async def _end_everything(self) -> None:
        for index, document in enumerate(self.documents):
            for link in document.links:
                link.broken = True
            await self.notice(index)
        await turns(6)
        for node in [process.node for process in self.processes]:
            if node.pages:
                raise BrokenPromise(f"pages are left: {node.pages}")
            if node.hub._channels:
                raise BrokenPromise(f"somebody is left in the hub: {node.hub._channels}")
            if node.jobs._inboxes:
                raise BrokenPromise(f"jobs are left: {node.jobs._inboxes}")
        await self.pass_time(30)
        store = self.bus.store
        if store.log_size()[:3] != (0, 0, 0):
            raise BrokenPromise(f"the log keeps {store.log_size()} beyond its retention")
        if store._records or store._variables_size:
            raise BrokenPromise(f"records are left: {store._records}, {store._variables_size} bytes")
        last = {page_id: event for event, page_id, *_ in self.events}
        stays = [page_id for page_id, event in last.items() if event != "gone"]
        if stays:
            raise BrokenPromise(f"gone never came for {stays}")

    # --- what the node tells ------------------------------------------------------------------------------------------

    def attached(self, process: Process, page: PageSession) -> None:
        event, _, name, _, _ = self._last_event(page.id)
        if event == "detached" and name != page.document and not self._named(name).left:
            raise BrokenPromise(f"{page.document} took {page.id} from {name}, which was merely cut")
        self.events.append(("attached", page.id, page.document, self.now, process))

    def detached(self, process: Process, page: PageSession) -> None:
        event, _, _, _, there = self._last_event(page.id)
        # One that has moved is let go here after it has come there.
        if (event, there) == ("attached", process):
            self.events.append(("detached", page.id, page.document, self.now, process))

    def detached_elsewhere(self, process: Process, page_id: str) -> None:
        event, _, name, _, there = self._last_event(page_id)
        if event != "attached" or there is None:
            return  # its process died before it was welcomed, or others were told while it moved
        if there.broker not in self.bus.dead:
            raise BrokenPromise(f"{page_id} was let go, and the process that has it lives")
        self.events.append(("detached", page_id, name, self.now, process))

    def gone(self, process: Process, page_id: str) -> None:
        event, _, name, then, there = self._last_event(page_id)
        is_attached = event == "attached" and there is not None and there.hears
        if is_attached or page_id not in self.bus.claimed:
            raise BrokenPromise(f"{page_id} is gone, and was last {event}")
        self.bus.claimed.discard(page_id)
        wait = self.limits.grace if name and self._named(name).left else self.limits.retention
        if page_id not in self.closed_pages and self.now - then < wait:
            raise BrokenPromise(f"{page_id} is gone after {self.now - then} s")
        self.events.append(("gone", page_id, name, self.now, process))

    def _last_event(self, page_id: str) -> tuple[str, str, str, float, Process | None]:
        none = ("never", page_id, "", 0.0, None)
        return next((event for event in reversed(self.events) if event[1] == page_id), none)

    def _joined(self, page_id: str, owner: str | None) -> None:
        for document in self.documents:
            if document.name == owner and document.page_id == page_id:
                document.topics = self.grants.listens(page_id)

    async def work(self, process: Process, data: list[Any]) -> list[Any]:
        self.ran.note(data[0], data[1])
        await self.bus.wait()
        await self._quick.wait()
        await process.broker.reach()
        return data

    # --- what documents ask -------------------------------------------------------------------------------------------

    @property
    def grants(self) -> Grants:
        return self.bus.grants

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
        if reason == "epoch" or cursor.epoch != self.bus.head.epoch:
            return False
        if self.bus.store.log_size()[3]:
            return True
        return reason == "expired" and self.now - self.bus.issued(cursor.seq) >= self.limits.retention

    # --- helpers ------------------------------------------------------------------------------------------------------

    def ended_at(self, document: Document) -> int | None:
        """The number of the log with which the identity that a document was rendered for has ended."""
        return self._ended_at(*document.identity, document.since)

    def _is_valid(self, session_id: str, user_id: str | None, since: float) -> bool:
        return self._ended_at(session_id, user_id, since) is None

    def _ended_at(self, session_id: str, user_id: str | None, since: float) -> int | None:
        user = None if user_id is None else f"user:{user_id}"
        for channel, then, seq in self.revoked:
            if channel == f"session:{session_id}" or (channel == user and since <= then):
                return seq
        return None

    def _revoked(self, channel: str) -> None:
        self.revoked.append((channel, self.now, self.bus.head.seq))
        for document in self.documents:
            for link in document.links:
                process = self.places[link]
                knows = process.hears and not process.cuts
                if not self.is_valid(document) and knows and _is_attached(link):
                    raise BrokenPromise(f"{document.name} is open, and {channel} has ended")

    def _pages(self) -> list[tuple[Process, PageSession]]:
        return [(process, page) for process in self.processes for page in process.node.pages.values()]

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

    def _page(self, document: Document, process: Process | None = None) -> Page:
        return Page((process or self._process()).publisher, document.page_id, *document.identity, ["t"])

    def _document(self, index: int) -> Document | None:
        """A document that is still open."""
        if not self.documents:
            return None
        document = self.documents[index % len(self.documents)]
        return None if document.closed else document

    def _named(self, name: str) -> Document:
        return self.documents[int(name.rpartition("-")[2])]

    async def _unstepped(self, work: Coroutine[Any, Any, T]) -> T:
        stepped, self.bus.stepped = self.bus.stepped, False
        try:
            return await work
        finally:
            self.bus.stepped = stepped


def _is_attached(link: Link) -> bool:
    return not link.socket.closed and link.socket._context.page is not None


async def _work_for_ever() -> None:
    await asyncio.Event().wait()


async def turns(count: int) -> None:
    """Let the loop do what it has scheduled."""
    for _ in range(count):
        await asyncio.sleep(0)


class Runner:
    """Runs a world in a loop of its own, step by step."""

    def __init__(self, processes: int = 1) -> None:
        self.loop = VirtualLoop()
        self.unseen: list[BaseException] = []
        self.loop.set_exception_handler(self._keep)
        self.world = World(self.loop, processes)
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
        while tasks := asyncio.all_tasks(self.loop):
            # Again: what ends may ask a broker something that does not answer.
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(turns(4))
        self.loop.close()
