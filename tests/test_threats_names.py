"""Names and data with characters that mean something to JavaScript, to Redis, or to who reads line by line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest

import pagews
from tests.redis_server import RedisServer
from tests.sites import House, TestSite, serving
from tests.threats import Desk, is_served, lives, refused, verdict
from tests.two_workers import open_page, two_workers
from tests.wire_client import Transport, Visitor, Wire

#: Names of what every JavaScript object has, and with characters that mean something somewhere.
STRANGE: Final = (
    *("__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "__class__", "</script>"),
    *("a:b", "topic:a", "*", "a*", "?", "[a-z]", "{a}", "{a}b", "\\a", "%s", "é", "x" * 200),
)

#: What cannot be a name.
UNNAMEABLE: Final = ("a\nb", "a\r\nb", "\0", "\x1b[2J", "\x85", "\u2028", "\u200b", "\ud800", "x" * 201, "")


async def everything(page: pagews.Page, topic: str) -> bool:
    return True


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def site(desk: Desk) -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=desk.delegates, authorize=everything)) as site:
        yield site


def naming(name: str) -> Callable[[pagews.Page, Any], Awaitable[Any]]:
    """A delegate that says what it is called."""

    async def delegate(page: pagews.Page, data: Any) -> Any:
        return [name, data]

    return delegate


# --- 24 and 29: strange names -----------------------------------------------------------------------------------------


async def test_threat_24_a_strange_name_is_plain_data(house: House, transport: Transport) -> None:
    desk, data = Desk(), {"__proto__": {"polluted": 1}, "constructor": None}
    for name in STRANGE:
        desk.delegates.on(name)(naming(name))

    async with serving(house(delegates=desk.delegates)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        for number, name in enumerate(STRANGE, 1):
            assert await wire.ask("send", number, 2, name, data) == ["result", number, True, [name, data]]
            await site.publisher.page(wire.page).push(name, data)
            assert (await wire.receive())[3:] == [name, data]
        assert refused(site) == {}


async def test_threat_24_nothing_answers_to_a_strange_name_of_itself(site: TestSite, wire: Wire) -> None:
    for number, name in enumerate(STRANGE, 1):
        kind, answered, ok, error = await wire.ask("send", number, 1, name, None)
        assert (kind, answered, ok, error["code"]) == ("result", number, False, "unknown-delegate"), name

    assert refused(site) == {"unknown delegate": len(STRANGE)}
    assert await lives(wire)


async def test_threat_24_what_cannot_be_a_name_names_nothing(site: TestSite, wire: Wire) -> None:
    names = [name for name in UNNAMEABLE if 1 <= len(name) <= 200 and name != "\ud800"]
    for name in names:
        for kind in ("join", "leave"):
            assert (await wire.ask(kind, 1, name))[3]["code"] == "invalid-data", name
        assert (await wire.ask("send", 2, 1, name, None))[3]["code"] == "unknown-delegate", name

    assert refused(site) == {"unknown delegate": len(names)}
    assert await site.publisher.page(wire.page).pages() != []
    assert await lives(wire)


async def test_threat_24_a_name_that_is_too_long_or_empty_is_malformed(site: TestSite, transport: Transport) -> None:
    names = ["", "x" * 201, "x" * 60_000]
    for name in names:
        for frame in (["send", 1, 1, name, None], ["join", 1, name], ["leave", 1, name]):
            assert (await verdict(site, transport, json.dumps(frame))).code == 4501, frame

    assert refused(site) == {"malformed frame": 3 * len(names)}
    assert await is_served(site, transport)


async def test_threat_24_the_application_cannot_give_such_a_name_either(site: TestSite) -> None:
    publisher = site.publisher
    for name in UNNAMEABLE:
        for target in (publisher.topic, publisher.page, publisher.user, publisher.session):
            with pytest.raises(ValueError, match="1 to 200 printable characters"):
                target(name)
        with pytest.raises(ValueError, match="1 to 200 printable characters"):
            await publisher.topic("news").push(name, None)
        with pytest.raises(pagews.ConfigurationError, match="1 to 200 printable characters"):
            pagews.DelegateTableDef().on(name)
    assert publisher.statistics().pushed == 0


async def test_threat_24_a_document_is_called_by_letters_and_digits(site: TestSite, visitor: Visitor) -> None:
    documents = ["__proto__", "x" * 15, "x" * 65, "x" * 20 + "\n", "../../../../etc/passwd", "é" * 20]
    token = await visitor.token()
    for document in documents:
        wire = await visitor.open()
        await wire.hello(token, document=document)
        assert (await wire.closed()).code == 4501, document

    assert refused(site) == {"malformed frame": len(documents)}
    assert (await visitor.attach(token)).welcome["resumed"]


async def test_threat_29_a_topic_is_its_name_and_no_pattern(house: House, transport: Transport) -> None:
    """Each of them hears its own, and nothing of the others."""
    async with (
        serving(house(delegates=Desk().delegates, authorize=everything)) as site,
        Visitor(site.url, transport) as visitor,
    ):
        wire, plain = await visitor.attach(), await visitor.attach()
        assert await plain.ask("join", 1, "abc") == ["result", 1, True, None]
        for number, name in enumerate(STRANGE, 1):
            assert await wire.ask("join", number, name) == ["result", number, True, None]
        await site.publisher.topic("abc").push("note", "for abc alone")
        for name in STRANGE:
            await site.publisher.topic(name).push("note", name)
        for name in STRANGE:
            assert (await wire.receive())[2:] == [f"topic:{name}", "note", name]
        assert (await plain.receive())[4] == "for abc alone"
        for number, name in enumerate(STRANGE, 100):
            assert await wire.ask("leave", number, name) == ["result", number, True, None]
        await site.publisher.topic("*").push("note", "unheard")
        assert await lives(plain)
        assert await lives(wire)
        assert refused(site) == {}


async def test_threat_29_no_worker_subscribes_to_a_pattern(redis: RedisServer) -> None:
    await redis.command("CONFIG", "RESETSTAT")
    async with (
        two_workers(redis.url, authorize=everything) as (a, b),
        open_page(a, "/?topic=a*&topic=[a]&topic={a}") as page,
    ):
        await b.publisher.topic("ab").push("note", 1)
        await b.publisher.topic("a").push("note", 2)
        for name in ("a*", "[a]", "{a}"):
            await b.publisher.topic(name).push("note", name)
        await page.until_shown("a*", "[a]", "{a}")
        commands = await redis.command("INFO", "commandstats")

    assert "cmdstat_subscribe" in commands
    assert "cmdstat_psubscribe" not in commands


@pytest.mark.parametrize("name", UNNAMEABLE, ids=ascii)
async def test_threat_29_a_line_end_is_in_no_topic(redis: RedisServer, name: str) -> None:
    async with two_workers(redis.url) as (a, _):
        keys = await redis.command("KEYS", "*")
        with pytest.raises(ValueError, match="1 to 200 printable characters"):
            await a.publisher.topic(name).push("note", None)
        assert set(await redis.command("KEYS", "*")) <= {*keys, "pagews:ticks"}


# --- 27: line ends in what is streamed --------------------------------------------------------------------------------

#: What would be a message of its own if a line could end within a message.
FORGED: Final = 'a\r\n\r\ndata: ["push",9,"page","forged",1]\n\n\rdata: x\n\nevent: x\u2028\u2029\x85'


async def test_threat_27_a_line_end_in_data_ends_no_message(site: TestSite, wire: Wire) -> None:
    page = site.publisher.page(wire.page)
    await page.push("note", FORGED)
    await page.push("note", {FORGED: [FORGED]})
    await page.push("note", FORGED.encode())
    for expected in (FORGED, {FORGED: [FORGED]}, FORGED.encode()):
        kind, seq, to, delegate, data = await wire.receive()
        assert (kind, to, delegate, data) == ("push", "page", "note", expected)
        assert type(seq) is int
    assert await wire.ask("send", 1, 1, "echo", FORGED) == ["result", 1, True, FORGED]
    await page.close(4000, FORGED[:60])

    assert (await wire.closed())[1] == FORGED[:60]
    assert refused(site) == {}


async def test_threat_27_no_name_has_a_line_end(site: TestSite, wire: Wire) -> None:
    page = site.publisher.page(wire.page)
    for name in ("a\r\nb", "a\nb", "a\rb", "a\x85b", "a\u2028b"):
        with pytest.raises(ValueError, match="printable"):
            await page.push(name, None)
    await page.push("note", None)
    assert (await wire.receive())[3] == "note"
    assert site.publisher.statistics().pushed == 1
