"""Work that goes on behind a page while its delegate has long answered, and when the worker dies that did it."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pagews

PAUSE = 0.5  # seconds, while the broker is away
SILENCE = 1.0  # seconds after which whoever does it counts as dead

State = dict[str, Any]
Step = Callable[[pagews.Page, State], Awaitable[State | None]]


class PageWork:
    """Work in steps: at most one for a page, and ``limit`` in all in this process; none outlives a page that is gone.

    How far it is, is kept with the page. So the worker that has the page goes on where the last one was killed, and a
    step that was half done is done again: ``step`` takes the state before it, returns the one after it, or None at the
    end, and gives what it pushes an idempotency key.
    """

    def __init__(self, name: str, step: Step, limit: int) -> None:
        self.limit = limit
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._name = name
        self._step = step
        self._claims: dict[str, State] = {}
        self._watched: set[str] = set()

    async def start(self, page: pagews.Page, state: State) -> None:
        """Begins in place of what runs for the page; raises `DelegateError` ``busy`` at the limit."""
        if len(self.tasks.keys() - {page.id}) >= self.limit:
            raise pagews.DelegateError("busy", "Too many others do this just now. Try again in a moment.")
        job = f"{self._name}:{secrets.token_hex(4)}"
        await self._keep(page, job, state)
        before = await page.get(self._name)
        await self._take(page, job)
        if before is not None:
            await page.set(before["job"], None)

    async def stop(self, page: pagews.Page) -> bool:
        """Ends what runs for the page, in whichever process; False when nothing does."""
        before = await page.get(self._name)
        if before is None:
            return False
        await self._forget(page, before["job"])
        return True

    async def go_on(self, page: pagews.Page) -> None:
        """The page has attached here: takes over what runs for it elsewhere, or ran where nobody is any more."""
        await self._take_over(page, silence=0.0)
        if page.id not in self._watched:
            page.create_task(self._watch(page))

    async def _watch(self, page: pagews.Page) -> None:
        # What begins it need not come to the worker that has the page: a page without a WebSocket sends by requests.
        self._watched.add(page.id)
        try:
            while page.attached:
                await asyncio.sleep(SILENCE)
                with suppress(pagews.BrokerUnavailable, pagews.PageGone):
                    await self._take_over(page, silence=SILENCE)
        finally:
            self._watched.discard(page.id)

    async def _take_over(self, page: pagews.Page, silence: float) -> None:
        claim = await page.get(self._name)
        if claim is None or self._claims.get(page.id) == claim or len(self.tasks) >= self.limit:
            return
        kept = await page.get(claim["job"])
        if kept is not None and time.time() - kept["at"] >= silence:
            await self._take(page, claim["job"])

    async def _take(self, page: pagews.Page, job: str) -> None:
        # Whoever had it before looks at this before each step, and ends.
        claim = {"job": job, "by": secrets.token_hex(4)}
        await page.set(self._name, claim)
        self._claims[page.id] = claim
        self.tasks[page.id] = task = page.create_task(self._run(page, claim))
        task.add_done_callback(lambda done: self._ended(page.id, done))

    async def _run(self, page: pagews.Page, claim: State) -> None:
        with suppress(pagews.PageGone):
            while True:
                try:
                    if not await self._go(page, claim):
                        return
                except pagews.BrokerUnavailable:
                    await asyncio.sleep(PAUSE)

    async def _go(self, page: pagews.Page, claim: State) -> bool:
        """One step; False when there is none to do any more, or another one does it."""
        kept = await page.get(claim["job"])
        if kept is None or await page.get(self._name) != claim:
            return False
        state = await self._step(page, kept["state"])
        if state is None:
            await self._forget(page, claim["job"])
        else:
            await self._keep(page, claim["job"], state)
        return state is not None

    async def _keep(self, page: pagews.Page, job: str, state: State) -> None:
        await page.set(job, {"at": time.time(), "state": state})

    async def _forget(self, page: pagews.Page, job: str) -> None:
        await page.set(self._name, None)
        await page.set(job, None)

    def _ended(self, page_id: str, task: asyncio.Task[None]) -> None:
        if self.tasks.get(page_id) is task:
            del self.tasks[page_id], self._claims[page_id]
