"""The server asks, the page's delegates answer."""

from __future__ import annotations

import asyncio

import pytest

import pagews
from tests.wire_client import TRANSPORTS

from .conftest import OpenTab, Serve
from .site import Site

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)

#: A dialog of the page's own: it answers when someone has clicked.
_DIALOG = """() => pagews.on("confirm", ({ text }) => new Promise((resolve) => {
  const button = document.createElement("button");
  button.textContent = text;
  button.addEventListener("click", () => resolve("yes"));
  document.body.append(button);
  told("asked", text);
}))"""


#: A delegate's listener, and what the server is answered.
_ANSWERS: dict[str, object] = {
    "({ a, b }) => a + b": 5,
    "async ({ a, b }) => ({ product: a * b })": {"product": 6},
    "() => {}": None,
    "() => new Uint8Array([0, 255])": b"\x00\xff",
}

#: A delegate's listener that fails, and the code and message that the server is told.
_FAILURES = {
    "() => { throw new RangeError('too far'); }": ("internal", "too far"),
    "async () => { throw new Error('later'); }": ("internal", "later"),
    "async () => { throw new (await import('/pagews/static/pagews.js')).PageError('busy', 'come back'); }": (
        "busy",
        "come back",
    ),
}


async def test_answer(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())

    for number, (listener, answer) in enumerate(_ANSWERS.items()):
        await tab.run(f"() => {{ pagews.on('question {number}', {listener}); }}")
        assert await page.ask(f"question {number}", {"a": 2, "b": 3}) == answer, listener


async def test_fault_28_delegate_of_the_browser_that_throws(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.run(
        """() => pagews.addEventListener("error", (event) => {
          event.preventDefault();
          told("taken", event.detail.error.message);
        })"""
    )

    for number, (listener, (code, message)) in enumerate(_FAILURES.items()):
        await tab.run(f"() => {{ pagews.on('question {number}', {listener}); }}")
        with pytest.raises(pagews.RemoteError) as raised:
            await page.ask(f"question {number}")
        assert raised.value.code == code, listener
        assert message in raised.value.message
        assert (await tab.wait("taken", number + 1))[-1] == raised.value.message


async def test_error_goes_to_the_console_unless_someone_takes_it(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    tab.expected = "nobody takes this"
    page = site.publisher.page(await tab.id())
    await tab.run("() => { pagews.on('question', () => { throw new Error('nobody takes this'); }); }")

    with pytest.raises(pagews.RemoteError):
        await page.ask("question")

    [said] = await tab.wait("expected")
    assert "Error: nobody takes this" in said


async def test_dialog_answers_in_its_own_time(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.run(_DIALOG)
    await tab.listen("growl")

    asking = asyncio.create_task(page.ask("confirm", {"text": "Sure?"}))
    await tab.wait("asked")
    # The page goes on while its dialog is open.
    await page.push("growl", "meanwhile")
    await tab.wait("growl")
    assert not asking.done()
    await tab.page.click("button")

    assert await asking == "yes"


async def test_first_that_has_something_to_say_answers(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    await tab.run(
        """() => {
          pagews.on("question", () => { told("logged"); });
          pagews.on("question", async () => "answer");
          pagews.on("question", () => new Promise(() => {}));
        }"""
    )

    assert await site.publisher.page(await tab.id()).ask("question") == "answer"
    await tab.wait("logged")


async def test_nobody_answers(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())

    with pytest.raises(pagews.AskTimeout):
        await page.ask("question", timeout=0.2)

    # The answer of a delegate that comes too late harms nobody.
    await tab.run("() => { pagews.on('question', () => { told('asked'); return 1; }); }")
    await tab.wait("asked")
    await tab.listen("growl")
    await page.push("growl")
    await tab.wait("growl")


async def test_page_that_has_gone_is_not_waited_for(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve(limits=pagews.Limits(grace=0.1, heartbeat=1))
    tab = await open_tab(f"{site.url}/")
    page = site.publisher.page(await tab.id())
    await tab.run("() => { pagews.on('question', () => { told('asked'); return new Promise(() => {}); }); }")
    asking = asyncio.create_task(page.ask("question", timeout=60))
    await tab.wait("asked")

    await tab.page.close(run_before_unload=True)

    with pytest.raises(pagews.PageGone):
        await asking


async def test_receipt_collects_the_answers_of_all_tabs(serve: Serve, open_tab: OpenTab) -> None:
    site = await serve()
    tabs = [await open_tab(f"{site.url}/") for _ in range(2)]
    for number, tab in enumerate(tabs):
        await tab.run("number => { pagews.on('alarm', () => number); }", number)
    [page, _] = await site.journal.wait("attach", 2)

    receipt = await page.session.push("alarm", {}, qos=2)
    acks = await receipt.wait(2)

    assert {ack.page_id: ack.value for ack in acks} == {await tab.id(): number for number, tab in enumerate(tabs)}
    assert all(ack.ok for ack in acks)


async def test_delegate_asks_the_page_that_sent(serve: Serve, open_tab: OpenTab) -> None:
    delegates = pagews.DelegateTableDef()

    @delegates.on("delete")
    async def delete(page: pagews.Page, data: object) -> object:
        return ["deleted", await page.ask("confirm", data)]

    site = await serve(Site(delegates=delegates))
    tab = await open_tab(f"{site.url}/")
    await tab.run("() => { pagews.on('confirm', (text) => `yes, ${text}`); }")

    assert await tab.run("pagews.send('delete', 'everything')") == ["deleted", "yes, everything"]
