"""The push API: makes targets, files what is pushed to them, waits for answers, and sends the signals."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from aiosignal import Signal

from .broker import Answer, Broker
from .counters import Counters, Statistics
from .errors import AskTimeout, ConfigurationError, PageGone, Return, check_close, returns
from .limits import Limits, check_seconds
from .memory_broker import MemoryBroker
from .node import Node
from .page import PageSession
from .private import without_password
from .push_targets import IdentityTarget, Page, PageTarget, Qos, Target
from .receipts import Receipt, Receipts
from .targets import Address, check_name
from .tasks import is_own_end
from .wire import MAX_INTEGER, Draft, encode_data

if TYPE_CHECKING:
    from aiohttp import web

logger = logging.getLogger("pagews")

#: Events that wait for the receivers of signals; of more, only that a page is gone.
SIGNALS: Final = 10_000


class Publisher:
    """The push API. In an application, get it with `pagews.get_publisher(request_or_app)`.

    A program that serves no pages makes its own, on the broker of the application:

        async with pagews.Publisher("redis://localhost") as publisher:
            await publisher.topic("news").push("headline", {"title": "..."})

    Arguments:
        broker: as in `setup()`; `memory://` is only for an application.
        limits: as in `setup()`, and the same as there.
        app, new_page_id: the application, and how the ids of its pages are made; `setup()` gives them.

    Raises:
        ConfigurationError: the broker does not fit; from `async with` also: it cannot keep the log.
        BrokerUnavailable: from `async with`: the broker was not reached within `limits.broker` and two more seconds.

    Attributes:
        on_attach, on_detach, on_gone: signals in the manner of aiohttp's: append an `async` function that takes the
            `Page`. Attach and detach say where a page is now; gone comes once, for pages that were once attached. When
            receivers are so slow that 10,000 events wait, attach and detach are dropped until they have caught up.
            Append in `on_startup` or `cleanup_ctx`, after `setup()`: from the first event on they are frozen. Receivers
            are called one after the other, in the order of the events.
    """

    def __init__(
        self,
        broker: str | Broker,
        *,
        limits: Limits | None = None,
        app: web.Application | None = None,
        new_page_id: Callable[[], str] | None = None,
    ) -> None:
        if app is None and broker == "memory://":
            raise ConfigurationError("memory:// is the application's own: give this program the Redis that both share")
        self.limits = limits = limits or Limits()
        self.counters = Counters()
        self.node = Node(_broker(broker, limits), self, self.counters, limits, new_page_id or _no_page)
        self.node.broker.serves_pages = app is not None
        self._app = app
        self._has_started = False
        self.on_attach: Signal[Page] = Signal(self)
        self.on_detach: Signal[Page] = Signal(self)
        self.on_gone: Signal[Page] = Signal(self)
        self._receipts = Receipts()
        self._events: asyncio.Queue[tuple[Signal[Page], Page]] = asyncio.Queue()
        self._telling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        try:
            await self.node.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.node.stop()
        await self.stop()

    @property
    def app(self) -> web.Application:
        """The application that it is of.

        Raises:
            ConfigurationError: it is of a program that serves no pages.
        """
        if self._app is None:
            raise ConfigurationError("this publisher was made by a program, and has no application")
        return self._app

    # --- targets ------------------------------------------------------------------------------------------------------

    def page(self, page_id: str) -> PageTarget:
        """One page, by its id."""
        return PageTarget(self._running(), Address.page(page_id))

    def session(self, session_id: str) -> IdentityTarget:
        """All pages of a browser session."""
        return IdentityTarget(self._running(), Address.session(session_id))

    def user(self, user_id: str) -> IdentityTarget:
        """All pages of a user."""
        return IdentityTarget(self._running(), Address.user(user_id))

    def topic(self, name: str) -> Target:
        """All pages that listen to a topic."""
        return Target(self._running(), Address.topic(name))

    def _running(self) -> Self:
        if self._app is None and not self._has_started:
            raise ConfigurationError("this publisher is not connected: use it inside of 'async with'")
        return self

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
        await self.node.broker.close_page(page_id, code, reason)

    async def attached_pages(self, address: Address) -> list[Page]:
        """The pages of a target that are attached now. Applications call `pages` of a target."""
        pages = await self.node.broker.pages(address.channel)
        return [Page(self, page.page_id, page.session_id, page.user_id, page.topics) for page in pages]

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
        return self._receipts.make(number, channel)

    def _facade(self, page: PageSession) -> Page:
        return Page(self, page.id, page.session_id, page.user_id, page.topics)

    # --- what the node tells ------------------------------------------------------------------------------------------

    def attached(self, page: PageSession) -> None:
        """A page has a socket now."""
        self._tell(self.on_attach, self._facade(page))

    def detached(self, page: PageSession) -> None:
        """A page has none any more."""
        self._tell(self.on_detach, self._facade(page))

    def detached_elsewhere(self, page_id: str, session_id: str, user_id: str | None) -> None:
        """The process that a page was attached to has died."""
        self._tell(self.on_detach, Page(self, page_id, session_id, user_id, ()))

    def ended(self, page_id: str) -> None:
        """A page has ended: whoever asks it need not wait."""
        for receipt in self._receipts.of_channel(Address("page", page_id).channel):
            receipt.give_up()

    def gone(self, page_id: str, session_id: str, user_id: str | None) -> None:
        """A page that was once attached has ended; told in one process only."""
        self._tell(self.on_gone, Page(self, page_id, session_id, user_id, ()), may_drop=False)

    def answered(self, answer: Answer) -> None:
        """A page has answered: give it to the receipt."""
        receipt = self._receipts.get(answer.receipt)
        if receipt is None or not receipt.add(answer):
            self.counters.refused["answer nobody waits for"] += 1

    # --- signals ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to send the signals."""
        self._has_started = True
        self._telling = asyncio.create_task(self._send_signals())

    async def stop(self) -> None:
        """Send what is left, then end."""
        self._has_started = False
        if self._telling is not None:
            await self._within_limit(self._events.join())
            self._telling.cancel()
            await asyncio.wait([self._telling])

    def _tell(self, signal: Signal[Page], page: Page, *, may_drop: bool = True) -> None:
        signal.freeze()
        if not signal:
            return
        if may_drop and self._events.qsize() >= SIGNALS:
            self.counters.dropped["signals"] += 1
            return
        self._events.put_nowait((signal, page))

    async def _send_signals(self) -> None:
        while True:
            signal, page = await self._events.get()
            await self._within_limit(signal.send(page))
            self._events.task_done()

    async def _within_limit(self, work: Awaitable[object]) -> None:
        try:
            with self.node.output.time_limit.watch():
                await work
        except (Exception, asyncio.CancelledError) as error:
            if is_own_end(error):
                raise
            self.counters.failed["signal"] += 1
            logger.error("a receiver of a signal failed; it must be async, and take a page", exc_info=error)


def _broker(broker: str | Broker, limits: Limits) -> Broker:
    if isinstance(broker, Broker):
        return broker
    if broker == "memory://":
        return MemoryBroker(limits)
    if str(broker).startswith(("redis://", "rediss://", "unix://")):
        try:
            from .redis_broker import RedisBroker
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"broker={without_password(broker)!r}: pip install 'pagews[redis]' ({error})"
            ) from error
        return RedisBroker(broker, limits)
    raise ConfigurationError(
        f"broker={without_password(str(broker))!r}: give 'memory://', 'redis://HOST:PORT' or a pagews.Broker"
    )


def _no_page() -> str:
    raise AssertionError("a program that serves no pages has none that could fork")
