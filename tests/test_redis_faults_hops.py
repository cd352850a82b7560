"""What is begun on one worker and ended on another: pages that hop, questions, topics, closes, the end of pages."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from pagews import DelegateTableDef, Limits, Page, PageGone, redis_bus
from tests.broker_bench import RedisDesk
from tests.redis_server import RedisServer
from tests.sites import TestSite
from tests.two_workers import TIMES, attached, broker_of, note, open_page, two_workers, until

NEWS: Final = "/?topic=news"


class Held:
    """A delegate that is held until the test lets it go on."""

    def __init__(self) -> None:
        self.table = DelegateTableDef()
        self.runs: list[object] = []
        self.started = asyncio.Event()
        self.go = asyncio.Event()

        @self.table.on("held")
        async def held(page: Page, data: object) -> object:
            self.runs.append(data)
            self.started.set()
            await self.go.wait()
            return data


@pytest.mark.parametrize("hops", [1, 2])
async def test_rule_25_a_send_that_runs_elsewhere_is_waited_for(redis: RedisServer, hops: int) -> None:
    held = Held()
    async with two_workers(redis.url, delegates=held.table) as (a, b), open_page(a) as page:
        await page.send("send", 1, 2, "held", "data")
        await held.started.wait()
        await page.attach(b.url)
        await page.send("send", 1, 2, "held", "data")
        if hops == 2:
            # Once more, while the first question is still waited with.
            await asyncio.gather(broker_of(a).probe(), broker_of(b).probe())
            await page.attach(b.url)
            await page.send("send", 1, 2, "held", "data")
        await asyncio.gather(broker_of(a).probe(), broker_of(b).probe())
        assert page.results == {}
        held.go.set()
        await page.until(lambda: 1 in page.results)
        assert page.results == {1: [True, "data"]}
        assert held.runs == ["data"]


async def test_a_page_hops_to_and_fro_under_load(redis: RedisServer) -> None:
    async with two_workers(redis.url) as (a, b), open_page(a) as page:
        over = False

        async def push() -> int:
            number = 0
            while not over:
                await (a, b)[number % 2].publisher.topic("news").push("show", number)
                number += 1
            return number

        pushing = asyncio.create_task(push())
        for turn in range(20):
            count = len(page.shown)
            await page.attach((b, a)[turn % 2].url)
            await page.until(lambda count=count: len(page.shown) > count)  # type: ignore[misc]
        over = True
        pushed = await pushing
        await page.until_shown(*range(pushed))
        assert set(page.lost) == {None}
        assert await attached(a) == await attached(b) == [page.id]


async def test_questions_and_receipts_of_the_other_worker(redis: RedisServer) -> None:
    async with two_workers(redis.url) as (a, b), open_page(a) as page, open_page(b) as other:
        assert await b.publisher.page(page.id).ask("show", 1) == 1
        assert await a.publisher.page(other.id).ask("show", 2) == 2
        receipt = await a.publisher.topic("news").push("show", 3, qos=2)
        answers = await receipt.wait(2)
        assert {(answer.page_id, answer.value) for answer in answers} == {(page.id, 3), (other.id, 3)}


async def test_a_question_whose_page_hops_before_it_answers(redis: RedisServer) -> None:
    async with two_workers(redis.url) as (a, b), open_page(a) as page:
        await page.cut()
        asking = asyncio.create_task(a.publisher.page(page.id).ask("show", 1))
        await until(lambda: broker_of(a).head.seq > page.cursor["seq"])
        await page.attach(b.url)
        assert await asking == 1


async def test_rule_23_one_key_is_filed_once_whichever_worker_pushes(redis: RedisServer) -> None:
    async with two_workers(redis.url) as (a, b), open_page(a) as page:
        receipts = await asyncio.gather(
            *(site.publisher.topic("news").push("show", 1, qos=2, key="one") for site in (a, b, a, b))
        )
        for receipt in receipts:
            assert [answer.value for answer in await receipt.wait()] == [1]
        await b.publisher.topic("news").push("show", 2)
        await page.until_shown(1, 2)


async def test_rule_21_topics_that_the_other_worker_changes(redis: RedisServer) -> None:
    async with two_workers(redis.url) as (a, b), open_page(a) as page:
        [found] = await b.publisher.topic("news").pages()
        await b.publisher.topic("more").push("show", "before")
        await found.subscribe("more")
        await b.publisher.topic("more").push("show", "more")
        await page.until_shown("more")
        assert await attached(b, "more") == await attached(a, "more") == [page.id]
        await found.unsubscribe("news")
        await b.publisher.topic("news").push("show", "not any more")
        await b.publisher.topic("more").push("show", "last")
        await page.until_shown("more", "last")
        assert await attached(a) == []
        # It is remembered, wherever the page goes.
        await page.attach(b.url)
        await a.publisher.topic("more").push("show", "elsewhere")
        await page.until_shown("more", "last", "elsewhere")


@pytest.mark.parametrize(("code", "comes_back"), [(1012, True), (4500, False)])
async def test_a_page_that_the_other_worker_closes(redis: RedisServer, code: int, comes_back: bool) -> None:
    async with two_workers(redis.url) as (a, b), open_page(a) as page:
        gone, gone_too = note(a.publisher.on_gone), note(b.publisher.on_gone)
        [found] = await b.publisher.topic("news").pages()
        await found.close(code, "closed elsewhere")
        await page.until(lambda: page.closed is not None)
        assert page.closed == (code, "closed elsewhere")
        await asyncio.gather(broker_of(a).probe(), broker_of(b).probe())
        assert gone + gone_too == ([] if comes_back else [page.id])
        if not comes_back:
            with pytest.raises(PageGone):
                await a.publisher.page(page.id).ask("show", 1)


async def test_rule_27_gone_is_told_once_over_all_workers(redis: RedisServer) -> None:
    limits = Limits(**TIMES, retention=1.0, grace=0.5)
    async with two_workers(redis.url, limits=limits) as (a, b):
        gone, gone_too = note(a.publisher.on_gone), note(b.publisher.on_gone)
        pages: list[str] = []
        for site, goodbye in ((a, True), (b, True), (a, False), (b, False)):
            async with open_page(site) as page:
                pages.append(page.id)
                if goodbye:
                    await page.send("bye")
                    await page.until(lambda page=page: page.closed is not None)  # type: ignore[misc]
        # As many signs of life as there may be, at once.
        while len(gone + gone_too) < len(pages):
            await asyncio.gather(*(broker_of(site).probe() for site in (a, b, a, b)))
    assert sorted(gone + gone_too) == sorted(pages)


async def test_who_is_attached_anywhere(redis: RedisServer) -> None:
    async with two_workers(redis.url) as (a, b), open_page(a) as page, open_page(b) as other:
        for site in (a, b):
            assert await attached(site) == sorted([page.id, other.id])
            for each in (page, other):
                [found] = await site.publisher.page(each.id).pages()
                assert (found.id, sorted(found.topics)) == (each.id, ["news"])
                assert [listed.id for listed in await found.session.pages()] == [each.id]
        await page.attach(b.url)
        assert await attached(a) == await attached(b) == sorted([page.id, other.id])
        await other.cut()
        await until(lambda: is_attached(a, page.id))


async def is_attached(site: TestSite, page_id: str) -> bool:
    return await attached(site) == [page_id]


async def test_variables_of_both_workers(redis: RedisServer) -> None:
    async with two_workers(redis.url) as (a, b), open_page(a) as page:
        [here], [there] = [await site.publisher.page(page.id).pages() for site in (a, b)]
        await asyncio.gather(*(each.incr("count") for each in (here, there) for _ in range(20)))
        assert await here.get("count") == await there.get("count") == 40


async def test_fault_9_a_node_that_wakes_before_all_its_pages_are_let_go_knows_it(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "PROBES_PER_TURN", 2)
    stopped = await RedisDesk(redis, lease=3.0).start()
    living = await RedisDesk(redis, lease=3.0).start()
    try:
        # More than those of one turn let go of.
        for number in range(450):
            await stopped.attach(f"p{number}")
        while not living.node.detached_pages:
            await living.pass_time(1)
        assert len(living.node.detached_pages) < 450
        await stopped.turn()
        assert stopped.node.deaths == 2  # and once more when it lives again
        await living.pass_time(2)
        assert stopped.node.deaths == 2
    finally:
        await asyncio.gather(stopped.broker.stop(), living.broker.stop())
