"""Two hosts, of which one has Redis, and the cable between them is cut: as a black hole, not as a closed port.

The pages of the host that is cut off stay, or go to the other one; what is pushed meanwhile is missing nowhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.hosts import Host, HostsForbidden, check_hosts, two_hosts
from tests.two_workers import TIMES, OpenPage, until
from tests.wire_client import Visitor


@pytest.fixture(scope="module", autouse=True)
def hosts_are_possible() -> None:
    """Says why there can be no two hosts here."""
    try:
        check_hosts()
    except (HostsForbidden, FileNotFoundError) as error:
        pytest.skip(str(error))


@asynccontextmanager
async def open_page(host: Host) -> AsyncIterator[OpenPage]:
    """A page that a browser of its own has rendered, and attached, at one host."""
    async with Visitor(host.url) as visitor, OpenPage(visitor, await visitor.token("/?topic=news")) as page:
        yield page


async def push(host: Host, data: int) -> None:
    """A push that succeeds."""
    assert not (await host.push(data)).failed


async def push_when_back(host: Host, data: int) -> None:
    """A push that is repeated until it succeeds."""

    async def has_pushed() -> bool:
        return not (await host.push(data)).failed

    await until(has_pushed)


async def test_the_pages_of_a_host_that_is_cut_off_stay_and_read_on(redis_program: Path, tmp_path: Path) -> None:
    async with (
        two_hosts(redis_program, tmp_path, lease=30.0) as (one, two, cable),
        open_page(one) as here,
        open_page(two) as there,
        open_page(two) as moving,
    ):
        await push(two, 0)
        await push(one, 1)
        for page in (here, there, moving):
            await page.until_shown(0, 1)

        await cable.cut()
        await push(one, 2)
        # Nobody tells host two: it takes the time limit to find out, and from then on it knows.
        late = await two.push(3)
        assert (late.failed, late.unknown) == (True, True)
        assert TIMES["broker"] / 2 < late.seconds < TIMES["broker"] + 2
        await until(lambda: is_known_to_be_away(two))
        await here.until_shown(0, 1, 2)

        # Its browser reaches the other host; the socket that it had is half open.
        await moving.attach(one.url)
        await moving.until_shown(0, 1, 2)
        await push(one, 4)
        for page in (here, moving):
            await page.until_shown(0, 1, 2, 4)
        assert there.shown == [0, 1]
        assert await two.attached_here() == 2

        await cable.mend()
        # What may have happened has happened once, whenever it is said again.
        await push_when_back(two, 3)
        await push(two, 5)
        await push(one, 6)
        for page in (here, there, moving):
            await page.until(partial(has_shown, page, 6))
            assert sorted(page.shown) == list(range(7))
            assert page.shown == here.shown
            assert (page.closed, set(page.lost), page.repeated) == (None, {None}, 0)
        assert [len(page.welcomes) for page in (here, there, moving)] == [1, 1, 2]
        for host in (one, two):
            assert await are_attached(host, here, there, moving)


async def test_the_pages_of_a_host_that_was_taken_for_dead_come_back(redis_program: Path, tmp_path: Path) -> None:
    async with (
        two_hosts(redis_program, tmp_path, lease=2.5) as (one, two, cable),
        open_page(one) as here,
        open_page(two) as there,
        open_page(two) as moving,
    ):
        await push(two, 0)
        for page in (here, there, moving):
            await page.until_shown(0)

        await cable.cut()
        await push(one, 1)
        await until(lambda: are_attached(one, here))
        # It is taken for dead, and still has its pages.
        assert await two.attached_here() == 2
        assert (there.closed, moving.closed) == (None, None)
        await moving.attach(one.url)
        await push(one, 2)
        for page in (here, moving):
            await page.until_shown(0, 1, 2)

        await cable.mend()
        await there.until(lambda: there.closed is not None)
        assert there.closed is not None
        assert there.closed.code == 1012
        await there.attach()
        await push_when_back(two, 3)
        await push(one, 4)
        for page in (here, there, moving):
            await page.until_shown(0, 1, 2, 3, 4)
            assert (page.closed, set(page.lost), page.repeated) == (None, {None}, 0)
        await until(lambda: are_attached(one, here, there, moving))
        await until(lambda: are_attached(two, here, there, moving))


def has_shown(page: OpenPage, data: int) -> bool:
    return data in page.shown


async def is_known_to_be_away(host: Host) -> bool:
    pushed = await host.push(3)
    return pushed.failed and not pushed.unknown and pushed.seconds < TIMES["broker"] / 2


async def are_attached(host: Host, *pages: OpenPage) -> bool:
    return sorted(await host.pages()) == sorted(page.id for page in pages)
