"""A stand-in browser for tests of applications: real requests, a real socket, no browser.

    async def test_growl(aiohttp_client):
        async with Browser(await aiohttp_client(make_app())) as browser:
            page = await browser.open("/")
            await page.send("mod_example", {"hello": "world"})
            assert await page.expect("growl") == {"text": "got it"}

It does what `docs/reference/protocol.md` asks of a client, and nothing that needs a browser.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import secrets
import socket
from collections.abc import Callable, Coroutine
from html.parser import HTMLParser
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec
from aiohttp import ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestClient

from .errors import CodedError, ProtocolError
from .wire import SUBPROTOCOL

#: Seconds to wait when a test does not say.
PATIENCE: Final = 5.0

Delegate = Callable[[Any], object]


class PageError(CodedError):
    """A send failed, with the code that the browser would see."""


class Received(NamedTuple):
    """A push as the page got it. `seq` is 0 for qos 0."""

    seq: int
    to: str
    delegate: str
    data: Any


class _Waiting(NamedTuple):
    frame: list[Any]
    payload: bytes | None
    answer: asyncio.Future[Any]


class Browser:
    """One browser: its cookies, and the pages that it has open.

    Arguments:
        client: pytest-aiohttp's client, or any `aiohttp.test_utils.TestClient` of the application.
    """

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client
        self.pages: list[PageStandIn] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for page in self.pages:
            await page.close()

    async def open(self, path: str = "/") -> PageStandIn:
        """Open a page: fetch it, and do what its include says: connect, unless it has `nostream`.

        Raises:
            AssertionError: the answer is not 200, or has no include.
        """
        async with self.client.get(path, headers={"Accept": "text/html"}) as response:
            html = await response.text()
            assert response.status == 200, f"{path} answered {response.status}: {html[:500]}"
        page = PageStandIn(self, html)
        self.pages.append(page)
        if "data-nostream" not in page.include:
            await page.connect()
        return page


class PageStandIn:
    """One open page.

    Attributes:
        html: what the server rendered. `include`: the attributes of its script include.
        received: every push that its delegates were shown, oldest first.
        welcome: what the server said when it last attached.
        lost: the reasons of every loss it was told.
        close_code: with which code its last socket was closed by the server.
        errors: what its delegates raised where nobody asked.
    """

    def __init__(self, browser: Browser, html: str) -> None:
        self.html = html
        self.include = find_include(html)
        self.received: list[Received] = []
        self.welcome: dict[str, Any] = {}
        self.lost: list[str] = []
        self.close_code: int | None = None
        self.errors: list[Exception] = []
        self.document = secrets.token_hex(16)
        self._browser = browser
        self._token = self.include["data-page"] or ""
        self._attempts = itertools.count(1)
        self._ids = itertools.count(1)
        self._epoch: str | None = None
        self._seq = 0
        self._unread: list[Received] = []
        self._delegates: dict[str, Delegate] = {}
        self._answers: dict[int, tuple[list[Any], bytes | None]] = {}
        self._questions: list[tuple[Received, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, _Waiting] = {}
        self._ws: ClientWebSocketResponse | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    @property
    def id(self) -> str:
        """The page id; known once it has connected."""
        return str(self.welcome["page"])

    @property
    def cursor(self) -> tuple[str | None, int]:
        """Epoch and number up to which it has everything."""
        return self._epoch, self._seq

    @property
    def connected(self) -> bool:
        """Whether its socket is open."""
        return self._reading is not None and not self._reading.done()

    # --- the connection -----------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Attach, or come back after a cut; returns when the server has welcomed it.

        Raises:
            ProtocolError: the server closed the socket instead, with the `code` it gave.
        """
        await self.cut()
        url = f"{self.include['data-pagews']}/socket"
        self._ws = await self._browser.client.ws_connect(
            url, protocols=(SUBPROTOCOL,), origin=str(self._browser.client.make_url("/").origin()), max_msg_size=0
        )
        hello: dict[str, Any] = {
            "token": self._token,
            "document": self.document,
            "attempt": next(self._attempts),
            "transport": "websocket",
        }
        if self._epoch is not None:
            hello |= {"epoch": self._epoch, "seq": self._seq}
        await self._write(["hello", hello])
        self.welcome = {}
        self._reading = asyncio.create_task(self._read(self._ws))
        await self._wait_until(lambda: bool(self.welcome) or not self.connected, PATIENCE, "welcome")
        if not self.welcome:
            raise ProtocolError("the server closed the socket before it welcomed the page", self.close_code or 1006)
        for waiting in tuple(self._waiting.values()):
            await self._write(waiting.frame, waiting.payload)
        for answer in tuple(self._answers.values()):
            await self._write(*answer)

    async def cut(self) -> None:
        """Break the connection as a network does: no goodbye, no close frame."""
        if self._ws is not None and not self._ws.closed:
            link = self._ws.get_extra_info("socket")
            if link is not None:
                link.shutdown(socket.SHUT_RDWR)
        await self._settle()

    async def close(self) -> None:
        """Leave the page: say goodbye, and close."""
        if self.connected:
            await self._write(["bye"])
        await self._settle()

    async def closed(self, timeout: float = PATIENCE) -> int | None:
        """Wait until the server has closed the socket; returns the close code."""
        await self._wait_until(lambda: not self.connected, timeout, "close")
        return self.close_code

    async def _settle(self) -> None:
        if self._reading is not None:
            await asyncio.wait([self._reading])
        if self._ws is not None:
            await self._ws.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # --- from the server ----------------------------------------------------------------------------------------------

    def on(self, delegate: str, function: Delegate) -> None:
        """Register a delegate; what it returns, or its coroutine does, answers an `ask`, and what it raises refuses.

        An `ask` that came before its delegate was registered is answered now, as in the browser.
        """
        self._delegates[delegate] = function
        for question in [question for question in self._questions if question[0].delegate == delegate]:
            self._questions.remove(question)
            self._start(self._answer(*question))

    async def expect(self, delegate: str, timeout: float = PATIENCE) -> Any:
        """The data of the next push to `delegate` that no `expect` has returned; waits for it.

        Raises:
            AssertionError: none came in time; says what came instead, and what delegates of the page raised.
        """
        await self._wait_until(lambda: self._next(delegate) is not None, timeout, f"push to {delegate!r}")
        message = self._next(delegate)
        assert message is not None
        self._unread.remove(message)
        return message.data

    def refute(self, delegate: str) -> None:
        """Assert that no push to `delegate` has come that no `expect` has returned.

        A push can still be under way: first `expect` one that was pushed later, which has come behind it.
        """
        message = self._next(delegate)
        assert message is None, f"unexpected push to {delegate!r}: {message.data!r}"

    def _next(self, delegate: str) -> Received | None:
        return next((message for message in self._unread if message.delegate == delegate), None)

    # --- to the server ------------------------------------------------------------------------------------------------

    async def send(self, delegate: str, data: Any = None, *, qos: int = 1, timeout: float = PATIENCE) -> Any:
        """Send to a server delegate and return what it returns; after a cut it is sent again by `connect`.

        Raises:
            PageError: the delegate failed, or does not exist. TimeoutError: no answer in time, as while the page is cut
                and nobody calls `connect`.
        """
        number = next(self._ids)
        if isinstance(data, bytes):
            return await self._request(number, ["send", number, qos, delegate, None], qos, timeout, data)
        return await self._request(number, ["send", number, qos, delegate, data], qos, timeout)

    async def join(self, topic: str, timeout: float = PATIENCE) -> None:
        """Ask to listen to a topic. Raises PageError when the application does not grant it."""
        number = next(self._ids)
        await self._request(number, ["join", number, topic], 1, timeout)

    async def leave(self, topic: str, timeout: float = PATIENCE) -> None:
        """Do not listen to a topic any more."""
        number = next(self._ids)
        await self._request(number, ["leave", number, topic], 1, timeout)

    async def _request(
        self, number: int, frame: list[Any], qos: int, timeout: float, payload: bytes | None = None
    ) -> Any:
        if qos == 0:
            await self._write(frame, payload)
            return None
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = _Waiting(frame, payload, answer)
        try:
            if self.connected:
                await self._write(frame, payload)
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            asked = [question.delegate for question, _ in self._questions]
            hint = f"; the page was asked {asked}: register page.on(...)" if asked else ""
            if not self.connected:
                hint += (
                    f"; the page is cut off (close code: {self.close_code}): connect() comes back, and sends it again"
                )
            what = frame[3] if frame[0] == "send" else frame[2]
            raise TimeoutError(f"no result of {frame[0]} {what!r} in {timeout:g} s{hint}{self._raised()}") from None
        except PageError as error:
            if error.code == "internal":
                error.add_note('The server has logged why, to logging.getLogger("pagews").')
            raise
        finally:
            del self._waiting[number]

    # --- frames -------------------------------------------------------------------------------------------------------

    async def _write(self, frame: list[Any], payload: bytes | None = None) -> None:
        assert self._ws is not None, "connect() first"
        header = msgspec.json.encode(frame)
        try:
            if payload is None:
                await self._ws.send_str(header.decode())
            else:
                await self._ws.send_bytes(len(header).to_bytes(4, "big") + header + payload)
        except ConnectionError:
            pass  # what waits is sent again by the next connect()

    async def _read(self, ws: ClientWebSocketResponse) -> None:
        try:
            async for message in ws:
                if message.type is WSMsgType.BINARY:
                    size = int.from_bytes(message.data[:4], "big")
                    await self._take(msgspec.json.decode(message.data[4 : 4 + size]), message.data[4 + size :])
                else:
                    await self._take(msgspec.json.decode(message.data), None)
        finally:
            self.close_code = ws.close_code
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._notify()))

    async def _take(self, frame: list[Any], payload: bytes | None) -> None:
        match frame:
            case ["welcome", dict() as fields, *_]:
                self.welcome = fields
                if fields["lost"] is not None:
                    self.lost.append(fields["lost"])
                    self._seq = fields["seq"]
                elif self._epoch is None:
                    self._seq = fields["seq"]
                self._epoch = fields["epoch"]
                self._token = fields["token"] or self._token
            case ["push", int() as seq, str() as to, str() as delegate, data, *receipt]:
                if seq == 0 or seq > self._seq:
                    self._seq = max(self._seq, seq)
                    await self._show(Received(seq, to, delegate, data if payload is None else payload), receipt)
                elif receipt and receipt[0] in self._answers:
                    await self._write(*self._answers[receipt[0]])
            case ["ping", int() as seq, *_]:
                self._seq = max(self._seq, seq)
                await self._write(["pong"])
            case ["result", int() as number, bool() as ok, value, *_]:
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.answer.done():
                    if ok:
                        waiting.answer.set_result(value if payload is None else payload)
                    else:
                        waiting.answer.set_exception(PageError(value["code"], value["message"]))
            case ["acked", int() as receipt_id, *_]:
                self._answers.pop(receipt_id, None)
            case ["token", str() as token, *_]:
                self._token = token
            case _:
                raise ProtocolError(f"the server sent {frame!r:.200}")
        await self._notify()

    async def _show(self, message: Received, receipt: list[int]) -> None:
        self.received.append(message)
        self._unread.append(message)
        if message.delegate in self._delegates:
            # In a task of its own: a delegate may send, and its answer is read by the one that shows it.
            self._start(self._answer(message, receipt[0]) if receipt else self._run(message))
        else:
            self._questions += [(message, number) for number in receipt]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, message: Received) -> None:
        try:
            value = self._delegates[message.delegate](message.data)
            if inspect.isawaitable(value):
                await value
        except Exception as error:
            self.errors.append(error)

    async def _answer(self, message: Received, receipt: int) -> None:
        payload = None
        try:
            value = self._delegates[message.delegate](message.data)
            if inspect.isawaitable(value):
                value = await value
            if isinstance(value, bytes):
                value, payload = None, value
            frame = ["ack", receipt, True, value]
        except Exception as error:
            frame = ["ack", receipt, False, {"code": type(error).__name__, "message": str(error)}]
        self._answers[receipt] = (frame, payload)
        await self._write(frame, payload)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _wait_until(self, true: Callable[[], bool], timeout: float, what: str) -> None:
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(true)
        except TimeoutError:
            came = [message.delegate for message in self._unread]
            state = f"unread: {came}, close code: {self.close_code}{self._raised()}"
            raise AssertionError(f"no {what} in {timeout:g} s; {state}") from None

    def _raised(self) -> str:
        """What its delegates raised, which may be why something does not come."""
        return f"; page.errors: {self.errors}" if self.errors else ""


class _IncludeFinder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "script" and "data-pagews" in attributes:
            self.found = attributes


def find_include(html: str) -> dict[str, str | None]:
    """The attributes of the script include in a page."""
    finder = _IncludeFinder()
    finder.feed(html)
    assert finder.found is not None, "the page has no pagews include: put {{ pagews_script() }} into its template"
    return finder.found
