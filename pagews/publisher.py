"""The push API that application code holds: targets, pages, receipts and asking."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import weakref
from collections.abc import Awaitable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import msgspec
from aiosignal import Signal

from .broker import Answer
from .counters import Counters, Statistics
from .delegates import check_delegate
from .errors import AskTimeout, CloseCode, LimitExceeded, PageGone, Return, check_close, returns
from .limits import Limits, check_seconds
from .node import Node
from .page import PageSession
from .receipts import Receipt
from .targets import Address, check_name, check_topics
from .tasks import is_own_end
from .wire import MAX_INTEGER, Draft, encode_data, encode_json

if TYPE_CHECKING:
    from aiohttp import web

logger = logging.getLogger("pagews")

Qos = Literal[0, 1, 2]
T = TypeVar("T")


class Target:
    """What a push is addressed to: a page, a browser session, a user or a topic."""

    __slots__ = ("_address", "_publisher")

    def __init__(self, publisher: Publisher, address: Address) -> None:
        self._publisher = publisher
        self._address = address

    @property
    def id(self) -> str:
        """The page's, session's or user's id, or the topic's name."""
        return self._address.name

    @overload
    async def push(
        self,
        delegate: str,
        data: object = None,
        *,
        qos: Literal[0, 1] = 1,
        ttl: float | None = None,
        key: str | None = None,
    ) -> None: ...
    @overload
    async def push(
        self, delegate: str, data: object = None, *, qos: Literal[2], ttl: float | None = None, key: str | None = None
    ) -> Receipt: ...
    async def push(
        self, delegate: str, data: object = None, *, qos: Qos = 1, ttl: float | None = None, key: str | None = None
    ) -> Receipt | None:
        """Push to the browser's `delegate`. When it returns, the message is accepted: qos 1 and 2 are in the log.

        Arguments:
            delegate: the name of the receiver in the browser, 1 to 200 printable characters.
            data: any JSON value, or bytes. NaN becomes null, bytes inside a JSON value become base64.
            qos: 0 at most once, 1 at least once and in order, 2 with an answer from each document: see the guarantees.
            ttl: seconds after which it is not worth delivering any more, if sooner than the retention.
            key: idempotency key: a push with the same key to the same target is filed once.

        Returns:
            a `Receipt` with qos 2, else None.

        Raises:
            EncodingError: `data` cannot be written as JSON. MessageTooLarge: it is larger than `limits.message_down`.
            TypeError, ValueError: the delegate's name, `qos`, `ttl` or `key` is not as above.
            BrokerUnavailable: the broker did not take it.
        """
        return await self._publisher.push(self._address, check_delegate(delegate), data, qos=qos, ttl=ttl, key=key)

    async def pages(self) -> list[Page]:
        """The pages that are attached now."""
        return self._publisher.attached_pages(self._address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and self._address == other._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address.kind}>"


class IdentityTarget(Target):
    """A browser session or a user: can be revoked."""

    __slots__ = ()

    async def revoke(self) -> None:
        """End it: its open pages are closed with 4503, and what it has is not accepted any more.

        For a session: the session id. For a user: every login of that user up to now.
        """
        await self._publisher.node.broker.revoke(self._address.channel)


class PageTarget(Target):
    """One page session: can be asked and closed."""

    __slots__ = ()

    async def ask(self, delegate: str, data: object = None, *, timeout: float = 10.0) -> Any:
        """Push to the browser's `delegate` and wait for what it returns.

        Arguments:
            timeout: seconds to wait; the question is not delivered after that.

        Raises:
            AskTimeout: no answer in time. PageGone: the page is known to have ended.
            RemoteError: the browser's delegate threw; with `code` and `message`.
            and what `push` raises.
        """
        return await self._publisher.ask(self._address, check_delegate(delegate), data, timeout)

    async def close(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        """Close the page's socket with a close code. By the table of close codes the page comes back (1001, 1012,
        4000-4499), or not: then it is gone.
        """
        await self._publisher.close_page(self.id, code, reason)


class Page(PageTarget):
    """A page session, as views, delegates and signals get it."""

    __slots__ = ("_rendered", "_session_id", "_user_id")

    def __init__(
        self, publisher: Publisher, page_id: str, session_id: str, user_id: str | None, topics: Collection[str]
    ) -> None:
        super().__init__(publisher, Address("page", page_id))
        self._session_id = session_id
        self._user_id = user_id
        self._rendered = topics

    @property
    def session(self) -> IdentityTarget:
        """Its browser session."""
        return self._publisher.session(self._session_id)

    @property
    def user(self) -> IdentityTarget | None:
        """Its user, or None while nobody is logged in."""
        return None if self._user_id is None else self._publisher.user(self._user_id)

    @property
    def app(self) -> web.Application:
        """The application."""
        return self._publisher.app

    @property
    def attached(self) -> bool:
        """Whether a browser has it open now, connected to this process."""
        return self.id in self._publisher.node.pages

    @property
    def topics(self) -> frozenset[str]:
        """The topics it listens to, or was rendered with while it is not attached."""
        session = self._publisher.node.pages.get(self.id)
        return frozenset(self._rendered if session is None else session.topics)

    async def subscribe(self, topic: str) -> None:
        """Listen to a topic from now on, wherever the page is attached.

        Raises:
            ValueError: the name is not 1 to 200 printable characters, or the page has `limits.topics` already.
        """
        Address.topic(topic)
        recorded = await self._publisher.node.broker.topics(self.id)
        topics = self._rendered if recorded is None else recorded
        if topic not in topics and len(topics) >= self._publisher.limits.topics:
            raise ValueError(f"the page listens to {len(topics)} topics already, which is limits.topics")
        check_topics([*topics, topic])
        await self._publisher.node.broker.set_topics(self.id, self._rendered, [topic], [])

    async def unsubscribe(self, topic: str) -> None:
        """Do not listen to a topic any more."""
        await self._publisher.node.broker.set_topics(self.id, self._rendered, [], [Address.topic(topic).name])

    # --- variables ----------------------------------------------------------------------------------------------------

    async def get(self, name: str, default: Any = None) -> Any:
        """A page variable, or `default` when there is none, or the page is gone.

        Arguments:
            name: 1 to 200 printable characters, as in `set`, `incr` and `append`.

        Raises:
            TypeError, ValueError: `name` is not as above.
        """
        value = await self._publisher.node.broker.get_variable(self.id, check_name("a variable", name))
        return default if value is None else msgspec.json.decode(value)

    async def set(self, name: str, value: object) -> None:
        """Keep a variable with the page until it is gone; a page that never connects ends after the retention.

        Arguments:
            value: any JSON value, which `get` gives back as such. None forgets the variable.

        Raises:
            EncodingError: `value` cannot be written as JSON.
            LimitExceeded: it is larger than `limits.variable_bytes`, or all variables of the page would be larger than
                `limits.page_bytes`, or those of all pages than `limits.pages_bytes`.
            PageGone: the page is known to have ended.
            TypeError, ValueError: `name` is not 1 to 200 printable characters.
        """
        raw = encode_json(value)
        broker = self._publisher.node.broker
        await self._store(broker.set_variable(self.id, check_name("a variable", name), None if raw == b"null" else raw))

    async def incr(self, name: str, by: int = 1) -> int:
        """Add to a variable that is a whole number, or is not there yet, in one step; returns the sum.

        Arguments:
            by: how much, also less than zero.

        Raises:
            TypeError: the variable, or `by`, is no whole number.
            ValueError: the sum is not between -(2**53 - 1) and 2**53 - 1.
            and what `set` raises.
        """
        if isinstance(by, bool) or not isinstance(by, int):
            raise TypeError(f"by={by!r}: give a whole number")
        broker = self._publisher.node.broker
        return await self._store(broker.incr_variable(self.id, check_name("a variable", name), by))

    async def append(self, name: str, value: object) -> None:
        """Append to a variable that is a list, or is not there yet, in one step.

        Raises:
            TypeError: the variable is no list.
            and what `set` raises.
        """
        raw = encode_json(value)
        broker = self._publisher.node.broker
        await self._store(broker.append_variable(self.id, check_name("a variable", name), raw))

    async def _store(self, storing: Awaitable[T]) -> T:
        try:
            return await storing
        except LimitExceeded:
            self._publisher.counters.refused["variables"] += 1
            raise

    # --- tasks --------------------------------------------------------------------------------------------------------

    def create_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as a task that is cancelled when the page is gone, and when this process stops or drains; not
        when the page is only cut off. A page that never connects ends after the retention.

        An exception is logged and counted here; awaiting the task raises it. Of a page that is known to have ended the
        task raises `PageGone`, and the coroutine is not begun.

        Raises:
            TypeError: `work` is no coroutine.
        """
        return self._publisher.node.tasks.create(self.id, work)


class Publisher:
    """The push API. Get it with `pagews.get_publisher(request_or_app)`.

    Attributes:
        on_attach, on_detach, on_gone: signals in the manner of aiohttp's: append an `async` function that takes the
            `Page`. Attach and detach say where a page is now; gone comes once, for pages that were once attached.
            Append in `on_startup` or `cleanup_ctx`, after `setup()`: from the first event on they are frozen. Receivers
            are called one after the other, in the order of the events.
    """

    def __init__(self, app: web.Application, limits: Limits, counters: Counters) -> None:
        self.app = app
        self.limits = limits
        self.counters = counters
        self.node: Node
        self.on_attach: Signal[Page] = Signal(self)
        self.on_detach: Signal[Page] = Signal(self)
        self.on_gone: Signal[Page] = Signal(self)
        self._receipts: weakref.WeakValueDictionary[int, Receipt] = weakref.WeakValueDictionary()
        self._events: asyncio.Queue[tuple[Signal[Page], Page]] = asyncio.Queue()
        self._telling: asyncio.Task[None] | None = None

    # --- targets ------------------------------------------------------------------------------------------------------

    def page(self, page_id: str) -> PageTarget:
        """One page, by its id."""
        return PageTarget(self, Address.page(page_id))

    def session(self, session_id: str) -> IdentityTarget:
        """All pages of a browser session."""
        return IdentityTarget(self, Address.session(session_id))

    def user(self, user_id: str) -> IdentityTarget:
        """All pages of a user."""
        return IdentityTarget(self, Address.user(user_id))

    def topic(self, name: str) -> Target:
        """All pages that listen to a topic."""
        return Target(self, Address.topic(name))

    def statistics(self) -> Statistics:
        """What this process has and has done."""
        channels, entries, size, trimmed = self.node.broker.log_size()
        counters = self.counters
        return Statistics(
            attached=len(self.node.pages),
            sockets=counters.sockets,
            channels=channels,
            entries=entries,
            bytes=size,
            trimmed=trimmed,
            pushed=counters.pushed,
            delivered=counters.delivered,
            replayed=counters.replayed,
            lost=dict(counters.lost),
            sent=counters.sent,
            refused=dict(counters.refused),
            dropped=dict(counters.dropped),
            failed=dict(counters.failed),
            closed=dict(counters.closed),
        )

    # --- what targets do ----------------------------------------------------------------------------------------------

    async def push(
        self, address: Address, delegate: str, data: object, *, qos: Qos, ttl: float | None, key: str | None
    ) -> Receipt | None:
        """Encode once, and give it to the broker. Applications call `push` of a target."""
        if qos not in (0, 1, 2):
            raise ValueError(f"qos {qos!r}: give 0, 1 or 2")
        if ttl is not None:
            check_seconds("ttl", ttl)
        if qos == 0 and key is not None:
            raise ValueError("a push of qos 0 is not filed: it takes no key")
        if key is not None:
            check_name("an idempotency key", key)
        receipt = self._receipt(address.channel, key) if qos == 2 else None
        draft = self._draft(address, delegate, data, receipt)
        if qos == 0:
            await self.node.broker.emit(address.channel, draft)
        else:
            await self.node.broker.publish(address.channel, draft, ttl=ttl, key=key)
        self.counters.pushed += 1
        return receipt

    async def ask(self, address: Address, delegate: str, data: object, timeout: float) -> Any:
        """Push with a receipt, and wait for the one answer. Applications call `ask` of a page."""
        check_seconds("timeout", timeout)
        receipt = self._receipt(address.channel)
        draft = self._draft(address, delegate, data, receipt)
        if await self.node.broker.is_gone(address.name):
            raise PageGone(f"the page that {delegate!r} was asked of has ended")
        await self.node.broker.publish(address.channel, draft, ttl=timeout)
        self.counters.pushed += 1
        acks = await receipt.wait(1, timeout)
        if acks:
            if acks[0].ok:
                return acks[0].value
            raise acks[0].value
        if receipt.gone:
            raise PageGone(f"the page that {delegate!r} was asked of has ended")
        raise AskTimeout(f"{delegate!r} was not answered in {timeout:g} s")

    async def close_page(self, page_id: str, code: int, reason: str) -> None:
        """Close a page's socket; by the table of close codes it is gone then. Applications call `close` of a page."""
        check_close(code)
        if returns(code) is not Return.BACK:
            await self.node.end_page(page_id, code, reason)
            return
        page = self.node.pages.get(page_id)
        if page is not None:
            page.socket.close(code, reason)

    def attached_pages(self, address: Address) -> list[Page]:
        """The pages of a target that are attached now. Applications call `pages` of a target."""
        return [self._facade(page) for page in self.node.hub.listeners(address.channel) if page.id in self.node.pages]

    def _draft(self, address: Address, delegate: str, data: object, receipt: Receipt | None) -> Draft:
        raw = encode_data(data, self.limits.message_down)
        binary = isinstance(data, bytes | bytearray | memoryview)
        return Draft(address.to, delegate, raw, binary, receipt.id if receipt else 0)

    def _receipt(self, channel: str, key: str | None = None) -> Receipt:
        """A new receipt; the same one for the same key, since what is pushed again is filed once."""
        if key is None:
            number = 1 + secrets.randbelow(MAX_INTEGER)
        else:
            digest = hashlib.sha256(f"{channel}\n{key}".encode()).digest()
            number = 1 + int.from_bytes(digest) % MAX_INTEGER
        receipt = self._receipts.get(number)
        if receipt is None:
            receipt = self._receipts[number] = Receipt(number, channel)
        return receipt

    def _facade(self, page: PageSession) -> Page:
        return Page(self, page.id, page.session_id, page.user_id, page.topics)

    # --- what the node tells ------------------------------------------------------------------------------------------

    def attached(self, page: PageSession) -> None:
        """A page has a socket now."""
        self._tell(self.on_attach, self._facade(page))

    def detached(self, page: PageSession) -> None:
        """A page has none any more."""
        self._tell(self.on_detach, self._facade(page))

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        """A page has ended: whoever asks it need not wait."""
        channel = Address("page", page_id).channel
        for receipt in tuple(self._receipts.values()):
            if receipt.channel == channel:
                receipt.give_up()
        self._tell(self.on_gone, Page(self, page_id, session_id, user_id, ()))

    def answered(self, answer: Answer) -> None:
        """A page has answered: give it to the receipt."""
        receipt = self._receipts.get(answer.receipt)
        if receipt is None or not receipt.add(answer):
            self.counters.refused["answer nobody waits for"] += 1

    # --- signals ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to send the signals."""
        self._telling = asyncio.create_task(self._send_signals())

    async def stop(self) -> None:
        """Send what is left, then end."""
        if self._telling is not None:
            await self._within_limit(self._events.join())
            self._telling.cancel()
            await asyncio.wait([self._telling])

    def _tell(self, signal: Signal[Page], page: Page) -> None:
        signal.freeze()
        if signal:
            self._events.put_nowait((signal, page))

    async def _send_signals(self) -> None:
        while True:
            signal, page = await self._events.get()
            await self._within_limit(signal.send(page))
            self._events.task_done()

    async def _within_limit(self, work: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(self.limits.callback):
                await work
        except (Exception, asyncio.CancelledError) as error:
            if is_own_end(error):
                raise
            self.counters.failed["signal"] += 1
            logger.error("a receiver of a signal failed; it must be async, and take a page", exc_info=error)
