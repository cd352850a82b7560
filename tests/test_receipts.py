"""The answers to a push of qos 2."""

from __future__ import annotations

import asyncio

from pagews.broker import Answer
from pagews.receipts import Ack, Receipt

from .rig import turn


def answer(document: str, value: object = None, channel: str = "topic:t") -> Answer:
    return Answer(7, f"page of {document}", document, [channel], True, value)


async def test_each_document_answers_once() -> None:
    receipt = Receipt(7, "topic:t")
    assert receipt.add(answer("one", 1))
    assert not receipt.add(answer("one", 2))
    assert not receipt.add(answer("forger", 3, channel="topic:other"))
    assert receipt.add(answer("two", 4))
    assert await receipt.wait(2) == [Ack("page of one", True, 1), Ack("page of two", True, 4)]
    assert len(await receipt.wait(1)) == 1


async def test_wait_returns_what_came_in_time() -> None:
    receipt = Receipt(7, "topic:t")
    receipt.add(answer("one", 1))
    assert [ack.value for ack in await receipt.wait(2, timeout=0.01)] == [1]


async def test_wait_ends_with_the_page() -> None:
    receipt = Receipt(7, "page:p")
    waiting = asyncio.create_task(receipt.wait(1, timeout=60))
    await turn()
    assert not receipt.gone
    receipt.give_up()
    assert await waiting == []
    assert receipt.gone


async def test_answers_as_they_come() -> None:
    receipt = Receipt(7, "topic:t")
    answers = aiter(receipt)

    async def next_answer() -> Ack:
        return await anext(answers)

    for number in range(3):
        following = asyncio.create_task(next_answer())
        await turn()
        assert not following.done()
        receipt.add(answer(str(number), number))
        assert (await following).value == number
