"""What the Redis broker keeps and publishes, as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw

from .broker import Answer, Control, Filed
from .errors import RemoteError, check_close
from .private import private
from .targets import NAME_LENGTH
from .wire import MAX_INTEGER, Binary, Draft, Message, Push, Text

#: What the first byte of a filed body says.
PUSH, TOPICS, REVOKED, CLOSE = b"p", b"t", b"r", b"c"

#: What the value of an answer is: JSON, for it has numbers that MessagePack has not, or bytes, or an error.
_Kind = Literal["json", "bytes", "error"]

_Number = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
_Target = Annotated[str, Meta(pattern=r"^(page|session|user|topic:.+)\Z")]
_Delegate = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_draft: Final = msgspec.msgpack.Decoder(tuple[_Target, _Delegate, bytes, bool, _Number]).decode
_decode_answer: Final = msgspec.msgpack.Decoder(tuple[int, str, str, list[str], _Kind, bytes]).decode
_decode_error: Final = msgspec.json.Decoder(tuple[str, str]).decode
_decode_close: Final = msgspec.msgpack.Decoder(tuple[int, str]).decode
#: What it takes for JSON may have strings that are no UTF-8.
_check_json: Final = msgspec.json.Decoder(Raw).decode


@private
class Published(NamedTuple):
    """A message as it comes through pub/sub. `seq` and `prev` are 0 for what is not filed."""

    epoch: str
    seq: int
    prev: int
    body: bytes


def pack(arguments: Sequence[bytes]) -> bytes:
    """A command in Redis's protocol."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


def published(data: bytes) -> Published:
    """Raises ValueError for what no node of ours has published."""
    epoch, seq, prev, body = data.split(b" ", 3)
    return Published(epoch.decode(), number(seq), number(prev), body)


def number(text: bytes | str) -> int:
    """A number of the log, which is never negative. Raises ValueError for anything else."""
    if not text.isdigit() or int(text) > MAX_INTEGER:
        raise ValueError("no number of the log")
    return int(text)


def unfiled(epoch: str, body: bytes) -> bytes:
    """What is published without a number."""
    return b"%b 0 0 %b" % (epoch.encode(), body)


def push_body(draft: Draft) -> bytes:
    """A push, to be filed."""
    return PUSH + _encode(tuple(draft))


def close_body(code: int, reason: str) -> bytes:
    """A wish to close a page's socket."""
    return CLOSE + _encode((code, reason))


def filed(seq: int, body: bytes) -> Filed:
    """What stands in the log; what no node of ours has filed is a `Control` of the kind `unreadable`."""
    kind = body[:1]
    try:
        if kind == PUSH:
            return Push(seq, _draft(body[1:]))
        if kind == CLOSE:
            code, reason = _decode_close(body[1:])
            check_close(code)
            return Control("close", seq, code, reason)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Control("unreadable", seq)
    return Control({TOPICS: "topics", REVOKED: "revoked"}.get(kind, "unreadable"), seq)


def _draft(data: bytes) -> Draft:
    draft = Draft(*_decode_draft(data))
    if not draft.binary:
        # It goes to browsers as it is: one that gets what it cannot read does not come back.
        draft.data.decode()
        _check_json(draft.data)
    return draft


def message_body(message: Message) -> bytes:
    """A result, to be kept."""
    return b"t" + message.payload if isinstance(message, Text) else b"b" + message.data


def message(body: bytes) -> Message:
    """A result that was kept. Raises ValueError for what no node of ours has kept."""
    kind, data = body[:1], body[1:]
    if kind == b"t":
        data.decode()
        return Text.encoded(data)
    if kind == b"b":
        return Binary(data)
    raise ValueError("no result")


def answer_body(answer: Answer) -> bytes:
    """A page's answer, to be filed for whoever asked."""
    kind: _Kind
    value = answer.value
    if isinstance(value, RemoteError):
        kind, data = "error", msgspec.json.encode((value.code, value.message))
    elif isinstance(value, bytes):
        kind, data = "bytes", value
    else:
        kind, data = "json", msgspec.json.encode(value)
    return _encode((answer.receipt, answer.page_id, answer.document, list(answer.channels), kind, data))


def answer(body: bytes) -> Answer:
    """An answer that was filed. Raises ValueError for what no node of this version has filed."""
    try:
        receipt, page_id, document, channels, kind, data = _decode_answer(body)
        value: object = data
        if kind == "json":
            value = msgspec.json.decode(data)
        elif kind == "error":
            value = RemoteError(*_decode_error(data))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return Answer(receipt, page_id, document, channels, kind != "error", value)
