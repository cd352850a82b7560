"""The browsers of `make chaos`: pages that hop between the workers, and log what they are shown."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import aiohttp
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.down_frames import read_down
from tests.wire_client import POLLS, TRANSPORTS, SocketClosed, Visitor, Wire, new_document
from tools.chaos_log import ChaosLog
from tools.chaos_worker import JOINED, USERS

#: What a connection that fails, hangs or is refused raises.
FAILURES: Final = (OSError, EOFError, TimeoutError, aiohttp.ClientError, InvalidHandshake, ConnectionClosed)

#: Seconds that a worker has to answer a request, and in which a page must hear something.
PATIENCE: Final = 3.0

#: Once in so many things that it does, a page joins or leaves a topic, uploads a file, or its browser logs in or out.
TOPICS: Final = 5
UPLOADS: Final = 8
LOGINS: Final = 40
#: The bytes of a file.
FILE: Final = b"x" * 100_000


class Browser:
    """One browser with one page at a time, which comes back until it is told not to; then it opens another.

    Arguments:
        urls: of the workers.
        topics, user: what its pages listen to, and who is logged in.
        sends: whether its pages send by qos 2, join and leave topics, upload files, and log in and out.

    Attributes:
        seen: every push that its pages were shown.
        unanswered: what its page has asked for and has no result, by number.
        hops: cleared when it is to stay where it is, and to send no more.
    """

    def __init__(
        self,
        urls: Sequence[str],
        log: ChaosLog,
        chance: random.Random,
        *,
        topics: Sequence[str],
        user: str | None,
        sends: bool,
    ) -> None:
        self.seen: set[str] = set()
        self.unanswered: dict[int, list[Any]] = {}
        self.hops = True
        self._urls = urls
        self._log = log
        self._chance = chance
        self._topics = topics
        self._sends = sends
        self._user = user
        self._document = ""
        self._token = ""
        self._epoch: str | None = None
        self._seq = 0
        self._answers: dict[int, list[Any]] = {}
        #: What it has not asked for yet, and what it has joined: each topic once.
        self._topics_left: list[str] = []
        self._joined: list[str] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        async with Visitor(self._urls[0]) as visitor:
            while True:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._open(visitor)
                except (*FAILURES, AssertionError):
                    await asyncio.sleep(0.2)
                    continue
                await self._live(visitor)

    async def _open(self, visitor: Visitor) -> None:
        visitor.url = self._chance.choice(self._urls)
        if self._user is not None:
            assert await visitor.get(f"/login?user={self._user}") == 200
        query = "&".join(f"topic={topic}" for topic in self._topics)
        async with visitor.http.get(f"{visitor.url}/page?{query}") as response:
            assert response.status == 200
            page = await response.json()
        self._token = page["token"]
        self._document = new_document()
        self._epoch, self._seq = None, 0
        self.unanswered, self._answers = {}, {}
        self._topics_left, self._joined = list(JOINED), []
        self._write(opened=page["channels"])

    async def _live(self, visitor: Visitor) -> None:
        """One page, until it does not come back."""
        numbers = itertools.count(1)
        for attempt in itertools.count(1):
            visitor.url = self._chance.choice(self._urls)
            wire: Wire | None = None
            try:
                async with asyncio.timeout(PATIENCE):
                    wire = await visitor.open(self._chance.choice(TRANSPORTS))
                    await self._greet(wire, attempt)
                await self._listen(visitor, wire, numbers)
            except SocketClosed as end:
                if end.code >= 4500:
                    self._write(ended=end.code)
                    return
            except FAILURES:
                pass
            finally:
                if wire is not None:
                    wire.cut()
            await asyncio.sleep(self._chance.uniform(0.0, 0.3))

    async def _greet(self, wire: Wire, attempt: int) -> None:
        cursor = {} if self._epoch is None else {"epoch": self._epoch, "seq": self._seq}
        hello = {"token": self._token, "document": self._document, "attempt": attempt * POLLS, **cursor}
        await wire.send("hello", hello)

    async def _listen(self, visitor: Visitor, wire: Wire, numbers: itertools.count[int]) -> None:
        loop = asyncio.get_running_loop()
        hop = loop.time() + self._chance.uniform(0.2, 5.0)
        sending: asyncio.Task[None] | None = None
        try:
            while not self.hops or loop.time() < hop:
                async with asyncio.timeout(PATIENCE):
                    frame = read_down(await wire.next())
                    await self._take(wire, frame)
                if self._sends and sending is None and frame[0] == "welcome":
                    sending = asyncio.create_task(self._act(visitor, wire, numbers))
        finally:
            if sending is not None:
                sending.cancel()

    async def _act(self, visitor: Visitor, wire: Wire, numbers: itertools.count[int]) -> None:
        """One thing after the other that a page does by itself."""
        with suppress(*FAILURES):
            while self.hops:
                await asyncio.sleep(self._chance.uniform(0.0, 1.0))
                number = next(numbers)
                if self._chance.randrange(LOGINS) == 0:
                    await self._change_user(visitor)
                elif self._chance.randrange(UPLOADS) == 0:
                    await self._upload(visitor, number)
                elif self._chance.randrange(TOPICS) == 0:
                    await self._change_topics(wire, number)
                else:
                    data = {"document": self._document, "number": number}
                    await self._ask(wire, "send", number, 2, "effect", data)

    async def _ask(self, wire: Wire, *frame: Any) -> None:
        """Ask for what has a result, and again on every socket until it has come."""
        self.unanswered[frame[1]] = list(frame)
        await self._send(wire, list(frame))

    async def _send(self, wire: Wire, frame: list[Any]) -> None:
        if frame[0] in ("join", "leave"):
            self._write(asks=frame[0], topic=frame[2])
        await wire.send(*frame)

    async def _change_topics(self, wire: Wire, number: int) -> None:
        """Join a topic, or leave one."""
        if self._joined and self._chance.random() < 0.5:
            await self._ask(wire, "leave", number, self._joined.pop())
        elif self._topics_left:
            await self._ask(wire, "join", number, self._topics_left.pop())

    async def _change_user(self, visitor: Visitor) -> None:
        """Log in or out, in another tab: its page is of a session that has ended then."""
        path = self._chance.choice(("/logout", *(f"/login?user={user}" for user in USERS)))
        url = self._chance.choice(self._urls)
        async with asyncio.timeout(PATIENCE), visitor.http.get(url + path) as response:
            if response.status == 200:
                self._write(rotated=path)

    async def _upload(self, visitor: Visitor, number: int) -> None:
        """A form with a file; when its answer is lost once more, at another worker."""
        own = {"token": self._token, "delegate": "upload", "document": self._document, "id": str(number)}
        own |= {"epoch": self._epoch or ""}
        for _ in range(2):
            url = self._chance.choice(self._urls)
            form = aiohttp.FormData({f"pagews.{name}": value for name, value in own.items()})
            form.add_fields(("document", self._document), ("number", str(number)))
            form.add_field("file", FILE, filename="file.bin", content_type="application/octet-stream")
            headers = {"Accept": "application/json", "Origin": url}
            with suppress(*FAILURES):
                async with (
                    asyncio.timeout(PATIENCE),
                    visitor.http.post(f"{url}/pagews/form", data=form, headers=headers) as response,
                ):
                    if response.content_type == "application/json":
                        self._write(uploaded=number, ok=(await response.json())["ok"])
                        return

    async def _take(self, wire: Wire, frame: list[Any]) -> None:
        match frame:
            case ["welcome", dict() as said]:
                self._write(welcome={name: said[name] for name in ("page", "epoch", "seq", "lost", "forked")})
                if said["lost"] == "epoch":
                    # Rule 25: nobody knows any more what has run.
                    for number in list(self.unanswered):
                        self._answered(number, ok=False)
                if said["lost"] or self._epoch is None:
                    self._epoch, self._seq = said["epoch"], said["seq"]
                self._token = said["token"] or self._token
                for waiting in [*self.unanswered.values(), *self._answers.values()]:
                    await self._send(wire, waiting)
            case ["push", seq, _, _, push, *receipt]:
                if seq <= self._seq:
                    return
                self._seq = seq
                self._write(shown=push, seq=seq)
                self.seen.add(push)
                if receipt:
                    self._answers[receipt[0]] = ["ack", receipt[0], True, push]
                    await wire.send(*self._answers[receipt[0]])
            case ["ping", seq]:
                if seq > self._seq:
                    self._seq = seq
                    self._write(ping=seq)
                await wire.send("pong")
            case ["acked", receipt]:
                self._answers.pop(receipt, None)
            case ["result", number, ok, _]:
                self._answered(number, ok=ok)
            case ["token", token]:
                self._token = token

    def _answered(self, number: int, *, ok: bool) -> None:
        frame = self.unanswered.pop(number, None)
        if frame is None:
            return
        if frame[0] == "send":
            self._write(sent=number, ok=ok)
        else:
            self._write(answered=frame[0], topic=frame[2], ok=ok)
            if ok and frame[0] == "join":
                self._joined.append(frame[2])

    def _write(self, **fields: Any) -> None:
        self._log.write(document=self._document, **fields)
