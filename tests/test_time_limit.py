"""A time limit for many pieces of work: it stops what runs too long, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from pagews.time_limit import LATE, RESPITE, Countdown, TimeLimit


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
    limit = TimeLimit(0.1)
    loop = asyncio.get_running_loop()
    took = []

    async def work(delay: float) -> None:
        await asyncio.sleep(delay)
        began = loop.time()
        with pytest.raises(TimeoutError), limit.watch():
            await forever()
        took.append(loop.time() - began)

    # All begin before the first has run out: the timer of that one has to serve the others.
    async with asyncio.timeout(10):
        await asyncio.gather(*(work(delay) for delay in (0, 0.02, 0.04, 0.06)))
    assert len(took) == 4
    assert min(took) >= 0.09
    assert max(took) < 5


async def test_one_that_begins_when_the_others_have_run_out() -> None:
    limit = TimeLimit(0.02)
    for _ in range(3):
        async with asyncio.timeout(10):
            with pytest.raises(TimeoutError), limit.watch():
                await forever()


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


# --- a loop that stood still ------------------------------------------------------------------------------------------


def block(seconds: float) -> None:
    """The loop stands still."""
    time.sleep(seconds)


async def test_what_needs_little_more_is_not_stopped_for_a_loop_that_stood_still() -> None:
    with TimeLimit(0.1).watch() as watched:
        asyncio.get_running_loop().call_soon(block, 0.1 + 3 * LATE)
        await asyncio.sleep(0.02)
        await asyncio.sleep(0.02)
    assert not watched.expired


async def test_what_hangs_is_stopped_though_the_loop_stood_still() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(10):
        loop.call_soon(block, 0.1 + 3 * LATE)
        with pytest.raises(TimeoutError), TimeLimit(0.1).watch():
            await forever()
    assert loop.time() - began >= 0.1 + 3 * LATE + RESPITE - 0.01


async def test_what_lies_there_already_is_looked_at_before_anything_is_stopped() -> None:
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    ended: list[str] = []
    loop = asyncio.get_running_loop()
    try:
        with TimeLimit(0.05).watch() as watched:
            countdown = Countdown(0.05, lambda: ended.append("ran out"))
            there.send(b"x")
            # Just late: not by so much that a respite is given.
            loop.call_soon(block, 0.05 + LATE / 10)
            await reader.readexactly(1)
            countdown.cancel()
        await asyncio.sleep(0.1)
    finally:
        writer.close()
        there.close()
    assert not watched.expired
    assert ended == []


async def test_a_countdown_calls_back_once_it_has_run_out() -> None:
    called = asyncio.Event()
    loop = asyncio.get_running_loop()
    began = loop.time()
    Countdown(0.05, called.set)
    async with asyncio.timeout(10):
        await called.wait()
    assert loop.time() - began >= 0.04


@pytest.mark.parametrize("blocked", [0.0, 0.05 + 3 * LATE])
async def test_a_countdown_can_be_cancelled_until_it_calls_back(blocked: float) -> None:
    called: list[bool] = []
    countdown = Countdown(0.05, lambda: called.append(True))
    block(blocked)
    await asyncio.sleep(0)
    countdown.cancel()
    await asyncio.sleep(RESPITE + 0.1 if blocked else 0.1)
    assert called == []
