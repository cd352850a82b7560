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

#: What a connection that fails, hangs or is refused raises.
FAILURES: Final = (OSError, EOFError, TimeoutError, aiohttp.ClientError, InvalidHandshake, ConnectionClosed)

#: Seconds that a worker has to answer a request, and in which a page must hear something.
PATIENCE: Final = 3.0


class Browser:
    """One browser with one page at a time, which comes back until it is told not to; then it opens another.

    Arguments:
        urls: of the workers.
        topics, user: what its pages listen to, and who is logged in.
        sends: whether its pages send, by qos 2.

    Attributes:
        seen: every push that its pages were shown.
        unanswered: the sends of its page without a result, by number.
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
        self._token = await visitor.token("/?" + "&".join(f"topic={topic}" for topic in self._topics))
        self._document = new_document()
        self._epoch, self._seq = None, 0
        self.unanswered, self._answers = {}, {}
        channels = [f"topic:{topic}" for topic in self._topics] + ([f"user:{self._user}"] if self._user else [])
        self._write(opened=channels)

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
                await self._listen(wire, numbers)
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

    async def _listen(self, wire: Wire, numbers: itertools.count[int]) -> None:
        loop = asyncio.get_running_loop()
        hop = loop.time() + self._chance.uniform(0.2, 5.0)
        sending: asyncio.Task[None] | None = None
        try:
            while not self.hops or loop.time() < hop:
                async with asyncio.timeout(PATIENCE):
                    frame = read_down(await wire.next())
                    await self._take(wire, frame)
                if self._sends and sending is None and frame[0] == "welcome":
                    sending = asyncio.create_task(self._send_all(wire, numbers))
        finally:
            if sending is not None:
                sending.cancel()

    async def _send_all(self, wire: Wire, numbers: itertools.count[int]) -> None:
        with suppress(*FAILURES):
            while self.hops:
                await asyncio.sleep(self._chance.uniform(0.0, 1.0))
                number = next(numbers)
                data = {"document": self._document, "number": number}
                self.unanswered[number] = ["send", number, 2, "effect", data]
                await wire.send(*self.unanswered[number])

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
                    await wire.send(*waiting)
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
        if self.unanswered.pop(number, None) is not None:
            self._write(sent=number, ok=ok)

    def _write(self, **fields: Any) -> None:
        self._log.write(document=self._document, **fields)
