"""One process: its attached pages between the broker and their sockets.

Attaching, resuming, catching up after a lag and joining a topic are one operation: read on from the cursor, then go
live.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple, Protocol

from . import wire
from .broker import Answer, Attach, Attached, Broker, Control, Filed, Position, Presence, is_revoked
from .counters import Counters
from .errors import BrokerUnavailable, CloseCode, ProtocolError, Return, returns
from .heartbeat import Heartbeat
from .hub import Hub
from .limits import Limits
from .log import Replay
from .page import Claim, Event, Owner, PageSession, State
from .page_jobs import PageJobs
from .page_tasks import PageTasks
from .private import private
from .socket import Output, Socket
from .targets import Address
from .wire import Push, Text

logger = logging.getLogger("pagews")

#: Seconds between two turns of the heartbeat, and two ticks of the log.
TURN: Final = 1.0
#: Pages that attach or read on at the same time.
READS: Final = 8


@private
class Arrival(NamedTuple):
    """Who says hello, from its token and its hello. `topics`: to what, each with the number since when."""

    page_id: str
    session_id: str
    user_id: str | None
    topics: Mapping[str, int]
    since: float
    document: str
    attempt: int
    cursor: Position


class Welcome(NamedTuple):
    """A granted hello: the page session, still holding, and what its first read found."""

    page: PageSession
    forked: bool
    replay: Replay[Filed]


class Observer(Protocol):
    """What the node tells the application's side."""

    def attached(self, page: PageSession) -> None:
        """A page has a socket now."""

    def detached(self, page: PageSession) -> None:
        """A page has none any more."""

    def detached_elsewhere(self, page_id: str, session_id: str, user_id: str | None) -> None:
        """The process that a page was attached to has died; told in one process only."""

    def ended(self, page_id: str) -> None:
        """A page has ended; told in every process."""

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        """A page that was once attached has ended; told in one process only."""

    def answered(self, answer: Answer) -> None:
        """A page has answered a push with a receipt."""


class Node:
    """The pages that are attached to this process.

    Arguments:
        new_page_id: makes the id of a forked page.
    """

    def __init__(
        self, broker: Broker, observer: Observer, counters: Counters, limits: Limits, new_page_id: Callable[[], str]
    ) -> None:
        self.broker = broker
        self.counters = counters
        self.limits = limits
        self.output = Output(limits.callback)
        self.hub = Hub(counters)
        self.pages: dict[str, PageSession] = {}
        self.draining = False
        self.jobs = PageJobs(self.pages, counters, limits)
        self.tasks = PageTasks(broker, counters, limits.drain_grace)
        self._observer = observer
        self._new_page_id = new_page_id
        self._turn = min(TURN, limits.heartbeat / 4)
        self._heartbeat = Heartbeat(round(limits.heartbeat / self._turn))
        self._reads = asyncio.Semaphore(READS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to hear from the broker, and to ping."""
        await self.broker.start(self)
        self._beating = asyncio.create_task(self._beat())

    def return_later(self) -> str:
        """The reason of a restart: asks a page to come back after a delay that spreads the returns."""
        return f"the server restarts; retry={random.uniform(0, self.limits.drain_window):.2f}"

    async def stop(self) -> None:
        """Send the pages away to come back, end what runs, and leave the broker."""
        self.draining = True
        for page in tuple(self.pages.values()):
            self._end(page, CloseCode.RESTART, self.return_later())
        self.tasks.close()
        await self.jobs.stop()
        await self.tasks.wait_closed()
        tasks = [*self._tasks, *([self._beating] if self._beating else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.broker.stop()

    # --- attach and detach --------------------------------------------------------------------------------------------

    async def attach(self, arrival: Arrival, socket: Socket, *, forked: bool = False) -> Welcome:
        """Rule 11: into the hub, holding; subscribe; one atomic step at the broker. The caller sends the welcome, and
        then calls `go`.

        Raises:
            ProtocolError: superseded, or its identity has ended; with the close code.
        """
        page = self._session(arrival, dict(arrival.topics), socket)
        channels = page.cursors()
        self.hub.listen(page, channels)
        try:
            await self.broker.subscribe(channels)
            # When a crowd comes back, nothing else must wait behind all that it has missed.
            async with self._reads:
                _check_holding(page)
                attached = await self.broker.attach(self._attach(page, arrival.cursor, arrival.topics))
            if attached.revoked:
                raise ProtocolError("the session has ended", CloseCode.IDENTITY)
            if attached.claim is Claim.SUPERSEDED:
                raise ProtocolError("a newer socket of this document is here", CloseCode.SUPERSEDED)
        except BaseException:
            self._leave_hub(page)
            raise
        if attached.claim is Claim.FORKED:
            self._leave_hub(page)
            return await self._fork(arrival, socket)
        try:
            replay = await self._take_over(page, attached)
        except BaseException:
            self._leave_hub(page)
            # It was claimed, and will not be welcomed: nobody else would ever detach it.
            await self.detach(page, left=False)
            raise
        return Welcome(page, forked, replay)

    async def _fork(self, arrival: Arrival, socket: Socket) -> Welcome:
        """Rule 17: a page of its own, which listens to what the other does, and no longer than that has."""
        recorded = await self.broker.topics(arrival.page_id)
        topics = arrival.topics if recorded is None else recorded
        other = arrival._replace(page_id=self._new_page_id(), topics=topics)
        return await self.attach(other, socket, forked=True)

    async def _take_over(self, page: PageSession, attached: Attached) -> Replay[Filed]:
        """A page has been claimed: put it into the place of an older socket; returns what is to be replayed."""
        page.repeat = attached.repeat
        _check_holding(page)
        self._replace(page)
        # The record was read in the same step: what it was told about itself by then is in it already.
        rest: list[Filed] = [
            message for message in attached.replay.messages if isinstance(message, Push) or message.kind == "unreadable"
        ]
        replay = attached.replay._replace(messages=rest)
        epoch = self.broker.position.epoch
        if await self._set_topics(page, attached.topics):
            async with self._reads:
                replay = await self.broker.read(page.epoch, page.cursors(), self.limits.replay_chunk)
        _check_holding(page)
        if self.broker.position.epoch != epoch:
            raise ProtocolError(self.return_later(), CloseCode.RESTART)  # it was claimed in a log that is gone
        return replay

    def go(self, page: PageSession, replay: Replay[Filed]) -> None:
        """The welcome has been written: replay, hand over what was held, and go live."""
        if page.state is not State.HOLDING:
            return
        page.happened(Event.WELCOMED)
        self._heartbeat.add(page)
        page.socket.on_pressure = partial(self._lag, page)
        if replay.lost is not None:
            self.counters.lost[replay.lost] += 1
            page.epoch, page.position = self.broker.position.epoch, replay.upto
        if not page.told:
            page.told = True
            self._observer.attached(page)
        if not self._write_replay(page, replay):
            self._spawn(page, self._catch_up)

    def welcome(
        self, page: PageSession, replay: Replay[Filed], *, forked: bool = False, token: str | None = None
    ) -> Text:
        """What a page is told about its cursor."""
        lost = replay.lost
        return wire.welcome(
            page=page.id,
            epoch=page.epoch if lost is None else self.broker.position.epoch,
            seq=page.position if lost is None else replay.upto,
            resumed=lost is None,
            lost=lost,
            forked=forked,
            heartbeat=self.limits.heartbeat,
            token=token,
            message_limit=self.limits.message_up,
        )

    async def detach(self, page: PageSession, *, left: bool) -> None:
        """The socket of `page` has ended; `left`: its document said goodbye."""
        if page.attached:
            self._remove(page, Event.BYE if left else Event.CUT)
        # Also when the server ended it: only now is it certain that nothing comes from it any more.
        await self.broker.detach(page.id, page.owner, left=left)

    async def end_page(self, page_id: str, code: int, reason: str) -> None:
        """The page is over, wherever it is."""
        await self.broker.close_page(page_id, code, reason)
        await self.broker.end(page_id)

    async def revoke(self, channel: str) -> None:
        """End a browser session, or all sessions that a user has now.

        Raises:
            BrokerUnavailable: only the pages of this process have been closed (rule 22).
        """
        try:
            await self.broker.revoke(channel)
        except BrokerUnavailable:
            self.deliver(channel, Control("revoked", 0))
            raise

    # --- visits: what a page sends by other ways than its socket ------------------------------------------------------

    async def visit(self, arrival: Arrival) -> PageSession:
        """The page that a document speaks for without attaching it: the attached one if it is here, else one that is
        in neither hub nor heartbeat.

        Raises:
            ProtocolError: the document does not have the page; with the close code.
        """
        owner = await self.broker.owner(arrival.page_id)
        if owner is None:
            raise ProtocolError("the page is not known here: attach it first", CloseCode.RESTART)
        if owner.document != arrival.document:
            raise ProtocolError("another document has this page", CloseCode.SUPERSEDED)
        page = self.pages.get(arrival.page_id)
        if page is not None and page.document == arrival.document:
            return page
        topics = await self.broker.topics(arrival.page_id)
        return self._session(arrival, dict(arrival.topics) if topics is None else topics, None)

    async def leave(self, page: PageSession) -> None:
        """The document of `page` has said goodbye by another way than its socket."""
        attached = self.pages.get(page.id)
        if attached is not None and attached.document == page.document:
            attached.socket.end(CloseCode.NORMAL, "goodbye")
            self._remove(attached, Event.BYE)
        owner = await self.broker.owner(page.id)
        if owner is not None and owner.document == page.document:
            await self.broker.detach(page.id, owner, left=True)

    # --- hub and heartbeat --------------------------------------------------------------------------------------------

    def _session(self, arrival: Arrival, topics: dict[str, int], socket: Socket | None) -> PageSession:
        return PageSession(
            arrival.page_id,
            session_id=arrival.session_id,
            user_id=arrival.user_id,
            topics=topics,
            document=arrival.document,
            attempt=arrival.attempt,
            epoch=arrival.cursor.epoch,
            position=arrival.cursor.seq,
            since=arrival.since,
            held_limit=self.limits.high_water,
            socket=socket,
        )

    def _replace(self, page: PageSession) -> None:
        # Rule 15: the old socket leaves hub and heartbeat in one step, before the new one is welcomed.
        previous = self.pages.get(page.id)
        if previous is not None:
            previous.socket.end(CloseCode.SUPERSEDED, "a newer socket of this page is here")
            if previous.document == page.document:
                # To the application it has been attached all the time.
                page.told, previous.told = previous.told, False
            self._remove(previous, Event.CUT)
        self.pages[page.id] = page

    def _remove(self, page: PageSession, event: Event) -> None:
        page.happened(event)
        if page.task is not None and page.task is not asyncio.current_task():
            page.task.cancel()
        self._heartbeat.remove(page)
        self._leave_hub(page)
        if self.pages.get(page.id) is page:
            del self.pages[page.id]
        if page.told:
            page.told = False
            self._observer.detached(page)

    def _leave_hub(self, page: PageSession) -> None:
        unused = self.hub.forget(page, page.cursors())
        if unused:
            self.broker.unsubscribe(unused)

    def _end(self, page: PageSession, code: int, reason: str) -> None:
        page.socket.end(code, reason)
        if page.attached:
            self._remove(page, Event.CUT)

    # --- from the broker ----------------------------------------------------------------------------------------------

    def deliver(self, channel: str, message: Filed) -> None:
        """The broker has something on a channel."""
        if isinstance(message, Push):
            self.hub.deliver(channel, message)
            return
        # In the hub are those too whose hello is being answered.
        for page in self.hub.listeners(channel):
            self._control(page, message)

    def _control(self, page: PageSession, message: Control) -> None:
        if message.kind == "revoked":
            self._end(page, CloseCode.IDENTITY, "the session has ended")
        elif message.kind == "topics":
            self._learn_topics(page)
        elif message.kind != "close":
            self.counters.refused["log entry"] += 1
        elif returns(message.code) is not Return.BACK:
            self._end(page, message.code, message.reason)
        elif self.pages.get(page.id) is page:
            page.socket.close(message.code, message.reason)

    def interrupted(self) -> None:
        """The broker may have missed something: every page reads on from its cursor (rule 13)."""
        for page in self.hub.pages():
            was_live = page.state is State.LIVE
            page.read_again()
            if was_live:
                self._spawn(page, self._catch_up)
        self.tasks.look_again()

    def superseded(self, page_id: str, owner: Owner) -> None:
        """A page has moved to another process."""
        for page in self.hub.listeners(Address.page(page_id).channel):
            # One whose hello is being answered does not know yet how often its attempt has come.
            is_same = (page.document, page.attempt) == owner[:2]
            if page.owner.is_claim_of(owner) or (is_same and page.state is State.HOLDING):
                self._end(page, CloseCode.SUPERSEDED, "a newer socket of this page is elsewhere")

    def counted_as_dead(self) -> None:
        """Others have let go of the pages of this process: those that are here after all attach anew."""
        for page in tuple(self.pages.values()):
            self._end(page, CloseCode.RESTART, self.return_later())

    def detached(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self._observer.detached_elsewhere(page_id, session_id, user_id)

    def present(self, channel: str) -> list[Presence]:
        return [
            Presence(page.id, page.session_id, page.user_id, page.topics)
            for page in self.hub.listeners(channel)
            if self.pages.get(page.id) is page
        ]

    def answered(self, answer: Answer) -> None:
        self._observer.answered(answer)

    def ended(self, page_id: str) -> None:
        self.tasks.end(page_id)
        self._observer.ended(page_id)

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        self._observer.gone(page_id, session_id, user_id)

    def result_dropped(self) -> None:
        self.counters.dropped["results"] += 1

    # --- reading on ---------------------------------------------------------------------------------------------------

    def _write_replay(self, page: PageSession, replay: Replay[Filed]) -> bool:
        """Write what a read has found; True when the page is live then."""
        for message in replay.messages:
            if not page.replayed(message.seq):
                continue
            if isinstance(message, Push):
                self.counters.replayed += 1
                self.counters.delivered += 1
                page.socket.send_info(message)
            elif message.kind == "topics" or message.kind == "revoked":
                # Rule 21: what comes behind it was read without the topics that it announces. Rule 22: or after its
                # identity has ended.
                page.relearn = True
                return False
            else:
                self._control(page, message)
                if message.kind == "close":
                    return True
        page.position = max(page.position, replay.upto)
        if page.state is not State.REPLAYING:
            return True  # its socket ended, or is full: whoever sees to that reads on
        if replay.more or page.overflowed or page.relearn:
            return False
        for push in page.release():
            self.counters.delivered += 1
            page.socket.send_info(push)
        return True

    async def _catch_up(self, page: PageSession) -> None:
        while _reads_on(page):
            await page.socket.drained()
            if not _reads_on(page):
                return
            try:
                if page.relearn:
                    await self._relearn(page)
                if page.overflowed:
                    page.clear_held()
                # When all read at once, pushes must not wait behind all of them.
                async with self._reads:
                    replay = await self.broker.read(page.epoch, page.cursors(), self.limits.replay_chunk)
                    if replay.lost is not None and _reads_on(page):
                        replay = await self._begin_anew(page, replay)
            except BrokerUnavailable:
                await asyncio.sleep(self._turn)  # it stays attached, and reads on when the broker is back
                continue
            if not _reads_on(page):
                return
            if replay.lost is None and self._write_replay(page, replay):
                return

    async def _begin_anew(self, page: PageSession, replay: Replay[Filed]) -> Replay[Filed]:
        """The log does not reach back to the cursor of an attached page: claim it in the log as it is now, and tell it.

        (A new epoch may know nothing of it, nor of its topics, and it may have missed that its identity has ended.)
        """
        cursor = Position(self.broker.position.epoch, replay.upto)
        topics = dict.fromkeys(page.topics, 0)
        attached = await self.broker.attach(self._attach(page, cursor, topics))
        page.repeat = attached.repeat
        if not _reads_on(page):
            return attached.replay
        if attached.revoked:
            self._end(page, CloseCode.IDENTITY, "the session has ended")
        elif attached.claim is not Claim.GRANTED:
            self._end(page, CloseCode.SUPERSEDED, "another socket has this page")
        elif replay.lost == "epoch":
            # What it has sent with qos 2 and is still under way may not run in an epoch that does not know of it: it
            # comes back, and is told on a socket on which nothing is under way (rule 25).
            self._end(page, CloseCode.RESTART, self.return_later())
        else:
            # Rule 7: what an earlier welcome said is taken back on the live socket.
            self.counters.lost[replay.lost or ""] += 1
            page.socket.send(self.welcome(page, replay))
            page.epoch, page.position = cursor
            if await self._set_topics(page, attached.topics):
                page.overflowed = True
        return attached.replay

    def _attach(self, page: PageSession, cursor: Position, topics: Mapping[str, int]) -> Attach:
        return Attach(
            page.id,
            page.session_id,
            page.user_id,
            page.document,
            page.attempt,
            cursor,
            topics,
            page.since,
            self.limits.replay_chunk,
        )

    async def _relearn(self, page: PageSession) -> None:
        page.relearn = False
        learned = False
        try:
            if await is_revoked(self.broker, page.session_id, page.user_id, page.since):
                self._end(page, CloseCode.IDENTITY, "the session has ended")
            topics = await self.broker.topics(page.id)
            if _reads_on(page):
                # An attached page has a record, but in a log that has lost it: the read finds out, and needs these.
                if topics is not None:
                    await self._set_topics(page, topics)
                learned = True
        finally:
            # Stopped in between: whoever reads on next must ask anew.
            page.relearn = page.relearn or not learned

    def _lag(self, page: PageSession) -> None:
        if page.state is not State.LIVE and page.state is not State.REPLAYING:
            return
        page.happened(Event.LAGGED)
        page.clear_held()
        self.counters.dropped["lagged"] += 1
        self._spawn(page, self._recover)

    async def _recover(self, page: PageSession) -> None:
        try:
            await page.socket.drained()
        except TimeoutError:
            self._end(page, CloseCode.TOO_SLOW, "the reader is too slow")
            return
        if page.state is State.LAGGING:
            page.happened(Event.DRAINED)
            await self._catch_up(page)

    def _learn_topics(self, page: PageSession) -> None:
        page.relearn = True
        if page.state is State.LIVE:
            page.happened(Event.REREAD)
            self._spawn(page, self._catch_up)

    async def _set_topics(self, page: PageSession, topics: dict[str, int]) -> bool:
        """Let `page` listen to `topics`; True when they are others than before, and must be read. (What was held for
        those before is below the end of that read.)
        """
        if topics == page.topics:
            return False
        before = page.cursors()
        page.topics = topics
        after = page.cursors()
        unused = self.hub.forget(page, before.keys() - after.keys())
        if unused:
            self.broker.unsubscribe(unused)
        new = after.keys() - before.keys()
        self.hub.listen(page, new)
        if new:
            await self.broker.subscribe(new)
        return True

    def _spawn(self, page: PageSession, work: Callable[[PageSession], Awaitable[None]]) -> None:
        if page.task is not None and page.task is not asyncio.current_task():
            page.task.cancel()
        task = page.task = asyncio.create_task(self._guard(page, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, page: PageSession, work: Callable[[PageSession], Awaitable[None]]) -> None:
        try:
            await work(page)
        except (ConnectionError, TimeoutError):
            page.socket.end(CloseCode.TOO_SLOW, "the reader is too slow")
        except Exception:  # whatever a broker raises ends this one socket, whose page reads on when it is back
            logger.exception("reading on for a page failed")
            self.counters.failed["catch up"] += 1
            page.socket.end(CloseCode.INTERNAL, "reading on failed")

    # --- from the page ------------------------------------------------------------------------------------------------

    def heard(self, page: PageSession) -> None:
        """The script of `page` has given a sign of life."""
        self._heartbeat.heard(page)

    # --- time ---------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._turn)
            try:
                self.turn()
            except Exception:  # the wheel turns for every page of the process: one bad turn must not be the last
                logger.exception("a turn of the heartbeat failed")
                self.counters.failed["heartbeat"] += 1

    def turn(self) -> None:
        """One turn of the heartbeat: time moves on in the log, pages are pinged, and the silent ones let go."""
        self.broker.tick()
        due, silent = self._heartbeat.turn()
        for page in silent:
            # One that lags gets its pings late; it is judged by whether it reads.
            if page.state is not State.LAGGING:
                self.counters.dropped["silent"] += 1
                self._end(page, CloseCode.TOO_SLOW, "the page is silent")
        seq = self.broker.position.seq
        moving, still = wire.ping(seq), wire.ping(0)
        for page in due:
            # Rules 8 and 9: in the page's own outgoing order, and without a number while it reads on.
            if page.state is State.LIVE:
                page.position = max(page.position, seq)
                page.socket.send(moving)
            elif page.attached:
                page.socket.send(still)


def _check_holding(page: PageSession) -> None:
    """Raises ProtocolError when `page` or its socket has ended while its hello was being answered."""
    if page.socket.closed or not page.stands(State.HOLDING):
        raise ProtocolError("the page has ended, or has a newer socket", CloseCode.SUPERSEDED)


def _reads_on(page: PageSession) -> bool:
    """Whether the running task still reads for `page`: it may have ended, or lag, and then another task does."""
    return page.state is State.REPLAYING and page.task is asyncio.current_task()
