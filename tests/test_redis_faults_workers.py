"""Faults 8, 9 and 10: a worker is killed, stopped, or restarted under load. Its pages go on, on another one."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from pagews.tokens import new_key
from tests.ports import free_port
from tests.processes import serving_process
from tests.redis_server import RedisServer
from tests.redis_worker import LIMITS, table
from tests.sites import TestSite, serving
from tests.two_workers import OpenPage, attached, note, until
from tests.wire_client import Document, Visitor


class Other:
    """A worker in a process of its own, beside one in here; both are of one application.

    Attributes:
        site: the one in here.
        url: of the other one. process: that in which it runs.
    """

    def __init__(self, site: TestSite, url: str, process: asyncio.subprocess.Process) -> None:
        self.site = site
        self.url = url
        self.process = process

    async def kill(self) -> None:
        """End it as kill -9 does."""
        self.process.kill()
        await self.process.wait()

    @asynccontextmanager
    async def open_page(self, path: str = "/?topic=news") -> AsyncIterator[OpenPage]:
        """A page that is attached to the one in the process."""
        async with Visitor(self.url) as visitor, OpenPage(visitor, await visitor.token(path)) as page:
            yield page


@asynccontextmanager
async def beside_another(redis: RedisServer) -> AsyncIterator[Other]:
    key, port = new_key(), free_port()
    site = TestSite(key=key, broker=redis.url, limits=LIMITS, delegates=table)
    async with serving(site), serving_process("tests.redis_worker", port, key, redis.url) as process:
        yield Other(site, f"http://127.0.0.1:{port}", process)


async def test_fault_8_a_worker_is_killed_and_its_pages_resume_on_another(redis: RedisServer) -> None:
    async with beside_another(redis) as other, other.open_page() as page:
        topic = other.site.publisher.topic("news")
        for number in range(5):
            await topic.push("show", number)
        await other.kill()
        await page.until(lambda: page.closed is not None)
        for number in range(5, 10):
            await topic.push("show", number)
        await page.attach(other.site.url)
        await page.until_shown(*range(10))
        assert (page.lost, page.welcomes[-1]["resumed"], page.repeated) == ([None, None], True, 0)


async def test_fault_8_what_a_killed_worker_ran_is_outcome_unknown(redis: RedisServer) -> None:
    async with beside_another(redis) as other, other.open_page() as page:
        await page.send("send", 1, 2, "echo", "done")
        await page.until(lambda: 1 in page.results)
        await page.send("send", 2, 2, "hang", None)
        await page.until(lambda: bool(page.shown))
        await other.kill()
        killed = time.monotonic()
        await page.until(lambda: page.closed is not None)
        await page.attach(other.site.url)
        page.results.clear()
        # Sent again, for they were not answered.
        await page.send("send", 1, 2, "echo", "done")
        await page.send("send", 2, 2, "hang", None)
        await page.send("send", 3, 2, "echo", "after")
        await page.until(lambda: 3 in page.results)
        assert page.results[1] == [True, "done"]
        assert page.results[2][0] is False
        assert page.results[2][1]["code"] == "outcome-unknown"
        assert page.results[3] == [True, "after"]
        # Not before it was certain, and it has not run again.
        assert LIMITS.lease / 2 < time.monotonic() - killed < LIMITS.lease + 5
        assert len(page.shown) == 1


async def test_fault_8_a_killed_worker_is_told_of_once(redis: RedisServer) -> None:
    async with beside_another(redis) as other, other.open_page() as page:
        third = TestSite(key=other.site.key, broker=redis.url, limits=LIMITS)
        async with serving(third):
            detached, detached_too = note(other.site.publisher.on_detach), note(third.publisher.on_detach)
            assert await attached(third) == await attached(other.site) == [page.id]
            await other.kill()
            await until(lambda: is_attached_nowhere(third))
            assert await attached(other.site) == []
            await until(lambda: bool(detached + detached_too))
        assert detached + detached_too == [page.id]


async def is_attached_nowhere(site: TestSite) -> bool:
    return not await attached(site)


async def test_fault_9_a_worker_is_stopped_and_its_pages_have_moved_on(redis: RedisServer) -> None:
    async with beside_another(redis) as other, other.open_page() as page, other.open_page() as left_behind:
        topic = other.site.publisher.topic("news")
        await topic.push("show", 1)
        await page.until_shown(1)
        await left_behind.until_shown(1)
        other.process.send_signal(signal.SIGSTOP)
        try:
            await topic.push("show", 2)
            await until(lambda: is_attached_nowhere(other.site))
            await page.attach(other.site.url)
            await page.until_shown(1, 2)
            await page.send("send", 1, 2, "echo", "here")
            await page.until(lambda: 1 in page.results)
        finally:
            other.process.send_signal(signal.SIGCONT)
        # It finds out that it was taken for dead, and asks those that it still has to attach anew.
        await left_behind.until(lambda: left_behind.closed is not None)
        assert left_behind.closed is not None
        assert left_behind.closed.code == 1012
        await left_behind.attach()
        await left_behind.until_shown(1, 2)
        # The one that has moved on is left alone, wherever its old owner was.
        assert page.closed is None
        await topic.push("show", 3)
        for each in (page, left_behind):
            await each.until_shown(1, 2, 3)
            assert (each.lost, each.repeated) == ([None, None], 0)
        assert await attached(other.site) == sorted([page.id, left_behind.id])


async def test_fault_10_a_rolling_restart_under_load_loses_nothing(redis: RedisServer) -> None:
    key, port, topics, pages = new_key(), free_port(), 4, 24
    pusher = TestSite(key=key, broker=redis.url, limits=LIMITS)
    pushed: dict[str, list[int]] = {f"t{number}": [] for number in range(topics)}
    stopping = False

    async def push(name: str) -> None:
        while not stopping:
            number = len(pushed[name])
            pushed[name].append(number)
            await pusher.publisher.topic(name).push("show", number)
            await asyncio.sleep(0.05)

    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(serving_process("tests.redis_worker", port, key, redis.url))
            for _ in range(2)
        ]
        await stack.enter_async_context(serving(pusher))
        visitors = [await stack.enter_async_context(Visitor(f"http://127.0.0.1:{port}")) for _ in range(topics)]
        documents: list[tuple[str, Document]] = []
        for number in range(pages):
            name, visitor = f"t{number % topics}", visitors[number % topics]
            document = Document(visitor, await visitor.token(f"/?topic={name}"))
            documents.append((name, await stack.enter_async_context(document)))
        for _, document in documents:
            await document.until(has_been_welcomed(1))
        pushing = [asyncio.create_task(push(name)) for name in pushed]
        for worker in workers:
            for _, document in documents:
                await document.send("echo", len(document.results), qos=2)
            await stack.enter_async_context(serving_process("tests.redis_worker", port, key, redis.url))
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(worker.wait(), 20) == 0
        stopping = True
        await asyncio.gather(*pushing)
        for name, document in documents:
            await document.until(has_shown(pushed[name]))
            assert [push.data for push in document.received] == pushed[name]
            await document.until(lambda document: document.unanswered == 0)
            assert document.results == {1: [True, 0], 2: [True, 1]}
            assert {close.code for close in document.closes} <= {1012, 1006}
        assert sum(len(document.welcomes) > 1 for _, document in documents) > pages / 2


def has_been_welcomed(times: int) -> Callable[[Document], bool]:
    return lambda document: len(document.welcomes) >= times


def has_shown(data: list[int]) -> Callable[[Document], bool]:
    return lambda document: len(document.received) >= len(data)
