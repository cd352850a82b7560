"""Whose cancellation it is."""

from __future__ import annotations

import asyncio

import pytest

from pagews.tasks import is_own_end


async def wait_for(work: asyncio.Future[None], seen: list[bool]) -> None:
    """Wait for something else, and note whose end an end of the waiting is."""
    try:
        await work
    except (Exception, asyncio.CancelledError) as error:
        seen.append(is_own_end(error))


async def ended(how: str) -> bool:
    """Whether a task takes it for its own end that something ends in this way."""
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seen: list[bool] = []
    task = asyncio.create_task(wait_for(work, seen))
    await asyncio.sleep(0)
    if how == "its own end":
        task.cancel()
    elif how == "the end of what it waits for":
        work.cancel()
    else:
        work.set_exception(KeyError())
    await task
    return seen[0]


@pytest.mark.parametrize(
    ("how", "own"), [("its own end", True), ("the end of what it waits for", False), ("an error", False)]
)
async def test_whose_end_it_is(how: str, own: bool) -> None:
    assert await ended(how) is own


def test_outside_of_any_task_nothing_is_ones_own() -> None:
    async def look() -> None:
        asyncio.get_running_loop().call_soon(lambda: seen.append(is_own_end(asyncio.CancelledError())))
        await asyncio.sleep(0)

    seen: list[bool] = []
    asyncio.run(look())
    assert seen == [False]
