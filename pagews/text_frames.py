"""Frames as text, for carriers that carry nothing else: a text message is its JSON, a binary one its base64.

The two cannot be confused: the JSON of a message begins with a bracket, which base64 does not know.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw, Struct

from .errors import ProtocolError
from .private import private
from .wire import BINARY, Binary, Hello, HelloFields, Message, Text, decode, split_frames

#: A line break in JSON is only white space, and would end the line of an event.
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")

#: What is said first on a stream: some proxies hand on nothing before they have so much.
PADDING: Final = b":" + b" " * 2048 + b"\n\n"


# --- server to page ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def as_chunk(frames: bytes) -> bytes:
    """As `as_events`, as one chunk of a body (RFC 9112 section 7.1). Kept a while, for a push goes to many pages."""
    events = as_events(frames)
    return b"%x\r\n%b\r\n" % (len(events), events)


def as_events(frames: bytes) -> bytes:
    """A run of WebSocket frames as events of an event stream."""
    events = []
    for opcode, payload in split_frames(frames):
        text = base64.b64encode(payload) if opcode == BINARY else payload.translate(_ONE_LINE)
        events.append(b"data: %b\n\n" % text)
    return b"".join(events)


def as_items(frames: bytes) -> list[bytes]:
    """A run of WebSocket frames as items of a JSON array."""
    return [
        b'"%b"' % base64.b64encode(payload) if opcode == BINARY else payload for opcode, payload in split_frames(frames)
    ]


def close_message(code: int, reason: bytes) -> bytes:
    """What a WebSocket close frame says. `reason`: UTF-8."""
    return msgspec.json.encode(["close", code, reason.decode()])


@private
class _WelcomeFields(Struct):
    resumed: bool
    forked: bool
    token: str | None


class _Welcome(Struct, array_like=True, tag="welcome"):
    fields: _WelcomeFields


_welcome = msgspec.json.Decoder(_Welcome)


def is_quiet(item: bytes) -> bool:
    """Whether it is a welcome that says nothing new: the page goes on from where it was, with the token it has."""
    try:
        fields = _welcome.decode(item).fields
    except msgspec.DecodeError:
        return False
    return fields.resumed and not fields.forked and fields.token is None


# --- page to server ---------------------------------------------------------------------------------------------------

_items = msgspec.json.Decoder(list[Raw])


def split_batch(body: bytes) -> list[Raw]:
    """The items of a JSON array, not looked at yet: counting them costs a twentieth of reading them.

    Raises:
        ProtocolError: it is no array, or an empty one.
    """
    try:
        items = _items.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(str(error)) from error
    if not items:
        raise ProtocolError("there is no frame")
    return items


def read_batch(items: list[Raw]) -> list[Message]:
    """The messages of a batch: each item is an array, or a string with the base64 of a binary one.

    Raises:
        ProtocolError: one of them is neither.
    """
    try:
        return [_read_item(bytes(item)) for item in items]
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(str(error)) from error


def _read_item(item: bytes) -> Message:
    item = item.strip()
    return Binary(msgspec.json.decode(item, type=bytes)) if item.startswith(b'"') else Text.encoded(item)


def read_hello(message: Message) -> HelloFields | None:
    """What a hello says; None when it is none, which its handler will say."""
    try:
        hello = decode(message)
    except ProtocolError:
        return None
    return hello.fields if isinstance(hello, Hello) else None
