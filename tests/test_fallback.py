"""What streams, polls and posts have of their own: the requests, what is refused, and how they share a page."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from aiohttp import web

import pagews
from pagews import DelegateTableDef, Limits
from pagews.carriers import Watch
from pagews.site import get_site
from pagews.text_frames import PADDING
from pagews.wire import Close
from tests.sites import Detached, TestSite, serving
from tests.text_wires import Answer
from tests.wire_client import Closed, TextWire, Transport, Visitor, Wire, new_document

PATHS = ["stream", "poll", "post"]

table = DelegateTableDef()


@table.on("echo")
async def echo(page: pagews.Page, data: Any) -> Any:
    return data


@table.on("topics")
async def topics(page: pagews.Page, data: Any) -> list[str]:
    return sorted(page.topics)


@pytest.fixture
async def site() -> AsyncIterator[TestSite]:
    async with serving(TestSite(delegates=table)) as site:
        yield site


@pytest.fixture
async def visitor(site: TestSite) -> AsyncIterator[Visitor]:
    async with Visitor(site.url) as visitor:
        yield visitor


def hello(token: str, document: str, attempt: int = 1, **fields: Any) -> str:
    """A hello, as JSON."""
    return json.dumps(["hello", {"token": token, "document": document, "attempt": attempt, **fields}])


def frame(*items: Any) -> str:
    """A frame, as JSON."""
    return json.dumps(items)


async def request(visitor: Visitor, path: str, body: str | bytes, **headers: Any) -> Answer:
    """One request over a connection of its own."""
    line = visitor.line()
    try:
        data = body if isinstance(body, bytes) else body.encode()
        return await line.request(f"/pagews/{path}", data, **headers)
    finally:
        line.cut()


async def ask(visitor: Visitor, path: str, body: str | bytes) -> list[Any]:
    """The frames that a poll or a post is answered with."""
    answer = await request(visitor, path, body)
    assert answer.status == 200
    found = json.loads(answer.body)
    assert isinstance(found, list)
    return found


async def post(visitor: Visitor, *frames: str) -> list[Any]:
    """The frames that a post is answered with."""
    return await ask(visitor, "post", f"[{','.join(frames)}]")


# --- threats 4 and 14 on every route ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PATHS, "renew"])
async def test_threat_4_no_address_is_a_script(visitor: Visitor, path: str) -> None:
    token, document = await visitor.token(), new_document()
    assert await visitor.get(f"/pagews/{path}") == 405
    line = visitor.line()
    bodies = {"stream": hello(token, document), "poll": hello(token, document), "post": "[]"}
    body = bodies.get(path, json.dumps({"token": token}))
    answer = await line.request(f"/pagews/{path}", body.encode(), streams=path == "stream")
    line.cut()

    assert answer.status == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"].startswith("no-store")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", ["", "{", "{}", "null", "[]", "[[]]", "[1]", '["x"]', '"x"', "[" * 9000, b"\xff"])
async def test_threat_14_what_is_no_hello_gets_the_verdict_of_a_websocket(
    site: TestSite, visitor: Visitor, path: str, body: str | bytes
) -> None:
    if path == "stream":
        wire = await visitor.open("stream")
        assert isinstance(wire, TextWire)
        line = visitor.line()
        data = body if isinstance(body, bytes) else body.encode()
        await line.request("/pagews/stream", data, streams=True)
        events = b"".join([chunk async for chunk in line.chunks()])
        kind, code, reason = json.loads(events.rpartition(b"data: ")[2])
        line.cut()
    else:
        [[kind, code, reason]] = await ask(visitor, path, body)

    assert (kind, code) == ("close", 4501)
    assert reason
    assert site.publisher.statistics().refused == {"malformed frame": 1}
    assert site.publisher.statistics().sockets == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("announced", [True, False])
async def test_threat_14_a_body_that_is_too_long_is_not_read_to_its_end(
    site: TestSite, visitor: Visitor, path: str, announced: bool
) -> None:
    size = Limits().post + 1
    if announced:
        answer = await request(visitor, path, b"", Content_Length=str(size))
    else:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"[" * size)
        answer = await request(visitor, path, body, Content_Length="", Transfer_Encoding="chunked")

    assert answer.status == 413
    assert site.publisher.statistics().refused == {"body too big": 1}


async def test_threat_14_a_post_of_too_many_frames(site: TestSite, visitor: Visitor) -> None:
    limit = Limits().post_frames
    token, document = await visitor.token(), new_document()
    wire = await visitor.attach(token, document=document)
    many = [frame("pong")] * limit
    too_many = await request(visitor, "post", f"[{','.join([hello(token, document), *many])}]")

    assert too_many.status == 413
    assert await post(visitor, hello(token, document), *many[1:]) == []
    assert (await wire.ask("send", 1, 1, "echo", 1))[2] is True


@pytest.mark.parametrize("path", PATHS)
async def test_threat_16_a_body_that_does_not_come(path: str) -> None:
    # A post may take its time, but not stand still.
    limits = Limits(stuck=0.05) if path == "post" else Limits(hello=0.05)
    async with serving(TestSite(limits=limits)) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        head = f"POST /pagews/{path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 3\r\n"
        writer.write(head.encode() + b"\r\n[")

        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.write(b"]\n")  # the server need not wait for it any more
        writer.close()
        await writer.wait_closed()
        assert site.publisher.statistics().refused == {"slow body": 1}


async def test_a_post_over_a_slow_line() -> None:
    async with serving(TestSite(delegates=table, limits=Limits(hello=0.1))) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        body = f"[{hello(token, document)},{frame('send', 1, 1, 'echo', 'y' * 5000)}]".encode()

        async def slowly() -> AsyncIterator[bytes]:
            step = len(body) // 4
            for begin in range(0, len(body), step):
                yield body[begin : begin + step]
                await asyncio.sleep(0.05)

        headers = {"Content-Type": "application/json", "Origin": visitor.url}
        async with visitor.http.post(f"{visitor.url}/pagews/post", data=slowly(), headers=headers) as response:
            assert response.status == 200
            assert await response.json(content_type=None) == [["result", 1, True, "y" * 5000]]


async def test_threat_14_a_post_that_comes_a_byte_at_a_time() -> None:
    async with serving(TestSite(limits=Limits(stuck=0.2))) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"POST /pagews/post HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 300\r\n\r\n")
        answer = asyncio.create_task(reader.readline())
        async with asyncio.timeout(10):
            while not answer.done():
                writer.write(b"[")
                await asyncio.wait([answer], timeout=0.05)

        assert (await answer).startswith(b"HTTP/1.1 408 ")
        writer.write(b"[" * 300)  # the server need not wait for it any more
        writer.close()
        await writer.wait_closed()
        assert site.publisher.statistics().refused == {"slow body": 1}


@pytest.mark.parametrize("path", PATHS)
async def test_a_server_that_is_about_to_stop(site: TestSite, visitor: Visitor, path: str) -> None:
    get_site(site.app).node.draining = True
    answer = await request(visitor, path, "[]")

    assert answer.status == 503
    assert float(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", PATHS)
async def test_a_browser_that_has_gone_before_its_answer_is_no_error(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def user(request: web.Request) -> str | None:
        if request.method == "POST":
            asked.set()
            await go.wait()
        return None

    ended = asyncio.Event()

    @web.middleware
    async def watch(request: web.Request, handler: Any) -> Any:
        try:
            return await handler(request)
        finally:
            if request.method == "POST":
                ended.set()

    site = TestSite(user=user)
    site.app.middlewares.insert(0, watch)
    async with serving(site), Visitor(site.url) as visitor:
        body, line = hello(await visitor.token(), new_document(), wait=True), visitor.line()
        body = f"[{body}]" if path == "post" else body
        asking = asyncio.create_task(line.request(f"/pagews/{path}", body.encode()))
        await asked.wait()
        line.cut()
        await asyncio.wait([asking])
        assert isinstance(asking.exception(), OSError | EOFError)
        # Any other request is read after the end of that connection.
        await visitor.token()
        go.set()
        await ended.wait()
        assert site.publisher.statistics().sockets == 0
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# --- stream -----------------------------------------------------------------------------------------------------------


async def test_a_stream_as_it_is_written(site: TestSite, visitor: Visitor) -> None:
    token, line = await visitor.token(), visitor.line()
    answer = await line.request("/pagews/stream", hello(token, new_document()).encode(), streams=True)
    chunks = line.chunks()

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["connection"] == "close"
    assert "content-encoding" not in answer.headers
    assert await anext(chunks) == PADDING
    welcome = await anext(chunks)
    assert welcome.startswith(b'data: ["welcome",')
    assert welcome.endswith(b"\n\n")
    page = site.publisher.page(json.loads(welcome[6:])[1]["page"])
    await asyncio.gather(page.push("a", 1, qos=0), page.push("b", b"\x00\xff", qos=0))
    first, second, rest = (await anext(chunks)).split(b"\n\n")
    assert (first, rest) == (b'data: ["push",0,"page","a",1]', b"")
    header = b'["push",0,"page","b",null]'
    assert base64.b64decode(second[6:]) == len(header).to_bytes(4, "big") + header + b"\x00\xff"
    await page.close(4000, "enough")
    assert await anext(chunks) == b'data: ["close",4000,"enough"]\n\n'
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


class Lines(pagews.PageHandler):
    """Writes JSON with line breaks."""

    def websocket_info(self, message: Any, context: pagews.Context) -> Any:
        return pagews.Text('["push",0,\r"page",\n"own",\r\n"a\\nb"]')


async def test_threat_27_a_line_break_in_json_does_not_end_an_event() -> None:
    async with serving(TestSite(handler=Lines)) as site, Visitor(site.url, "stream") as visitor:
        wire = await visitor.attach()
        await site.publisher.page(wire.page).push("any")

        assert await wire.receive() == ["push", 0, "page", "own", "a\nb"]


async def test_a_stream_over_http_1_0_ends_with_its_connection(site: TestSite, visitor: Visitor) -> None:
    body = hello(await visitor.token(), new_document()).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    head = f"POST /pagews/stream HTTP/1.0\r\nContent-Type: application/json\r\nCookie: {visitor.cookie}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in answer.lower()
    assert await reader.readuntil(b"\n\n") == PADDING
    welcome = json.loads((await reader.readuntil(b"\n\n"))[6:])
    await site.publisher.page(welcome[1]["page"]).close(4000, "enough")

    assert await reader.read() == b'data: ["close",4000,"enough"]\n\n'
    writer.close()
    await writer.wait_closed()


async def test_a_stream_is_not_compressed_by_the_application() -> None:
    site = TestSite()

    async def compress(request: web.Request, response: web.StreamResponse) -> None:
        response.enable_compression()

    site.app.on_response_prepare.append(compress)
    async with serving(site), Visitor(site.url, "stream") as visitor:
        assert (await visitor.attach()).welcome["resumed"]


@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_a_stream_that_is_cut_is_noticed_at_once(handler_cancellation: bool) -> None:
    site = TestSite(handler_cancellation=handler_cancellation)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, "stream") as visitor:
        wire = await visitor.attach()
        wire.cut()

        assert await detached.next() == wire.page
        assert site.publisher.statistics().sockets == 0


async def test_streams_of_one_browser_beyond_the_limit_are_refused(site: TestSite, visitor: Visitor) -> None:
    async with Visitor(site.url, "stream") as other:
        visitor.transport = "stream"
        streams = [await visitor.attach() for _ in range(Limits().held)]
        late = await visitor.open()
        await late.hello(await visitor.token())

        assert await late.closed() == Closed(4004, "streams")
        assert site.publisher.statistics().refused == {"streams": 1}
        # Of another browser, of another kind, or when one has ended.
        assert (await other.attach()).welcome["resumed"]
        visitor.transport = "poll"
        assert (await visitor.attach()).welcome["resumed"]
        visitor.transport = "stream"
        await site.publisher.page(streams[0].page).close(4000)
        await streams[0].closed()
        assert (await visitor.attach()).welcome["resumed"]


# --- poll -------------------------------------------------------------------------------------------------------------


async def test_a_poll_as_it_is_answered(site: TestSite, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    answer = await request(visitor, "poll", hello(token, document))
    [[kind, fields]] = json.loads(answer.body)
    assert (kind, fields["resumed"]) == ("welcome", True)
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["cache-control"] == "no-store"
    page = site.publisher.page(fields["page"])
    await page.push("a", {"text": "h\u00e9\n"})
    await page.push("b", b"\x00\xff")
    welcome, text, binary = await ask(visitor, "poll", hello(token, document, 2, wait=True))

    assert welcome[0] == "welcome"
    assert text[2:] == ["page", "a", {"text": "h\u00e9\n"}]
    assert base64.b64decode(binary).endswith(b',"page","b",null]\x00\xff')


async def test_a_poll_that_waits_is_answered_when_there_is_something(site: TestSite, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    [[_, fields]] = await ask(visitor, "poll", hello(token, document))
    polling = asyncio.create_task(ask(visitor, "poll", hello(token, document, 2, wait=True)))
    await site.waiting()
    page = site.publisher.page(fields["page"])
    for number in (1, 2):
        await page.push("count", number)
    welcome, *pushes = await polling

    assert welcome[1]["resumed"] is True
    assert [push[4] for push in pushes] == [1, 2]
    assert not get_site(site.app).held


@pytest.mark.parametrize(
    "fields", [{"epoch": "0" * 16, "seq": 0}, {"document": "another-document"}], ids=["lost", "forked"]
)
async def test_a_welcome_that_says_something_does_not_wait(visitor: Visitor, fields: dict[str, Any]) -> None:
    token, document = await visitor.token(), new_document()
    await ask(visitor, "poll", hello(token, document))
    [[kind, _]] = await ask(visitor, "poll", hello(token, **{"document": document, **fields}, attempt=2, wait=True))

    assert kind == "welcome"


async def test_the_heartbeat_bounds_a_wait() -> None:
    async with serving(TestSite(limits=Limits(heartbeat=0.2))) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        [welcome, ping] = await ask(visitor, "poll", hello(token, document, wait=True))

        assert (welcome[0], ping[0]) == ("welcome", "ping")
        assert ping[1] > welcome[1]["seq"]


async def test_a_page_stays_attached_between_two_polls_until_it_is_silent() -> None:
    site = TestSite(limits=Limits(heartbeat=0.2))
    detached, attached = Detached(site), list[str]()

    async def note(page: pagews.Page) -> None:
        attached.append(page.id)

    get_site(site.app).publisher.on_attach.append(note)
    async with serving(site), Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        for attempt in (1, 2, 3):
            [[_, fields]] = await ask(visitor, "poll", hello(token, document, attempt))
        assert site.publisher.statistics().attached == site.publisher.statistics().sockets == 1

        assert await detached.next() == fields["page"]
        assert attached == [fields["page"]]
        assert site.publisher.statistics().sockets == 0
        assert site.publisher.statistics().dropped["silent"] == 1


async def test_pongs_by_post_keep_a_page_alive() -> None:
    async with serving(TestSite(limits=Limits(heartbeat=0.4))) as site, Visitor(site.url, "stream") as visitor:
        wire = await visitor.attach()
        for _ in range(5):
            assert (await wire.receive())[0] == "ping"
            await wire.send("pong")

        assert "silent" not in site.publisher.statistics().dropped


async def test_a_poll_that_is_cut_while_it_waits_detaches_its_page() -> None:
    site = TestSite()
    detached = Detached(site)
    async with serving(site), Visitor(site.url) as visitor:
        token, document, line = await visitor.token(), new_document(), visitor.line()
        waiting = asyncio.create_task(line.request("/pagews/poll", hello(token, document, wait=True).encode()))
        await site.waiting()
        line.cut()
        await asyncio.wait([waiting])

        assert await detached.next()
        assert isinstance(waiting.exception(), OSError | EOFError)
        assert site.publisher.statistics().sockets == 0


@pytest.mark.parametrize("waits", [False, True], ids=["between two polls", "while it waits"])
@pytest.mark.parametrize("transport", ["poll", "stream", "websocket"])
async def test_a_page_that_was_closed_for_good_hears_of_it_whatever_is_cut(
    site: TestSite, visitor: Visitor, waits: bool, transport: Transport
) -> None:
    token, document = await visitor.token(), new_document()
    [[_, fields]] = await ask(visitor, "poll", hello(token, document))
    close = partial(site.publisher.page(fields["page"]).close, 4600, "the show is over")
    if waits:
        line = visitor.line()
        polling = asyncio.create_task(line.request("/pagews/poll", hello(token, document, 2, wait=True).encode()))
        await site.waiting()
        await close()
        line.cut()
        await asyncio.wait([polling])
    else:
        await close()
        line = visitor.line()
        polling = asyncio.create_task(line.request("/pagews/poll", hello(token, document, 2, wait=True).encode()))
        await until(lambda: site.publisher.statistics().closed[4600] == 2)
        line.cut()
        await asyncio.wait([polling])

    visitor.transport = transport
    for attempt in (3, 4):
        wire = await visitor.open()
        await wire.hello(token, document=document, attempt=attempt)
        assert await wire.closed() == Closed(4600, "the show is over")
    assert site.publisher.statistics().attached == site.publisher.statistics().sockets == 0
    # The browser session is not the page.
    assert (await visitor.attach(token)).welcome["page"]


async def test_a_page_that_may_come_back_is_told_once(site: TestSite, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    [[_, fields]] = await ask(visitor, "poll", hello(token, document))
    await site.publisher.page(fields["page"]).close(4000, "enough")

    assert await ask(visitor, "poll", hello(token, document, 2)) == [["close", 4000, "enough"]]
    [[kind, _]] = await ask(visitor, "poll", hello(token, document, 3))
    assert kind == "welcome"


def test_how_pages_were_closed_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close() -> None:
        site, close = get_site(TestSite(limits=Limits(retention=0.05)).app), Close(4600, "over")
        for document in "abcd":
            site.part(document, close)
        assert [site.parting(document) for document in "abcd"] == [None, close, close, close]
        await asyncio.sleep(0.06)
        assert site.parting("b") is None
        site.part("e", close)
        assert set(site.partings) == {"e"}

    monkeypatch.setattr("pagews.site.PARTINGS", 3)
    asyncio.run(close())


async def test_many_polls_go_over_one_connection(site: TestSite, visitor: Visitor) -> None:
    token, document, line = await visitor.token(), new_document(), visitor.line()
    page = None
    for attempt in range(1, 6):
        body = hello(token, document, attempt, wait=attempt > 1).encode()
        polling = asyncio.create_task(line.request("/pagews/poll", body))
        if page is not None:
            await site.waiting()
            await page.push("count", attempt, qos=0)
        frames = json.loads((await polling).body)
        assert [item[4] for item in frames[1:]] == ([attempt] if page else [])
        page = site.publisher.page(frames[0][1]["page"])
    line.cut()


async def test_a_waiting_poll_beyond_the_limit_is_answered_at_once(site: TestSite, visitor: Visitor) -> None:
    token = await visitor.token()
    lines = [visitor.line() for _ in range(Limits().held)]
    waiting = [
        asyncio.create_task(
            line.request("/pagews/poll", hello(await visitor.token(), new_document(), wait=True).encode())
        )
        for line in lines
    ]
    await site.waiting(Limits().held)

    [[kind, fields]] = await ask(visitor, "poll", hello(token, new_document(), wait=True))
    assert (kind, fields["resumed"]) == ("welcome", True)
    for line in lines:
        line.cut()
    await asyncio.wait(waiting)
    assert all(task.exception() for task in waiting)


async def test_a_long_replay_comes_in_several_answers() -> None:
    limits = Limits(replay_chunk=2000, stuck=0.2)
    async with serving(TestSite(limits=limits)) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token("/?topic=news"), new_document()
        for number in range(500):
            await site.publisher.topic("news").push("count", number)
        seen, answers, cursor = list[int](), 0, dict[str, Any]()
        while len(seen) < 500:
            answers += 1
            welcome, *pushes = await ask(visitor, "poll", hello(token, document, answers, wait=True, **cursor))
            assert welcome[1]["lost"] is None
            seen += [push[4] for push in pushes]
            cursor = {"epoch": welcome[1]["epoch"], "seq": pushes[-1][1]}

        assert seen == list(range(500))
        assert answers > 3


async def test_a_server_that_stops_answers_what_waits(site: TestSite, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()
    polling = asyncio.create_task(ask(visitor, "poll", hello(token, document, wait=True)))
    await site.waiting()
    await ask(visitor, "poll", hello(await visitor.token(), new_document()))
    await site.stop()
    welcome, close = await polling

    assert (welcome[0], close[:2]) == ("welcome", ["close", 1012])
    assert "; retry=" in close[2]


# --- post -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["websocket", "stream", "poll"])
async def test_a_post_speaks_for_a_page_that_is_attached_by_anything(site: TestSite, path: Any) -> None:
    async with Visitor(site.url, path) as visitor:
        token, document = await visitor.token("/?topic=news"), new_document()
        await visitor.attach(token, document=document)

        assert await post(visitor, hello(token, document), frame("send", 1, 2, "echo", "a")) == [
            ["result", 1, True, "a"]
        ]
        assert await post(visitor, hello(token, document), frame("send", 1, 2, "echo", "a")) == [
            ["result", 1, True, "a"]
        ]
        assert await post(visitor, hello(token, document), frame("send", 2, 1, "topics", None)) == [
            ["result", 2, True, ["news"]]
        ]
        assert site.publisher.statistics().attached == site.publisher.statistics().sockets == 1


async def test_a_post_for_a_page_that_is_merely_cut() -> None:
    site = TestSite(delegates=table)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, "stream") as visitor:
        token, document = await visitor.token("/?topic=news"), new_document()
        wire = await visitor.attach(token, document=document)
        wire.cut()
        await detached.next()

        assert await post(visitor, hello(token, document), frame("send", 2, 1, "topics", None)) == [
            ["result", 2, True, ["news"]]
        ]
        assert site.publisher.statistics().attached == 0


async def test_a_post_is_no_attach(site: TestSite, visitor: Visitor) -> None:
    token, document = await visitor.token(), new_document()

    # Nobody has attached it: it comes back to do that.
    [[kind, code, _]] = await post(visitor, hello(token, document), frame("send", 1, 1, "echo", 1))
    assert (kind, code) == ("close", 1012)
    await visitor.attach(token, document=document)
    assert await post(visitor, hello(token, new_document()), frame("send", 1, 1, "echo", 1)) == [
        ["close", 4509, "another document has this page"]
    ]
    async with Visitor(site.url) as thief:
        await thief.token()
        assert await post(thief, hello(token, document), frame("send", 1, 1, "echo", 1)) == [
            ["close", 4500, "the token is not good for this browser session"]
        ]


async def test_a_post_of_a_user_that_was_revoked(site: TestSite, visitor: Visitor) -> None:
    await visitor.get("/login?user=ann")
    token, document = await visitor.token(), new_document()
    await visitor.attach(token, document=document)
    await site.publisher.user("ann").revoke()

    [[kind, code, _]] = await post(visitor, hello(token, document), frame("pong"))
    assert (kind, code) in [("close", 4500), ("close", 4503)]


@pytest.mark.parametrize("binary", [False, True])
async def test_a_message_above_the_limit_ends_the_post_behind_those_before_it(binary: bool) -> None:
    async with serving(TestSite(delegates=table, limits=Limits(message_up=1000))) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        big = frame("send", 2, 1, "echo", "x" * 1000)
        if binary:
            big = json.dumps(base64.b64encode(big.encode()).decode())
        frames = await post(visitor, hello(token, document), frame("ack", 9, True, None), big, frame("pong"))

        assert frames == [["acked", 9], ["close", 1009, "a message has more than 1000 bytes"]]
        assert site.publisher.statistics().refused["message too big"] == 1


async def test_a_goodbye_by_post_ends_the_page_and_nothing_follows() -> None:
    site = TestSite(delegates=table)
    detached = Detached(site)
    async with serving(site), Visitor(site.url, "stream") as visitor:
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        answer = await post(visitor, hello(token, document), frame("bye"), frame("send", 1, 1, "echo", 1))

        assert answer == [["close", 1000, "goodbye"]]
        assert await wire.closed() == Closed(1000, "goodbye")
        assert await detached.next() == wire.page
        # It said goodbye: another document takes it over.
        again = await visitor.attach(token)
        assert (again.page, again.welcome["forked"]) == (wire.page, False)


class Slow:
    """A delegate that waits to be let go, and one that asks its own page."""

    def __init__(self) -> None:
        self.table = DelegateTableDef()
        self.runs: list[Any] = []
        self.started = asyncio.Event()
        self.go = asyncio.Event()

        @self.table.on("slow")
        async def slow(page: pagews.Page, data: Any) -> str:
            self.runs.append(data)
            self.started.set()
            await self.go.wait()
            return "done"


async def test_fault_27_a_post_that_is_cut_behind_its_body_runs_once() -> None:
    slow = Slow()
    async with serving(TestSite(delegates=slow.table)) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        body = f"[{hello(token, document)},{frame('send', 1, 2, 'slow', 'a')}]".encode()
        first, second = visitor.line(), visitor.line()
        cut = asyncio.create_task(first.request("/pagews/post", body))
        await slow.started.wait()
        first.cut()
        await asyncio.wait([cut])
        assert isinstance(cut.exception(), OSError | EOFError)
        # It is asked again while it still runs, and once more when it has run.
        again = asyncio.create_task(second.request("/pagews/post", body))
        await until(lambda: site.publisher.statistics().sent == 5)
        slow.go.set()

        assert json.loads((await again).body) == [["result", 1, True, "done"]]
        assert json.loads((await second.request("/pagews/post", body)).body) == [["result", 1, True, "done"]]
        second.cut()
    assert slow.runs == ["a"]


async def until(true: Callable[[], bool]) -> None:
    """Wait for what nothing tells."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0)


async def test_the_answer_of_a_job_goes_to_the_newest_post() -> None:
    slow = Slow()
    async with serving(TestSite(delegates=slow.table)) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        older = asyncio.create_task(post(visitor, hello(token, document), frame("send", 1, 1, "slow", "a")))
        await slow.started.wait()
        newer = asyncio.create_task(post(visitor, hello(token, document), frame("send", 1, 1, "slow", "a")))
        await until(lambda: site.publisher.statistics().sent == 5)
        slow.go.set()

        assert [await older, await newer] == [[], [["result", 1, True, "done"]]]
    assert slow.runs == ["a"]


async def test_threat_14_posts_of_one_document_do_not_pile_up() -> None:
    slow = Slow()
    async with serving(TestSite(delegates=slow.table)) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        statistics = site.publisher.statistics
        body = f"[{hello(token, document)},{frame('send', 1, 1, 'slow', 'a')}]".encode()
        lines = [visitor.line() for _ in range(3)]
        posts = [asyncio.create_task(lines[0].request("/pagews/post", body))]
        await slow.started.wait()
        for number in (1, 2):
            posts.append(asyncio.create_task(lines[number].request("/pagews/post", body)))
            # The one before is answered, and does not wait for what the newest will be told.
            assert (await asyncio.wait_for(posts[number - 1], 10)).body == b"[]"
        assert len(get_site(site.app).posts) == 1
        # Nor does one wait whose browser has gone.
        lines[2].cut()
        await asyncio.wait(posts)
        await until(lambda: statistics().sockets == 1)
        assert not get_site(site.app).posts
        slow.go.set()
        for line in lines:
            line.cut()


async def test_a_connection_that_has_waited_for_results_is_aiohttps_again() -> None:
    protocols = list[Any]()

    @web.middleware
    async def note(request: web.Request, handler: Any) -> Any:
        response = await handler(request)
        if request.path == "/pagews/post" and request.transport is not None:
            protocols.append(request.transport.get_protocol())
        return response

    site = TestSite(delegates=table)
    site.app.middlewares.insert(0, note)
    async with serving(site), Visitor(site.url) as visitor:
        token, document, line = await visitor.token(), new_document(), visitor.line()
        await visitor.attach(token, document=document)
        for number in (1, 2):
            body = f"[{hello(token, document)},{frame('send', number, 1, 'echo', number)}]".encode()
            assert json.loads((await line.request("/pagews/post", body)).body) == [["result", number, True, number]]
        line.cut()

    assert [type(protocol) is Watch for protocol in protocols] == [False, False]


async def test_results_of_one_post_come_in_several_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagews.fallback.ANSWER", 300_000)
    large, runs = DelegateTableDef(), list[int]()

    @large.on("large")
    async def run(page: pagews.Page, data: Any) -> str:
        runs.append(data)
        await asyncio.sleep(0)
        return "x" * 200_000

    async with serving(TestSite(delegates=large)) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        left, answers = list(range(1, 21)), 0
        while left:
            answers += 1
            sends = [frame("send", number, 2, "large", number) for number in left]
            results = await post(visitor, hello(token, document), *sends)
            assert {result[0] for result in results} == {"result"}
            left = [number for number in left if number not in {result[1] for result in results}]

        assert answers > 1
        assert runs == list(range(1, 21))
        assert site.publisher.statistics().closed == {}


async def test_large_results_within_the_bound_of_an_answer_run_once() -> None:
    large, runs = DelegateTableDef(), list[int]()

    @large.on("large")
    async def run(page: pagews.Page, data: Any) -> str:
        runs.append(data)
        await asyncio.sleep(0)
        return "x" * 200_000

    async with serving(TestSite(delegates=large)) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        sends = [frame("send", number, 1, "large", number) for number in range(1, 21)]
        results = await post(visitor, hello(token, document), *sends)

        assert [result[1] for result in results] == runs == list(range(1, 21))


async def test_an_answer_that_comes_behind_its_post_goes_to_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagews.fallback.HOLD", 0.01)
    slow = Slow()
    async with serving(TestSite(delegates=slow.table)) as site, Visitor(site.url, "stream") as visitor:
        token, document = await visitor.token(), new_document()
        wire = await visitor.attach(token, document=document)
        assert await post(visitor, hello(token, document), frame("send", 1, 1, "slow", "a")) == []
        slow.go.set()

        assert await wire.receive() == ["result", 1, True, "done"]
    assert slow.runs == ["a"]


async def test_a_post_that_asks_for_nothing_does_not_wait() -> None:
    slow = Slow()
    async with serving(TestSite(delegates=slow.table)) as site, Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        asking = asyncio.create_task(post(visitor, hello(token, document), frame("send", 1, 1, "slow", "a")))
        await slow.started.wait()

        assert await post(visitor, hello(token, document), frame("ack", 9, True, 1), frame("pong")) == [["acked", 9]]
        assert not asking.done()
        slow.go.set()
        assert await asking == [["result", 1, True, "done"]]


async def test_more_sends_than_may_wait_are_refused_in_the_same_answer() -> None:
    slow = Slow()
    site = TestSite(delegates=[slow.table, table], limits=Limits(sends_waiting=2))
    async with serving(site), Visitor(site.url) as visitor:
        token, document = await visitor.token(), new_document()
        await visitor.attach(token, document=document)
        slow.go.set()
        sends = [frame("send", number, 1, "slow", number) for number in range(1, 6)]
        results = await post(visitor, hello(token, document), *sends)

        assert sorted(result[1] for result in results) == [1, 2, 3, 4, 5]
        assert {result[1] for result in results if not result[2]} == {3, 4, 5}


async def test_a_join_by_post(visitor: Visitor) -> None:
    async def anybody(page: pagews.Page, topic: str) -> bool:
        return True

    async with serving(TestSite(authorize=anybody)) as site, Visitor(site.url, "stream") as browser:
        token, document = await browser.token(), new_document()
        wire = await browser.attach(token, document=document)
        assert await post(browser, hello(token, document), frame("join", 1, "room/7")) == [["result", 1, True, None]]
        await site.publisher.topic("room/7").push("line", "heard")

        assert (await wire.receive())[2:] == ["topic:room/7", "line", "heard"]


class Terminating(pagews.PageHandler):
    """Counts what becomes of its instances."""

    ended: list[int] = []  # noqa: RUF012  # the test's own

    def websocket_terminate(self, reason: int, context: pagews.Context) -> Awaitable[None] | None:
        self.ended.append(reason)
        return super().websocket_terminate(reason, context)

    def websocket_info(self, message: Any, context: pagews.Context) -> Any:
        if message.delegate == "secret":
            return None
        return super().websocket_info(message, context)


@pytest.mark.parametrize("path", ["stream", "poll"])
async def test_a_page_handler_of_ones_own_works_here_too(path: Any) -> None:
    Terminating.ended.clear()
    async with serving(TestSite(handler=Terminating, delegates=table)) as site, Visitor(site.url, path) as visitor:
        wire: Wire = await visitor.attach()
        page = site.publisher.page(wire.page)
        await page.push("secret", 1)
        await page.push("growl", 2)
        assert (await wire.receive())[3:] == ["growl", 2]
        assert (await wire.ask("send", 1, 1, "echo", 3))[3] == 3
        assert Terminating.ended.count(1000) == 1


# --- a page without a token -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["websocket", "stream", "poll"])
async def test_renew_opens_a_page_for_who_has_none(site: TestSite, path: Any) -> None:
    async with Visitor(site.url, path) as visitor:
        assert visitor.cookie == ""
        status, body = await visitor.renew({"token": None})
        assert (status, set(body)) == (200, {"token"})
        assert visitor.cookie
        before = await visitor.attach(body["token"])
        # Of the same browser session, from now on, without a topic.
        await site.publisher.page(before.page).push("count", 1)
        [page] = await site.publisher.page(before.page).pages()
        _, other = await visitor.renew({"token": None})
        after = await visitor.attach(other["token"])
        await page.session.push("count", 2)

        assert after.page != before.page
        assert (await after.receive())[4] == 2
        assert [(await before.receive())[4] for _ in range(2)] == [1, 2]
        assert (await after.ask("send", 1, 1, "topics", None))[3] == []


async def test_a_body_that_opens_no_page(visitor: Visitor) -> None:
    assert (await visitor.renew({}))[0] == 400
