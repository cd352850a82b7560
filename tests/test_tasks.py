"""A time limit for many pieces of work: it stops what runs too long, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from pagews.tasks import TimeLimit


async def forever() -> None:
    await asyncio.Event().wait()


async def test_what_ends_in_time_is_left_alone() -> None:
    limit = TimeLimit(0.02)
    for _ in range(5):
        with limit.watch() as watched:
            await asyncio.sleep(0)
        assert not watched.expired
    await asyncio.sleep(0.05)  # beyond the deadline of what has ended


async def test_what_runs_too_long_is_stopped() -> None:
    limit = TimeLimit(0.02)
    with pytest.raises(TimeoutError), limit.watch() as watched:
        await forever()
    assert watched.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_has_its_own_deadline() -> None:
    limit = TimeLimit(0.05)
    loop = asyncio.get_running_loop()
    took = []

    async def work(delay: float) -> None:
        await asyncio.sleep(delay)
        began = loop.time()
        with pytest.raises(TimeoutError), limit.watch():
            await forever()
        took.append(loop.time() - began)

    await asyncio.gather(*(work(delay) for delay in (0, 0.01, 0.02, 0.07)))
    assert len(took) == 4
    assert min(took) >= 0.04


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    limit = TimeLimit(10)

    async def work() -> None:
        with limit.watch():
            await forever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_at_the_same_time_wins() -> None:
    limit = TimeLimit(0.01)
    running = asyncio.Event()

    async def work() -> None:
        with limit.watch() as watched:
            asyncio.get_running_loop().call_at(watched.deadline, task.cancel)
            running.set()
            await forever()

    task = asyncio.create_task(work())
    await running.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_the_work_raises_comes_through() -> None:
    with pytest.raises(KeyError), TimeLimit(10).watch():
        raise KeyError


async def test_limits_may_stand_in_each_other() -> None:
    short, long = TimeLimit(0.02), TimeLimit(10)
    with long.watch() as outer:
        with pytest.raises(TimeoutError), short.watch():
            await forever()
        await asyncio.sleep(0)
    assert not outer.expired


async def test_work_that_does_not_let_itself_be_stopped_ends_as_it_likes() -> None:
    with TimeLimit(0.01).watch() as watched:
        with pytest.raises(asyncio.CancelledError):
            await forever()
        value = "saved"
    assert value == "saved"
    assert watched.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
