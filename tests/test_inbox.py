"""What a page asks of the server, one after the other."""

from __future__ import annotations

import asyncio

from pagews.inbox import Inbox, Job
from pagews.wire import Message, Text


class Desk:
    """An inbox whose answers are kept."""

    def __init__(self, bound: int = 10) -> None:
        self.answers: list[str] = []
        self.idle = asyncio.Event()
        self.inbox = Inbox(self._answer, bound, 100, self.idle.set)

    def _answer(self, message: Message, last: bool) -> None:
        assert isinstance(message, Text)
        self.answers.append(message.data)


def job(name: str, gate: asyncio.Event | None = None, ran: list[str] | None = None) -> Job:
    async def run() -> Message | None:
        if ran is not None:
            ran.append(name)
        if gate is not None:
            await gate.wait()
        return Text(name) if name else None

    return run


async def test_jobs_run_one_after_the_other() -> None:
    desk, gate, ran = Desk(), asyncio.Event(), list[str]()
    assert desk.inbox.submit(1, job("one", gate, ran))
    assert desk.inbox.submit(2, job("two", None, ran))
    assert desk.inbox.submit(3, job(""))
    await asyncio.sleep(0)
    assert ran == ["one"]
    gate.set()
    await desk.idle.wait()
    assert (ran, desk.answers) == (["one", "two"], ["one", "two"])


async def test_a_job_that_waits_or_runs_is_not_taken_again() -> None:
    desk, gate, ran = Desk(), asyncio.Event(), list[str]()
    for number in (1, 2, 1, 2):
        assert desk.inbox.submit(number, job(str(number), gate, ran))
    gate.set()
    await desk.idle.wait()
    assert ran == desk.answers == ["1", "2"]
    desk.idle.clear()
    assert desk.inbox.submit(1, job("1", None, ran))
    await desk.idle.wait()
    assert ran == ["1", "2", "1"]


async def test_who_wants_to_know_when_it_is_done() -> None:
    desk, gate, told = Desk(), asyncio.Event(), list[str]()
    desk.inbox.when_done(lambda: told.append("nothing to do"))
    assert told == ["nothing to do"]
    assert desk.inbox.submit(1, job("1", gate))
    assert desk.inbox.submit(2, job("2"))
    desk.inbox.when_done(lambda: told.append(",".join(desk.answers)))
    await asyncio.sleep(0)
    assert len(told) == 1
    gate.set()
    await desk.inbox.done()
    await asyncio.sleep(0)
    assert told[1:] == ["1,2"]


async def test_how_many_may_wait() -> None:
    desk, gate = Desk(bound=2), asyncio.Event()
    assert desk.inbox.submit(1, job("1", gate))
    await asyncio.sleep(0)
    assert desk.inbox.submit(2, job("2"))
    assert desk.inbox.submit(3, job("3"))
    assert not desk.inbox.submit(4, job("4"))
    gate.set()
    await desk.idle.wait()
    assert desk.answers == ["1", "2", "3"]


async def test_stop_cancels_what_runs_and_forgets_what_waits() -> None:
    desk, ran = Desk(), list[str]()
    desk.inbox.submit(1, job("1", asyncio.Event(), ran))
    desk.inbox.submit(2, job("2", None, ran))
    await asyncio.sleep(0)
    await desk.inbox.stop()
    assert desk.idle.is_set()
    assert (ran, desk.answers) == (["1"], [])


async def test_how_many_bytes_may_wait() -> None:
    desk, gate = Desk(), asyncio.Event()
    assert desk.inbox.submit(1, job("1", gate), 90)
    await asyncio.sleep(0)
    assert desk.inbox.submit(2, job("2"), 90)
    assert not desk.inbox.submit(3, job("3"), 90)
    assert desk.inbox.submit(4, job("4"), 10)
    gate.set()
    await desk.idle.wait()
    assert desk.answers == ["1", "2", "4"]
