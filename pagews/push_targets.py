"""What application code pushes to: a page, a browser session, a user, a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import msgspec

from .delegates import check_delegate
from .errors import CloseCode, LimitExceeded
from .receipts import Receipt
from .targets import Address, check_name, check_topics
from .wire import encode_json

if TYPE_CHECKING:
    from aiohttp import web

    from .publisher import Publisher

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
        """The pages that are attached now, to any process."""
        return await self._publisher.attached_pages(self._address)

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

        Raises:
            BrokerUnavailable: other processes do not know of it, and neither will the next hello: do it again. The
                pages of this process have been closed.
        """
        await self._publisher.node.revoke(self._address.channel)


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

        What was rendered but has not connected yet has no socket to close: nothing keeps it from connecting later.
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
            PageGone: the page is known to have ended.
        """
        Address.topic(topic)
        recorded = await self._publisher.node.broker.topics(self.id)
        topics = self._rendered if recorded is None else recorded
        if topic not in topics and len(topics) >= self._publisher.limits.topics:
            raise ValueError(f"the page listens to {len(topics)} topics already, which is limits.topics")
        check_topics([*topics, topic])
        await self._publisher.node.broker.set_topics(self.id, self._rendered, [topic], [])

    async def unsubscribe(self, topic: str) -> None:
        """Do not listen to a topic any more.

        Raises:
            ValueError: the name is not 1 to 200 printable characters. PageGone: the page is known to have ended.
        """
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
