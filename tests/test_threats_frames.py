"""Frames that cannot be read, and data that cannot be written."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

import pagews
from pagews import EncodingError, Limits
from tests.sites import TestSite, serving
from tests.threats import Desk, is_served, lives, refused, verdict
from tests.wire_client import Transport, Visitor, WebSocketWire, Wire, new_document

#: Enough for what is only deep to come whole.
LIMITS: Final = Limits(message_up=1024 * 1024, post=4 * 1024 * 1024)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def site(desk: Desk) -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=desk.delegates, limits=LIMITS)) as site:
        yield site


#: Frames that no page may send, and what is said of each.
WRONG: Final[dict[str | bytes, str]] = {
    '["send","1",1,"echo",null]': "$[1]",
    '["send",1,3,"echo",null]': "$[2]",
    '["send",1,1,["echo"],null]': "$[3]",
    '["send",1,1,"echo"]': "length",
    '["join",1]': "length",
    '["ack",1,"yes",null]': "$[2]",
    '["launch",1]': "launch",
    '["welcome",{}]': "welcome",
    "[7]": "$[0]",
    "{}": "object",
    "[": "truncated",
    b"\x00\x00\x00\x02[]": "length",
    b'\x00\x00\x00\x08["pong"]': "payload",
    b"\xff\xff\xff\xff": "shorter",
}


async def test_threat_22_a_wrong_frame_is_told_what_is_wrong_and_where(site: TestSite, transport: Transport) -> None:
    for message, where in WRONG.items():
        # In an array of them, what is no JSON spoils them all.
        code, reason = await verdict(site, transport, message)
        assert code == 4501, message
        assert where in reason, message

    assert refused(site) == {"malformed frame": len(WRONG)}
    assert await is_served(site, transport)


#: What there may be in the data of a message, as JSON, that is none or too much of it.
IN: Final = {
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "out of range": b"1e999",
    "5,000 digits": b"9" * 5000,
    "depth 100,000": b"[" * 100_000 + b"]" * 100_000,
    "objects of depth 100,000": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a lone surrogate": b'"\\ud800"',
    "a lone surrogate as a key": b'{"\\udc00":1}',
    "bytes that are no UTF-8": b'"\xff"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "an overlong slash": b'"\xc0\xaf"',
}
NO_TEXT: Final = ("bytes that are no UTF-8", "a surrogate in UTF-8", "an overlong slash")


async def test_threat_23_what_no_parser_should_read_ends_its_socket(
    site: TestSite, desk: Desk, transport: Transport
) -> None:
    texts = {what: data.decode() for what, data in IN.items() if what not in NO_TEXT}
    for what, data in texts.items():
        assert (await verdict(site, transport, f'["send",1,1,"echo",{data}]')).code == 4501, what

    assert desk.given == []
    assert refused(site) == {"malformed frame": len(texts)}
    assert await is_served(site, transport)


@pytest.mark.parametrize("what", NO_TEXT)
async def test_threat_23_what_is_no_text_ends_its_socket(
    site: TestSite, desk: Desk, visitor: Visitor, wire: Wire, what: str
) -> None:
    message = b'["send",1,1,"echo",%b]' % IN[what]
    if visitor.transport == "websocket":
        culprit = await visitor.attach()
        assert isinstance(culprit, WebSocketWire)
        await culprit.ws.send(message, text=True)
        # RFC 6455 has a code of its own for it, and aiohttp sees to that before pagews does.
        assert (await culprit.closed()).code == 1007
    else:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        hello = json.dumps(["hello", {"token": token, "document": document, "attempt": 1}])
        line = visitor.line()
        answer = await line.request("/pagews/post", b"[%b,%b]" % (hello.encode(), message))
        line.cut()
        [[kind, code, _]] = json.loads(answer.body)
        assert (kind, code) == ("close", 4501)

    assert refused(site) == {"malformed frame": 1}
    assert desk.given == []
    assert await lives(wire)


async def test_threat_23_the_header_of_bytes_is_read_as_strictly(
    site: TestSite, desk: Desk, transport: Transport
) -> None:
    for what, data in IN.items():
        header = b'["send",1,1,"echo",%b]' % data
        message = len(header).to_bytes(4, "big") + header + b"payload"
        assert (await verdict(site, transport, message)).code == 4501, what

    assert desk.given == []
    assert refused(site) == {"malformed frame": len(IN)}
    assert await is_served(site, transport)


async def test_threat_23_of_a_key_that_comes_twice_the_last_one_counts(wire: Wire) -> None:
    await wire.send_raw('["send",1,1,"echo",{"a":1,"a":2}]')

    assert await wire.receive() == ["result", 1, True, {"a": 2}]


#: What an application may try to say that has no JSON, made when it is needed.
OUT: Final[dict[str, Callable[[], Any]]] = {
    "5,000 digits": lambda: 10**5000,
    "depth 100,000": lambda: nested(100_000),
    "a lone surrogate": lambda: "\ud800",
    "a lone surrogate as a key": lambda: {"\udc00": 1},
    "an object": object,
    "an object within": lambda: [{"a": object()}],
}


def nested(depth: int) -> list[Any]:
    data: list[Any] = []
    for _ in range(depth):
        data = [data]
    return data


async def test_threat_23_what_cannot_be_written_is_an_error_to_the_caller_and_has_no_number(
    site: TestSite, wire: Wire
) -> None:
    page = site.publisher.page(wire.page)
    await page.push("before", 1)
    for make in OUT.values():
        for target in (page, site.publisher.topic("news")):
            with pytest.raises(EncodingError):
                await target.push("never", make())
        with pytest.raises(EncodingError):
            await page.ask("never", make())
    await page.push("behind", 2)
    before, behind = await wire.receive(), await wire.receive()

    assert [before[3], behind[3]] == ["before", "behind"]
    assert behind[1] == before[1] + 1
    assert site.publisher.statistics().pushed == 2


async def test_threat_23_what_a_delegate_cannot_return_is_a_failure(transport: Transport) -> None:
    desk = Desk()

    @desk.delegates.on("return")
    async def strange(page: pagews.Page, data: str) -> Any:
        return OUT[data]()

    async with serving(TestSite(delegates=desk.delegates)) as site, Visitor(site.url, transport) as visitor:
        wire = await visitor.attach()
        for number, what in enumerate(OUT, 1):
            kind, answered, ok, error = await wire.ask("send", number, 1, "return", what)
            assert (kind, answered, ok, error["code"]) == ("result", number, False, "internal"), what

        assert dict(site.publisher.statistics().failed) == {"delegate": len(OUT)}
        assert await lives(wire)


async def test_threat_23_no_number_is_null_and_bytes_within_are_base64(site: TestSite, wire: Wire) -> None:
    await site.publisher.page(wire.page).push("any", [math.nan, math.inf, -math.inf, {"raw": b"\xff"}])

    assert (await wire.receive())[4] == [None, None, None, {"raw": "/w=="}]
