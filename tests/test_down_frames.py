"""The corpus, server to page, as the tests' own clients and the stand-in browser take it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from pagews.testing import Browser
from tests.down_frames import MalformedDown, read_down
from tests.wire_client import Document, Visitor


class Row(NamedTuple):
    """A frame that a server may, or may not, send."""

    message: str | bytes
    ok: bool
    why: str

    @property
    def kind(self) -> Any:
        """What it says it is, where it says that well."""
        return read_down(self.message)[0]


def rows() -> list[Row]:
    cases = json.loads(Path(__file__).with_name("wire_corpus.json").read_text())
    return [
        Row(base64.b64decode(case["base64"]) if "base64" in case else case["frame"], case["ok"], case["why"])
        for case in cases
        if case["direction"] == "down"
    ]


GOOD = [row for row in rows() if row.ok]
BAD = [row for row in rows() if not row.ok]
#: A socket has a close of its own.
ON_SOCKETS = [row for row in GOOD if row.kind != "close"]
#: The tests' own document is for lines on which nothing is lost, and for one document of a page.
UNBROKEN = [
    row
    for row in ON_SOCKETS
    if row.kind != "welcome" or not (read_down(row.message)[1]["lost"] or read_down(row.message)[1]["forked"])
]

WELCOME = next(row.message for row in GOOD if row.why == "answer to a hello: resumed")


def test_the_corpus_has_frames_of_every_kind() -> None:
    assert {row.kind for row in GOOD} == {"welcome", "push", "ping", "result", "acked", "token", "close"}
    assert len(BAD) > 50


@pytest.mark.parametrize("row", GOOD, ids=str)
def test_a_good_frame_is_read(row: Row) -> None:
    items = read_down(row.message)
    if isinstance(row.message, str):
        assert items == json.loads(row.message)[: len(items)]
    else:
        assert row.message.endswith(items[4 if items[0] == "push" else 3])


@pytest.mark.parametrize("row", BAD, ids=str)
def test_a_bad_frame_is_not(row: Row) -> None:
    with pytest.raises(MalformedDown):
        read_down(row.message)


def saying(row: Row) -> web.Application:
    """A site whose sockets welcome a page, say what the row has, and wait for the answer to a ping behind it."""

    async def page(request: web.Request) -> web.Response:
        html = '<script type="module" src="x" data-pagews="/pagews" data-page="token"></script>'
        return web.Response(text=html, content_type="text/html")

    async def socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=("pagews.v1",))
        await ws.prepare(request)
        await ws.receive()
        if row.kind != "welcome":
            await ws.send_str(str(WELCOME))
        await (ws.send_str(row.message) if isinstance(row.message, str) else ws.send_bytes(row.message))
        await ws.send_str('["push",0,"page","behind",null]')
        async for message in ws:
            if message.data == '["bye"]':
                break
        return ws

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/pagews/socket", socket)
    return app


@pytest.mark.parametrize("row", ON_SOCKETS, ids=str)
async def test_the_stand_in_browser_takes_a_good_frame(row: Row, aiohttp_client: AiohttpClient) -> None:
    async with Browser(await aiohttp_client(saying(row))) as browser:
        page = await browser.open()
        await page.expect("behind")
        assert page.connected
        if row.kind == "push":
            seq, to, delegate, data, *_ = read_down(row.message)[1:]
            assert page.received[0] == (seq, to, delegate, data)


@pytest.mark.parametrize("row", UNBROKEN, ids=str)
async def test_the_tests_own_document_takes_a_good_frame(row: Row, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(saying(row))
    async with Visitor(str(client.make_url("")).rstrip("/")) as visitor, Document(visitor, "token") as document:
        await document.until(lambda document: "behind" in [push.delegate for push in document.received])
        if row.kind == "push":
            assert document.received[0] == tuple(read_down(row.message)[1:5])
