"""What reads the bytes of strangers, each as a function that a fuzzer can call: only what is documented may come out.

Imported by the fuzzer once it listens to every line of `pagews`, and by the tests as it is.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from msgspec import Struct

import pagews
from pagews import redis_codec, text_frames, wire
from pagews.encryption import Encryption
from pagews.errors import ProtocolError
from pagews.form_body import BACK, DELEGATE, MULTIPART, TOKEN, URLENCODED, FormBody
from pagews.form_data import form_data
from pagews.identity import CookieStorage
from pagews.renew import Renewal
from pagews.site import Site, get_site
from pagews.tokens import Token, Tokens
from pagews.wire import Binary, Draft, Push, Text

T = TypeVar("T")

CORPUS: Final = Path(__file__).resolve().parent.parent / "tests" / "wire_corpus.json"

KEY: Final = base64.urlsafe_b64encode(bytes(32))


class Target(NamedTuple):
    """Something to be fuzzed. `run` raises when a promise is broken; `seeds`: inputs that get it far."""

    run: Callable[[bytes], object]
    seeds: Sequence[bytes]


# --- the wire ---------------------------------------------------------------------------------------------------------


def wire_text(data: bytes) -> None:
    """A text message of a browser, which aiohttp has found to be UTF-8."""
    if _is_utf8(data):
        _decode(Text.encoded(data))


def wire_binary(data: bytes) -> None:
    """A binary message of a browser."""
    _decode(Binary(data))


def batch(data: bytes) -> None:
    """The body of a post."""
    try:
        messages = text_frames.read_batch(text_frames.split_batch(data))
    except ProtocolError:
        return
    for message in messages:
        text_frames.read_hello(message)
        _decode(message)


def _decode(message: wire.Message) -> None:
    try:
        frame = wire.decode(message)
    except ProtocolError:
        return
    if isinstance(frame, wire.Send) and not isinstance(frame.data, bytes):
        wire.encode_json(frame.data)  # what came as JSON goes out as JSON


# --- what browsers keep -----------------------------------------------------------------------------------------------


def token(data: bytes) -> None:
    """A page token; and what one says, had its writer been anybody."""
    tokens = Tokens([KEY], 1000.0)
    for text in (data.decode("latin-1"), Encryption([KEY], "page token").encrypt(data)):
        read = tokens.read(text, expired=True)
        assert read is None or isinstance(tokens.renewed(read), str)


def cookie(data: bytes) -> None:
    """The session cookie; and what one says, had its writer been anybody."""
    storage = CookieStorage([KEY])
    for text in (data.decode("latin-1"), Encryption([KEY], "session cookie").encrypt(data)):
        if not set(text) & set("\0\r\n"):
            request = _request("").clone(headers={"Cookie": f"PAGEWS={text}"})
            _finished(storage.load_session(request))


def renewal(data: bytes) -> None:
    """The body of a renewal."""
    try:
        msgspec.json.decode(data, type=Renewal)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return


# --- forms ------------------------------------------------------------------------------------------------------------


class Fields(Struct):
    """What a delegate may want of a form."""

    text: str
    number: int | None = None
    ticked: bool = False
    many: list[str] = []
    numbers: tuple[float, ...] = ()
    file: pagews.Upload | None = None


def form_pairs(data: bytes) -> None:
    """A form without files."""
    _read_form(URLENCODED, data)


def form_parts(data: bytes) -> None:
    """A form with files."""
    _read_form(f"{MULTIPART}; boundary=b", data)


def form_values(data: bytes) -> None:
    """What the fields of a form are for a delegate."""
    fields: dict[str, list[object]] = {}
    for name, value in parse_qsl(data.decode("latin-1"), keep_blank_values=True):
        fields.setdefault(name, []).append(value)
    given = form_data(fields, Fields)
    try:
        msgspec.convert(given, Fields, strict=False)
    except msgspec.ValidationError:
        return


def _read_form(kind: str, data: bytes) -> None:
    _loop().run_until_complete(_read(kind, data))


async def _read(kind: str, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    content.feed_data(data)
    content.feed_eof()
    request = _request(kind).clone()
    request._payload = content  # making each anew takes ten times as long as reading it
    body = FormBody(request, _site())
    try:
        await body.read_texts()
        await body.read_files()
    except web.HTTPClientError:
        return
    finally:
        body.close()


# --- Redis ------------------------------------------------------------------------------------------------------------


def redis_published(data: bytes) -> None:
    """What is published on a channel of the log."""
    try:
        message = redis_codec.published(data)
    except ValueError:
        return
    assert min(message.seq, message.prev) >= 0


def redis_filed(data: bytes) -> None:
    """An entry of the log. What of it is for browsers, they can read."""
    entry = redis_codec.filed(1, data)
    if isinstance(entry, Push):
        if isinstance(entry.message, Text):
            assert _is_utf8(entry.message.payload)
        assert entry.data is not msgspec.UNSET
    elif entry.kind == "close":
        wire.close_frame(entry.code, entry.reason)


def redis_answer(data: bytes) -> None:
    """A page's answer, for whoever asked."""
    try:
        redis_codec.answer(data)
    except ValueError:
        return


def redis_result(data: bytes) -> None:
    """The result of a send, for a repeat."""
    try:
        message = redis_codec.message(data)
    except ValueError:
        return
    assert isinstance(message, Binary) or _is_utf8(message.payload)


# --- what they share --------------------------------------------------------------------------------------------------


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """What comes of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for something")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@functools.cache
def _request(kind: str) -> web.Request:
    return make_mocked_request("POST", "/", {"Content-Type": kind})


@functools.cache
def _site() -> Site:
    app = web.Application()
    pagews.setup(app, secret_key=KEY)
    return get_site(app)


def _corpus() -> list[bytes]:
    cases = [case for case in json.loads(CORPUS.read_text("utf-8")) if case["direction"] == "up"]
    return [base64.b64decode(case["base64"]) if "base64" in case else case["frame"].encode() for case in cases]


_FRAMES: Final = _corpus()
_TEXTS: Final = [frame for frame in _FRAMES if _is_utf8(frame) and not frame.startswith(b"\0")]
_BINARIES: Final = [frame for frame in _FRAMES if frame not in _TEXTS]
_TOKEN: Final = msgspec.json.encode(Token("p", "s", "u", ["news"], "e", 1, 0.0, 0.0))
_PUSH: Final = redis_codec.push_body(Draft("topic:news", "show", b'{"n":1}'))
_PART: Final = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
_FILE: Final = (
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\nContent-Type: text/plain\r\n\r\n%b\r\n'
)
_OWN: Final = {TOKEN.encode(): b"t", DELEGATE.encode(): b"d", BACK.encode(): b"/"}

TARGETS: Final[dict[str, Target]] = {
    "wire-text": Target(wire_text, _TEXTS),
    "wire-binary": Target(wire_binary, _BINARIES),
    "batch": Target(batch, [b"[" + b",".join(_TEXTS[:3]) + b"]", b'["AAAA"]', *_TEXTS]),
    "token": Target(token, [_TOKEN, Encryption([KEY], "page token").encrypt(_TOKEN).encode()]),
    "cookie": Target(cookie, [b'{"created":1,"session":{"pagews.session":"s"}}', b"x"]),
    "renewal": Target(renewal, [b'{"token":"t"}', b'{"token":null,"adopt":true}']),
    "form-pairs": Target(form_pairs, [b"&".join(b"%b=%b" % pair for pair in _OWN.items()), b"a=%C3%A9&a=1&b"]),
    "form-parts": Target(
        form_parts,
        [
            b"".join(_PART % pair for pair in _OWN.items()) + _FILE % (b"a.txt", b"text") + b"--b--\r\n",
            _PART % (b"a", b"1") + _FILE % (b"", b"") + b"--b--",
        ],
    ),
    "form-values": Target(form_values, [b"text=a&number=&ticked=on&many=a&many=b&numbers=1", b"text=a&file="]),
    "redis-published": Target(redis_published, [b"e 2 1 " + _PUSH, b"e 0 0 t"]),
    "redis-filed": Target(
        redis_filed,
        [
            _PUSH,
            redis_codec.push_body(Draft("page", "d", b"\0", True, 7)),
            redis_codec.close_body(1012, "r"),
            b"t",
            b"r",
        ],
    ),
    "redis-answer": Target(
        redis_answer,
        [
            redis_codec.answer_body(pagews.broker.Answer(1, "p", "d", ["page:p"], True, {"n": 1})),
            redis_codec.answer_body(pagews.broker.Answer(1, "p", "d", [], False, pagews.RemoteError("c", "m"))),
        ],
    ),
    "redis-result": Target(redis_result, [b't["result",1,true,null]', b"b\0\0\0\0"]),
}
