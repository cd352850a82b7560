"""The jobs of pages: who gets their answers, and how they end."""

from __future__ import annotations

import asyncio

import pytest

from pagews import BrokerUnavailable, Text
from pagews.inbox import Job
from pagews.node import Arrival
from pagews.page import State
from pagews.page_jobs import PageJobs
from pagews.socket import Socket
from pagews.wire import Message

from .rig import Client, Passing, Rig, Wire, bare_context, turn


async def attached(drain_grace: float = 10.0) -> tuple[Rig, Client, PageJobs]:
    """A node, a page of it, and its jobs."""
    rig = await Rig(drain_grace=drain_grace).start()
    client = Client(rig)
    await client.attach()
    return rig, client, rig.node.jobs


def job(number: int, gate: asyncio.Event) -> Job:
    """A job that is done when it is let."""

    async def run() -> Message:
        await gate.wait()
        return Text(f'["result",{number},true,null]')

    return run


def failing(error: Exception) -> Job:
    async def run() -> Message:
        raise error

    return run


async def test_jobs_answer_to_the_newest_socket_of_their_document() -> None:
    _, client, jobs = await attached()
    gate = asyncio.Event()
    assert jobs.submit(client.page, client.socket, 1, job(1, gate))
    await client.detach()
    await client.attach()
    gate.set()
    await turn()
    assert client.frames[-1] == ["result", 1, True, None]


async def test_an_answer_is_not_for_another_document() -> None:
    rig, client, jobs = await attached()
    gate = asyncio.Event()
    assert jobs.submit(client.page, client.socket, 1, job(1, gate))
    await client.detach(left=True)
    other = Client(rig, document="other")
    await other.attach()
    gate.set()
    await turn()
    assert [frame[0] for frame in other.frames] == ["welcome"]
    assert jobs.at_work() == {}


async def test_nothing_is_answered_before_the_welcome() -> None:
    rig, client, jobs = await attached()
    gate = asyncio.Event()
    assert jobs.submit(client.page, client.socket, 1, job(1, gate))
    await client.detach()
    wire = Wire()
    socket = Socket(Passing(), bare_context(), wire, rig.node.output, rig.counters, rig.limits)
    welcome = await rig.node.attach(Arrival("p", "s", None, {}, rig.now, "d", 2, client.cursor), socket)
    assert welcome.page.stands(State.HOLDING)
    gate.set()
    await turn()
    assert wire.writes == []
    assert jobs.at_work() == {}


async def test_a_job_that_fails_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    rig, client, jobs = await attached()
    jobs.submit(client.page, client.socket, 1, failing(RuntimeError("boom")))
    await turn()
    assert client.frames[-1][:3] == ["result", 1, False]
    assert client.frames[-1][3]["code"] == "internal"
    assert "boom" in caplog.text
    assert rig.counters.failed == {"inbox": 1}


@pytest.mark.parametrize(("unknown", "code"), [(True, "outcome-unknown"), (False, "internal")])
async def test_a_job_that_the_broker_fails_says_whether_it_may_have_run(unknown: bool, code: str) -> None:
    rig, client, jobs = await attached()
    jobs.submit(client.page, client.socket, 1, failing(BrokerUnavailable("away", unknown=unknown)))
    await turn()
    assert client.frames[-1][3]["code"] == code
    assert rig.counters.failed == {}


async def test_who_is_at_work_for_a_page_that_has_come_back() -> None:
    _, client, jobs = await attached()
    gate, asker = asyncio.Event(), client.socket
    jobs.submit(client.page, asker, 1, job(1, gate))
    await client.detach()
    await client.attach()
    assert set(jobs.at_work()) == {asker, client.socket}
    gate.set()
    await jobs.finish()
    assert jobs.at_work() == {}


async def test_a_document_has_settled_for_its_last_asker_alone() -> None:
    _, client, jobs = await attached()
    gate, asker = asyncio.Event(), client.socket
    jobs.submit(client.page, asker, 1, job(1, gate))
    await client.detach()
    await client.attach()
    jobs.submit(client.page, client.socket, 2, job(2, gate))
    async with asyncio.timeout(5):
        await jobs.settled("p", "d", asker)
    settled = asyncio.create_task(jobs.settled("p", "d", client.socket))
    await turn()
    assert not settled.done()
    gate.set()
    await settled
    assert [frame[1] for frame in client.frames[1:]] == [1, 2]


async def test_jobs_have_the_drain_grace_to_finish(caplog: pytest.LogCaptureFixture) -> None:
    rig, client, jobs = await attached(drain_grace=0.01)
    jobs.submit(client.page, client.socket, 1, job(1, asyncio.Event()))
    await jobs.finish()
    assert rig.counters.dropped == {"delegates at drain": 1}
    assert "0.01 s" in caplog.text
    await jobs.stop()
    assert jobs.at_work() == {}
    assert [frame[0] for frame in client.frames] == ["welcome"]
