"""No token, cookie, session id or payload is in a log record or in a `repr`, and no error's text reaches a browser."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
import json
import logging
import pkgutil
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from msgspec import Struct
from websockets.exceptions import InvalidStatus

import pagews
from pagews.private import without_password
from pagews.publisher import Publisher
from pagews.redis_broker import RedisBroker
from pagews.site import get_site
from tests.bad_tokens import answer, tampered
from tests.redis_server import RedisServer
from tests.sites import TestSite, serving
from tests.threats import FOREIGN, lives
from tests.two_workers import LIMITS, broker_of, until
from tests.wire_client import Transport, Visitor

#: What is sent, in either direction.
PAYLOAD: Final = "the-payload"
#: The text of every exception of the application: it is logged with its traceback, and told to no browser.
TEXT: Final = "the-text"

#: What a delegate returns that cannot be sent.
NONSENSE: Final[dict[str, Any]] = {
    "object": {"text": PAYLOAD, "object": object()},
    "key": {(PAYLOAD,): PAYLOAD},
    "surrogate": f"{PAYLOAD}\udc80",
    "huge": PAYLOAD * 1000,
}

Said = Callable[[], str]


class Order(Struct):
    item: str
    count: int


class Shop:
    """A site whose delegates take and give the payload, and fail.

    Attributes:
        contexts: those of its sockets.
        secrets: what must not show, as it becomes known.
        told: what its visitors were told of errors.
    """

    def __init__(self, **setup: Any) -> None:
        delegates = pagews.DelegateTableDef()
        contexts = self.contexts = list[pagews.Context]()
        self.secrets = {PAYLOAD}
        self.told: list[Any] = []

        @delegates.on("echo")
        async def echo(page: pagews.Page, data: Any) -> Any:
            return data

        @delegates.on("order")
        async def order(page: pagews.Page, data: Order) -> str:
            await page.set("item", data.item)
            return data.item

        @delegates.on("upload")
        async def upload(page: pagews.Page, data: dict[str, Any]) -> str:
            assert PAYLOAD in data["file"].filename
            assert PAYLOAD not in repr(data["file"])
            return str(await data["file"].read())

        @delegates.on("fail")
        async def fail(page: pagews.Page, data: Any) -> None:
            raise RuntimeError(TEXT)

        @delegates.on("nonsense")
        async def nonsense(page: pagews.Page, data: dict[str, str]) -> Any:
            return NONSENSE[data["kind"]]

        class Handler(pagews.PageHandler):
            def websocket_init(self, context: pagews.Context) -> Any:
                contexts.append(context)
                return super().websocket_init(context)

            def websocket_info(self, message: Any, context: pagews.Context) -> Any:
                if message == PAYLOAD:
                    raise RuntimeError(TEXT)
                return super().websocket_info(message, context)

        async def authorize(page: pagews.Page, topic: str) -> bool:
            raise RuntimeError(TEXT)

        limits = dataclasses.replace(setup.pop("limits", pagews.Limits()), message_down=5000)
        self.site = TestSite(delegates=delegates, handler=Handler, authorize=authorize, limits=limits, **setup)
        # With the log of requests that aiohttp keeps unless it is told otherwise.
        self.site.runner = web.AppRunner(self.site.app)

    def shown(self, text: str) -> list[str]:
        """The secrets that are in a text."""
        return [secret for secret in self.secrets if secret in text]


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    async with serving(shop.site):
        yield shop


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """Says all that has been logged, by anybody but the client of the tests."""
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def say() -> str:
        records = [record for record in caplog.records if not record.name.startswith("websockets")]
        return "\n".join(map(caplog.handler.format, records))

    return say


# --- logs -------------------------------------------------------------------------------------------------------------


async def converse(shop: Shop, visitor: Visitor) -> None:
    """All that a page and its site may have to say to each other."""
    token = await visitor.token()
    page_wire = await visitor.attach(token)
    context = shop.contexts[0]
    shop.secrets |= {token, visitor.cookie.partition("=")[2], context.session_data["pagews.session"]}
    assert len(shop.secrets) == 4
    page = shop.site.publisher.page(page_wire.page)

    for shown in (PAYLOAD, PAYLOAD.encode()):
        await page.push("show", shown)
        assert (await page_wire.receive())[4] == shown
    receipt = await page.push("question", PAYLOAD, qos=2)
    await page_wire.send("ack", (await page_wire.receive())[5], True, PAYLOAD)
    assert (await page_wire.receive())[0] == "acked"
    [ack] = await receipt.wait()
    assert ack.value == PAYLOAD
    assert shop.shown(repr([receipt, ack])) == []

    sends: list[tuple[str, Any]] = [
        ("echo", {"text": PAYLOAD}),
        ("order", {"item": PAYLOAD, "count": 1}),
        ("order", {"item": "x", "count": PAYLOAD}),
        ("order", PAYLOAD),
        ("fail", PAYLOAD),
        (PAYLOAD, PAYLOAD),
        *(("nonsense", {"kind": kind}) for kind in NONSENSE),
    ]
    for number, (delegate, data) in enumerate(sends, 1):
        result = await page_wire.ask("send", number, 2, delegate, data)
        assert result[:2] == ["result", number]
        shop.told.append(result[2:])
    shop.told.append(await page_wire.ask("join", 1000, "news"))

    # A callback that fails ends its socket: that of a poll is over by now.
    if page_wire.transport != "poll":
        context.socket.send_info(PAYLOAD)
        shop.told.append(await page_wire.closed())


async def offend(shop: Shop, visitor: Visitor) -> None:
    """What is refused, each with something in it that is nobody's business."""
    token = await visitor.token()
    shop.secrets.add(token)
    for bad in (tampered(token, shop.site.key), PAYLOAD, token + token):
        shop.secrets.add(bad)
        shop.told.append(await answer(visitor, bad))
    cookie = visitor.cookie
    for stranger in (f"PAGEWS={PAYLOAD}", f"PAGEWS={cookie[7:-9]}AAAAAAAAA", ""):
        socket = await visitor.open(cookie=stranger)
        await socket.hello(token)
        shop.told.append(await socket.closed())
    for frame in ("send", 1, 3, "echo", PAYLOAD), ("send", PAYLOAD), (PAYLOAD,), ("ack", PAYLOAD, True, PAYLOAD):
        page_wire = await visitor.attach()
        await page_wire.send(*frame)
        shop.told.append(await page_wire.closed())
    page_wire = await visitor.attach()
    await page_wire.send_raw(f'["send",1,1,"echo","{PAYLOAD}')
    shop.told.append(await page_wire.closed())


async def post(shop: Shop, visitor: Visitor) -> None:
    """Everything that comes by requests of its own, good and bad."""
    token = await visitor.token()
    shop.secrets |= {token, visitor.cookie.partition("=")[2]}
    own = {"Origin": shop.site.url, "Accept": "application/json"}
    hello = ["hello", {"token": token, "document": PAYLOAD * 2, "attempt": 1, "transport": "poll"}]
    fields = {"pagews.token": token, "pagews.back": f"/?{PAYLOAD}", "item": PAYLOAD, "count": "1"}
    file = aiohttp.FormData({**fields, "pagews.delegate": "upload"})
    file.add_field("file", PAYLOAD.encode(), filename=f"{PAYLOAD}.txt", content_type="text/plain")
    forms: list[Any] = [
        file,
        *({**fields, "pagews.delegate": delegate} for delegate in ("order", "fail", "nonsense", PAYLOAD)),
        {**fields, "pagews.delegate": "order", "pagews.token": PAYLOAD},
        {**fields, "pagews.delegate": "order", "count": PAYLOAD},
    ]
    for data in forms:
        async with visitor.http.post(f"{shop.site.url}/pagews/form", data=data, headers=own) as response:
            shop.told.append((response.status, await response.text()))
    for body in ({"token": token}, {"token": PAYLOAD}, {"token": [PAYLOAD]}, PAYLOAD):
        shop.told.append(await visitor.renew(body))
    bodies = [json.dumps(hello), json.dumps([hello, [PAYLOAD]]), f'["{PAYLOAD}']
    kinds = [{"Origin": FOREIGN}, {"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}, {}]
    # Each on a connection of its own: what is refused may end it.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(shop.site.url, connector=connector, cookie_jar=visitor.http.cookie_jar) as client:
        for path, body, kind in itertools.product(("stream", "poll", "post", "renew", "form"), bodies, kinds):
            if (path, body, kind) == ("stream", bodies[0], {}):
                continue  # it would go on
            headers = {**own, "Content-Type": "application/json", **kind}
            async with client.post(f"/pagews/{path}", data=body, headers=headers) as response:
                shop.told.append((response.status, await response.text()))
    with pytest.raises(InvalidStatus):
        await visitor.connect(origin=FOREIGN)


def tells_nothing(shop: Shop, said: str) -> None:
    """That neither the logs nor the browsers were told what they should not be."""
    assert shop.shown(said) == []
    # The application's own exceptions are logged, and they have come to nobody.
    assert TEXT in said
    assert TEXT not in repr(shop.told)


async def test_threat_9_no_secret_is_logged(shop: Shop, said: Said, transport: Transport) -> None:
    async with Visitor(shop.site.url, transport) as visitor:
        await converse(shop, visitor)
    async with Visitor(shop.site.url, transport) as visitor:
        await offend(shop, visitor)
        assert await lives(await visitor.attach())

    assert "aiohttp.access: " in said()
    assert "delegate 'nonsense' returned what cannot be sent" in said()
    tells_nothing(shop, said())


async def test_threat_9_no_secret_of_a_form_is_logged(shop: Shop, said: Said) -> None:
    async with Visitor(shop.site.url) as visitor:
        await post(shop, visitor)

    assert f"refused a request from origin '{FOREIGN}'" in said()
    tells_nothing(shop, said())


async def test_threat_9_no_secret_is_logged_when_redis_is_away(said: Said, own_redis: RedisServer) -> None:
    shop = Shop(broker=own_redis.url, limits=LIMITS)
    async with serving(shop.site), Visitor(shop.site.url) as visitor:
        token = await visitor.token()
        page_wire = await visitor.attach(token)
        session_id = shop.contexts[0].session_data["pagews.session"]
        shop.secrets |= {token, visitor.cookie.partition("=")[2], session_id}
        broker = broker_of(shop.site)
        # Somebody else's hand on the channels of the session.
        await own_redis.command("PUBLISH", f"pagews:session:{session_id}", PAYLOAD)
        await until(lambda: "not ours" in said())

        own_redis.kill()
        await until(lambda: "Redis is away" in said())
        with pytest.raises(pagews.BrokerUnavailable) as error:
            await shop.site.publisher.session(session_id).push("show", PAYLOAD)
        assert shop.shown(str(error.value)) == []
        await page_wire.send("send", 1, 2, "order", {"item": PAYLOAD, "count": 1})
        async with visitor.http.get(shop.site.url) as response:
            shop.told.append(await response.text())
        await own_redis.restart()
        await until(lambda: "Redis is back" in said())
        assert shop.shown(repr(broker)) == []

    assert shop.shown(said()) == []


def test_password_of_a_redis_does_not_show() -> None:
    address = f"redis://user:{PAYLOAD}@127.0.0.1:1/0"
    assert without_password(address) == "redis://…@127.0.0.1:1/0"
    assert without_password("redis://127.0.0.1:1/0") == "redis://127.0.0.1:1/0"
    asked = f"redis://127.0.0.1:1/0?password={PAYLOAD}"
    assert without_password(asked) == "redis://127.0.0.1:1/0?…"
    assert without_password(f"{asked}@x") == "redis://…@x"
    assert PAYLOAD not in repr(RedisBroker(address, pagews.Limits()))

    # Of another kind, with an option that is not the application's, with a password that cannot be one.
    changed = f"{address}?decode_responses=1", f"{asked}&decode_responses=1", f"{asked}&foo=1"
    for wrong in (f"x{address}", f"x{asked}", *changed, address.replace(PAYLOAD, f"{PAYLOAD}/x")):
        with pytest.raises(pagews.ConfigurationError) as error:
            Publisher(wrong)
        assert PAYLOAD not in "".join(traceback.format_exception(error.value))


# --- repr -------------------------------------------------------------------------------------------------------------

#: Fields of records that may show: numbers, states, names of an application's own, and ids that open nothing.
HARMLESS: Final = frozenset(
    {"kind", "seq", "prev", "upto", "more", "lost", "messages", "epoch", "code", "reason", "then", "meaning", "repeat"}
    | {"claim", "revoked", "topics", "topic", "replay", "page", "forked", "granted", "result", "document", "attempt"}
    | {"left", "function", "requirements", "type", "hear", "words", "optional", "id", "fields", "entries", "size"}
)

#: Of the test kit, whose user wants to see what came, and figures.
OPEN: Final = frozenset({"Received", "_Waiting", "Limits", "Statistics"})


def records() -> list[type[Any]]:
    """Every class of the package whose `repr` would show its fields."""
    names = [module.name for module in pkgutil.iter_modules(pagews.__path__) if module.name != "__main__"]
    modules = [importlib.import_module(f"pagews.{name}") for name in names]
    things = [thing for module in modules for thing in vars(module).values() if inspect.isclass(thing)]
    return [kind for kind in dict.fromkeys(things) if kind.__module__.startswith("pagews.") and fields_of(kind)]


def fields_of(kind: type[Any]) -> list[str]:
    if issubclass(kind, tuple):
        return list(getattr(kind, "_fields", ()))
    if issubclass(kind, Struct):
        return list(kind.__struct_fields__)
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


@pytest.mark.parametrize("kind", [kind for kind in records() if kind.__name__ not in OPEN], ids=str)
def test_threat_9_no_record_shows_what_it_holds(kind: type[Any]) -> None:
    shown = repr(kind(**{name: None if name in HARMLESS else PAYLOAD for name in fields_of(kind)}))

    assert PAYLOAD not in shown


def test_there_are_records() -> None:
    names = {kind.__name__ for kind in records()}

    assert names > {"Token", "Identity", "Send", "Hello", "_Record", "Site"} | OPEN


async def test_threat_9_no_object_of_an_application_shows_what_it_holds(shop: Shop) -> None:
    async with Visitor(shop.site.url) as visitor:
        token = await visitor.token()
        page_wire = await visitor.attach(token)
        context = shop.contexts[0]
        session_id = context.session_data["pagews.session"]
        shop.secrets |= {token, visitor.cookie.partition("=")[2], session_id}
        [page] = await shop.site.publisher.session(session_id).pages()
        await page.set("item", PAYLOAD)
        receipt = await page.session.push("show", {"text": PAYLOAD}, qos=2)
        frame = await page_wire.receive_raw()
        assert isinstance(frame, str)
        assert PAYLOAD in frame

        site = get_site(shop.site.app)
        objects = [
            *(page, page.session, receipt, pagews.Text(frame), pagews.Binary(frame.encode())),
            *(context, context.page, context.request, context.session_data, context.socket, context.state),
            *(shop.site.app, site, site.node, site.node.broker, site.publisher, site.tokens, site.identities),
        ]
        assert {repr(thing) for thing in objects if shop.shown(repr(thing))} == set()
        assert shop.shown(repr(objects)) == []
