"""Tasks that run for a page."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from pagews import PageGone

from .rig import Client, Rig, turn


class Work:
    """A coroutine's life, as a test sees it."""

    def __init__(self) -> None:
        self.began = False
        self.cancelled = False
        self.go_on = asyncio.Event()

    async def __call__(self) -> str:
        self.began = True
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


async def test_a_task_outlives_a_cut_and_ends_with_its_page() -> None:
    rig = await Rig(retention=60.0).start()
    client, work, other = Client(rig), Work(), Work()
    await client.attach()
    task, stays = rig.node.tasks.create("p", work()), rig.node.tasks.create("q", other())
    await client.detach()
    rig.pass_time(59)
    await turn()
    assert work.began
    assert not task.done()
    await client.attach()
    await client.detach()
    await Client(rig, "q").attach()
    rig.pass_time(62)
    await turn()
    assert work.cancelled
    assert task.cancelled()
    assert rig.events[-1] == ("gone", "p")
    assert not stays.done()
    other.go_on.set()
    assert await stays == "done"
    assert rig.node.tasks._tasks == {}
    assert rig.counters.failed == {}


async def test_a_task_ends_with_the_grace_after_a_goodbye() -> None:
    rig = await Rig(grace=10.0).start()
    client, work = Client(rig), Work()
    await client.attach()
    task = rig.node.tasks.create("p", work())
    await client.detach(left=True)
    rig.pass_time(9)
    await turn()
    assert not task.done()
    rig.pass_time(2)
    await turn()
    assert task.cancelled()


async def test_a_task_goes_on_when_another_document_takes_the_page_over_within_the_grace() -> None:
    rig = await Rig(grace=10.0).start()
    first, second, work = Client(rig, document="one"), Client(rig, document="two"), Work()
    await first.attach()
    task = rig.node.tasks.create("p", work())
    await first.detach(left=True)
    rig.pass_time(5)
    await second.attach()
    rig.pass_time(20)
    await turn()
    assert not task.done()
    task.cancel()


async def test_a_page_that_is_closed_for_good_ends_its_tasks() -> None:
    rig = await Rig().start()
    client, work = Client(rig), Work()
    await client.attach()
    task = rig.node.tasks.create("p", work())
    await turn()
    await rig.node.end_page("p", 4509, "enough")
    await turn()
    assert task.cancelled()


async def test_a_task_of_a_page_that_never_attaches_ends_after_the_retention() -> None:
    rig = await Rig(retention=60.0).start()
    work = Work()
    task = rig.node.tasks.create("p", work())
    await turn()
    rig.pass_time(59)
    await turn()
    assert not task.done()
    rig.pass_time(3)
    await turn()
    assert task.cancelled()
    assert rig.events == []


async def test_a_page_that_is_gone_gets_no_task() -> None:
    rig = await Rig().start()
    await Client(rig).attach()
    await rig.node.end_page("p", 4509, "enough")
    work = Work()
    with pytest.raises(PageGone, match="has ended"):
        await rig.node.tasks.create("p", work())
    assert not work.began
    assert rig.counters.failed == {"task": 1}


@pytest.mark.filterwarnings("error")
async def test_an_exception_is_logged_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = await Rig().start()

    async def fail() -> None:
        raise ValueError("out of paper")

    task = rig.node.tasks.create("p", fail())
    await turn()
    [record] = caplog.records
    assert re.fullmatch(r"task '.*\.fail' of a page failed", record.getMessage())
    assert rig.counters.failed == {"task": 1}
    with pytest.raises(ValueError, match="out of paper"):
        await task
    caplog.clear()
    del task
    await turn()
    assert caplog.records == []


async def test_the_cancellation_of_something_else_is_a_failure() -> None:
    rig = await Rig().start()

    async def wait_for_another() -> None:
        another = asyncio.create_task(asyncio.Event().wait())
        another.cancel()
        await another

    task = rig.node.tasks.create("p", wait_for_another())
    await turn()
    assert task.done()
    assert rig.counters.failed == {"task": 1}


async def test_a_task_that_is_cancelled_by_the_application_is_no_failure() -> None:
    rig = await Rig().start()
    work = Work()
    task = rig.node.tasks.create("p", work())
    await turn()
    task.cancel()
    await turn()
    assert work.cancelled
    assert rig.counters.failed == {}


@pytest.mark.filterwarnings("error")
async def test_a_task_that_is_cancelled_before_it_begins_leaves_nothing() -> None:
    rig = await Rig().start()
    work = Work()
    rig.node.tasks.create("p", work()).cancel()
    await turn()
    assert not work.began
    assert rig.node.tasks._tasks == {}


async def test_a_process_that_stops_ends_all_tasks_and_takes_no_more() -> None:
    rig = await Rig().start()
    work, late = Work(), Work()
    task = rig.node.tasks.create("p", work())
    await turn()
    await rig.node.stop()
    assert task.cancelled()
    assert work.cancelled
    too_late = rig.node.tasks.create("p", late())
    await turn()
    assert too_late.cancelled()
    assert not late.began


async def test_a_task_that_does_not_end_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    rig = await Rig(drain_grace=0.01).start()
    go_on = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()

    task = rig.node.tasks.create("p", stubborn())
    await turn()
    await rig.node.stop()
    assert not task.done()
    assert "tasks of pages still run 0.01 s after they were cancelled" in caplog.text
    assert rig.counters.dropped == {"tasks at drain": 1}
    go_on.set()
    await asyncio.wait([task])


@pytest.mark.parametrize("work", [None, Work.__call__, asyncio.sleep])
async def test_what_is_no_coroutine(work: Any) -> None:
    rig = await Rig().start()
    with pytest.raises(TypeError, match="takes a coroutine"):
        rig.node.tasks.create("p", work)
