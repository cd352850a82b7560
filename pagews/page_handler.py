"""The default handler: it attaches its socket to the page session, and speaks the wire protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar

from aiohttp import web

from . import wire
from .broker import Answer, Position, SendClaim, is_revoked
from .delegates import Outcome
from .errors import (
    BrokerUnavailable,
    CloseCode,
    DelegateError,
    EncodingError,
    MessageTooLarge,
    NotAuthorized,
    PageGone,
    ProtocolError,
    RemoteError,
)
from .gates import said_yes
from .handler import Context, Replies, WebSocketHandler
from .node import Arrival
from .page import PageSession, State
from .push_targets import Page
from .site import Site, get_site
from .targets import Address
from .time_limit import Countdown
from .tokens import Token
from .wire import SUBPROTOCOL, Ack, Binary, Bye, Hello, Join, Leave, Message, Pong, Push, Send, Text


class PageHandler(WebSocketHandler):
    """Attaches a socket to its page session, hands pushes to the browser, and its sends to the delegates.

    An ordinary `WebSocketHandler`: derive from it, give the class to `setup(handler=...)` or `websocket_start`, and
    call the inherited callbacks for what is not yours.
    """

    protocols: ClassVar[tuple[str, ...]] = (SUBPROTOCOL,)

    __slots__ = ("_epoch", "_expiry", "_hello_limit", "_left", "_page", "_site", "_size", "_token")

    _site: Site
    _page: PageSession | None
    _token: Token
    _epoch: str

    def websocket_init(self, context: Context) -> Replies | Awaitable[Replies]:
        self._site = get_site(context.request)
        self._page = None
        self._left = False
        self._expiry: Countdown | None = None
        end = partial(context.socket.end, CloseCode.HELLO_TIMEOUT, "no hello in time")
        self._hello_limit = Countdown(self._site.limits.hello, end)
        # Not in websocket_terminate: one that is overridden may fail, or forget the inherited one.
        context.socket.on_end = self._stop_waiting
        return None

    def websocket_handle(self, frame: Text | Binary, context: Context) -> Replies | Awaitable[Replies]:
        message = wire.decode(frame)
        self._size = wire.payload_size(frame.frame)  # as the browser counts what it may send
        page = self._page
        if page is None:
            if type(message) is not Hello:
                raise ProtocolError("the first frame must be a hello")
            return self._greet(message.fields, context)
        self._site.node.heard(page)
        return _RECEIVE[type(message)](self, message, page, context)

    def websocket_info(self, message: Any, context: Context) -> Replies | Awaitable[Replies]:
        return message.message if type(message) is Push else None

    async def _stop_waiting(self) -> None:
        self._hello_limit.cancel()

    async def _detach(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._page is not None:
            await self._site.node.detach(self._page, left=self._left)

    # --- attach -------------------------------------------------------------------------------------------------------

    async def _greet(self, fields: wire.HelloFields, context: Context) -> Replies:
        try:
            return await self._hello(fields, context)
        except (BrokerUnavailable, web.HTTPServiceUnavailable) as error:
            site = self._site
            site.counters.refused["broker away"] += 1
            raise ProtocolError(site.node.return_later(), CloseCode.RESTART) from error

    async def _hello(self, fields: wire.HelloFields, context: Context) -> Replies:
        self._hello_limit.cancel()
        site = self._site
        parting = site.parting(fields.document) if context.attaches else None
        if parting is not None:
            raise ProtocolError(parting.reason, parting.code)
        token = site.tokens.read(fields.token)
        identity = await site.identities.load(context.request)
        if token is None or identity.session_id is None or token.session != identity.session_id:
            # One answer for all of them: whoever guesses learns nothing.
            raise ProtocolError("the token is not good for this browser session", CloseCode.BAD_TOKEN)
        if token.user != identity.user_id:
            raise ProtocolError("the user has changed", CloseCode.IDENTITY)
        cursor = Position(token.epoch, token.seq)
        if fields.epoch is not None and fields.seq is not None:
            cursor = Position(fields.epoch, fields.seq)
        if not self._may_come(token, context):
            return None
        arrival = Arrival(
            token.page,
            token.session,
            token.user,
            dict.fromkeys(token.topics, 0),
            token.since,
            fields.document,
            fields.attempt,
            cursor,
        )
        self._token, self._epoch = token, cursor.epoch
        if not context.attaches:
            return await self._visit(arrival, context)
        page, forked, replay = await site.node.attach(arrival, context.socket)
        self._page = page
        context.socket.on_end = self._detach
        context.page = self._facade(page)
        if identity.until is not None:
            end = partial(context.socket.end, CloseCode.IDENTITY, "the session has ended")
            self._expiry = Countdown(max(0.0, identity.until - time.time()), end)
        fresh = None
        if forked or site.tokens.is_old(token):
            fresh = self._renew(page)
        context.socket.write(site.node.welcome(page, replay, forked=forked, token=fresh))
        site.node.go(page, replay)
        return None

    def _may_come(self, token: Token, context: Context) -> bool:
        """Whether there is room for a page, and it does not come too often; a socket that may not is closed."""
        site = self._site
        # From here on it is its page that speaks, on whatever socket.
        context.socket.bucket = site.buckets.of(token.page, asyncio.get_running_loop().time())
        if not context.socket.admits():
            return False
        pages = site.node.hub.listeners(Address.session(token.session).channel)
        most = site.limits.session_pages
        if context.attaches and len(pages) >= most and len({page.id for page in pages} - {token.page}) >= most:
            site.counters.refused["pages"] += 1
            raise ProtocolError("pages", CloseCode.LIMIT)
        return True

    async def _visit(self, arrival: Arrival, context: Context) -> Replies:
        """A hello that proves who speaks, and attaches nothing."""
        site = self._site
        if await site.identities.is_revoked(arrival.session_id, arrival.user_id, arrival.since):
            raise ProtocolError("the session has ended", CloseCode.IDENTITY)
        self._page = page = await site.node.visit(arrival)
        context.page = self._facade(page)
        return None

    def _facade(self, page: PageSession) -> Page:
        return Page(self._site.publisher, page.id, page.session_id, page.user_id, page.topics)

    def _renew(self, page: PageSession) -> str:
        # With the topics that the page was rendered with: since when it listens to others is for its record to know.
        text = self._site.tokens.renewed(self._token, page=page.id)
        renewed = self._site.tokens.read(text)
        if renewed is not None:
            self._token = renewed
        return text

    # --- what an attached page sends ----------------------------------------------------------------------------------

    def _again(self, message: Hello, page: PageSession, context: Context) -> Replies:
        raise ProtocolError("a second hello")

    def _pong(self, message: Pong, page: PageSession, context: Context) -> Replies:
        if self._site.tokens.is_old(self._token):
            return wire.token(self._renew(page))
        return None

    async def _bye(self, message: Bye, page: PageSession, context: Context) -> Replies:
        if context.attaches:
            self._left = True
        else:
            await self._site.node.leave(page)
        return wire.Close(CloseCode.NORMAL, "goodbye")

    async def _ack(self, message: Ack, page: PageSession, context: Context) -> Replies:
        value = message.value if message.ok else RemoteError(message.value.code, message.value.message)
        answer = Answer(message.receipt, page.id, page.document, page.cursors().keys(), message.ok, value)
        try:
            await self._site.node.broker.answer(answer)
        except BrokerUnavailable as error:
            # The page keeps what is not confirmed, and says it again when it comes back (rule 24).
            raise ProtocolError(self._site.node.return_later(), CloseCode.RESTART) from error
        return wire.acked(message.receipt)

    def _send(self, message: Send, page: PageSession, context: Context) -> Replies | Awaitable[Replies]:
        # A post may have left before its page heard of another epoch.
        epoch = page.epoch if context.attaches else self._epoch
        job, answered = partial(self._run, message, page, epoch, context), message.qos > 0
        refusal = self._submit(page, context, message.id, job, self._size, answered=answered)
        if refusal is not None and message.qos == 2:
            return self._unless_claimed(message, page, refusal)
        return refusal

    async def _unless_claimed(self, message: Send, page: PageSession, refusal: Replies) -> Replies:
        """One that is refused may be a repeat: whoever is told `limit` takes it that it has not run."""
        claim = await self._site.node.broker.find_send(page.id, page.document, message.id)
        return refusal if claim is None else _result_of(claim, message.id)

    def _join(self, message: Join, page: PageSession, context: Context) -> Replies:
        return self._submit(page, context, message.id, lambda: self._subscribe(message, page, context))

    def _leave(self, message: Leave, page: PageSession, context: Context) -> Replies:
        return self._submit(page, context, message.id, lambda: self._unsubscribe(message, page, context))

    def _submit(
        self,
        page: PageSession,
        context: Context,
        job_id: int,
        job: Callable[[], Awaitable[Message | None]],
        size: int = 0,
        *,
        answered: bool = True,
    ) -> Message | None:
        if self._site.node.jobs.submit(page, context.socket, job_id, job, size):
            return None
        self._site.counters.refused["sends waiting"] += 1
        return wire.failed(job_id, "limit", "too many sends wait for the server") if answered else None

    # --- jobs, in the page's own task ---------------------------------------------------------------------------------

    async def _run(self, message: Send, page: PageSession, epoch: str, context: Context) -> Message | None:
        broker = self._site.node.broker
        # Rule 22: it may not have read yet that its identity has ended.
        is_behind = await broker.current() or page.state is not State.LIVE
        if is_behind and await is_revoked(broker, page.session_id, page.user_id, page.since):
            return wire.failed(message.id, "not-authorized", "the session has ended") if message.qos else None
        if message.qos == 2:
            claim = await broker.claim_send(page.id, page.document, message.id, epoch=epoch)
            if not claim.granted:
                return _result_of(claim, message.id)
        outcome = await self._site.delegates.run(message.delegate, context.page, message.data)
        result = self._result(message, outcome)
        if message.qos == 2:
            await broker.complete_send(page.id, page.document, message.id, result)
        return None if not message.qos or await self._has_ended(page) else result

    async def _has_ended(self, page: PageSession) -> bool:
        """Whether the identity of a page has ended: a post may still wait for a result, not for who comes next."""
        if page.state is State.LIVE:
            return False
        try:
            return await is_revoked(self._site.node.broker, page.session_id, page.user_id, page.since)
        except BrokerUnavailable:
            return False  # nobody knows of it here

    def _result(self, message: Send, outcome: Outcome) -> Message:
        if outcome.code:
            return wire.failed(message.id, outcome.code, outcome.message)
        try:
            return wire.result(message.id, outcome.value, self._site.limits.message_down)
        except (EncodingError, MessageTooLarge) as error:
            self._site.delegates.returned_nonsense(message.delegate, error)
            return wire.failed(message.id, "internal", "the server's delegate failed")

    async def _subscribe(self, message: Join, page: PageSession, context: Context) -> Message | None:
        site = self._site
        assert context.page is not None  # attached: websocket_handle has seen to it
        try:
            topic = Address.topic(message.topic).name
        except ValueError as error:
            return wire.failed(message.id, "invalid-data", str(error))
        try:
            is_authorized = await self._is_authorized(context.page, topic)
        except DelegateError as error:
            return wire.failed(message.id, error.code, error.message)
        if not is_authorized:
            site.counters.refused["join"] += 1
            return wire.failed(message.id, "not-authorized", "the application does not let this page join that topic")
        try:
            await context.page.subscribe(topic)
        except ValueError as error:
            site.counters.refused["topics"] += 1
            return wire.failed(message.id, "limit", str(error))
        except PageGone:
            return None  # nobody is there to hear of it; a document that comes back asks again
        return wire.result(message.id, None, self._site.limits.message_down)

    async def _is_authorized(self, page: Page, topic: str) -> bool:
        if self._site.authorize is None:
            return False
        try:
            with self._site.node.output.time_limit.watch():
                return said_yes(await self._site.authorize(page, topic), self._site.authorize)
        except NotAuthorized:
            return False

    async def _unsubscribe(self, message: Leave, page: PageSession, context: Context) -> Message | None:
        assert context.page is not None  # attached: websocket_handle has seen to it
        try:
            await context.page.unsubscribe(message.topic)
        except ValueError as error:
            return wire.failed(message.id, "invalid-data", str(error))
        except PageGone:
            return None
        return wire.result(message.id, None, self._site.limits.message_down)


def _result_of(claim: SendClaim, send_id: int) -> Message:
    return claim.result or wire.failed(send_id, "outcome-unknown", "it may have run")


_RECEIVE: dict[type, Callable[[PageHandler, Any, PageSession, Context], Replies | Awaitable[Replies]]] = {
    Hello: PageHandler._again,
    Pong: PageHandler._pong,
    Bye: PageHandler._bye,
    Ack: PageHandler._ack,
    Send: PageHandler._send,
    Join: PageHandler._join,
    Leave: PageHandler._leave,
}
