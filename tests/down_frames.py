"""What a server may send to a page, for the clients of these tests: strict, and sharing no code with the library."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

Number = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Id = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Word = Annotated[str, Meta(min_length=1)]


class _Limits(Struct):
    message: Id


class _Said(Struct):
    page: Word
    epoch: Word
    seq: Number
    resumed: bool
    lost: Literal["epoch", "expired", "trimmed"] | None
    forked: bool
    heartbeat: Annotated[float, Meta(gt=0)]
    token: Word | None
    limits: _Limits


class _Error(Struct):
    code: Word
    message: str


class _Welcome(Struct, array_like=True, tag="welcome"):
    said: _Said


class _Push(Struct, array_like=True, tag="push"):
    seq: Number
    to: Annotated[str, Meta(pattern="^(page|session|user|topic:.+)$")]
    delegate: Word
    data: Any
    receipt: Id = 1


class _Ping(Struct, array_like=True, tag="ping"):
    seq: Number


class _Result(Struct, array_like=True, tag="result"):
    id: Id
    ok: bool
    value: Any


class _Acked(Struct, array_like=True, tag="acked"):
    receipt: Id


class _Token(Struct, array_like=True, tag="token"):
    token: Word


class _Close(Struct, array_like=True, tag="close"):
    code: Annotated[int, Meta(ge=1000, le=4999)]
    reason: str


_FRAMES: Final = msgspec.json.Decoder(_Welcome | _Push | _Ping | _Result | _Acked | _Token | _Close)


class MalformedDown(AssertionError):
    """The server has sent what no page understands."""


def read_down(message: str | bytes) -> list[Any]:
    """The items of a frame, without those that are for clients to come; bytes stand where its data is.

    Raises:
        MalformedDown: it is none.
    """
    try:
        header, payload = (message.encode(), None) if isinstance(message, str) else _split(message)
        frame = _FRAMES.decode(header)
        # Of a push without a receipt it has one item less.
        items: list[Any] = msgspec.json.decode(header)[: 1 + len(frame.__struct_fields__)]
        if isinstance(frame, _Result) and not frame.ok:
            msgspec.convert(frame.value, _Error)
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedDown(f"{message!r:.200}: {error}") from error
    if payload is not None:
        place = 4 if isinstance(frame, _Push) else 3
        carries = isinstance(frame, _Push) or (isinstance(frame, _Result) and frame.ok)
        if not carries or items[place] is not None:
            raise MalformedDown(f"{message!r:.200}: it carries no bytes")
        items[place] = payload
    return items


def _split(message: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(message[:4], "big")
    if len(message) < 4 + size:
        raise ValueError("it is shorter than it says")
    return message[4 : 4 + size], message[4 + size :]
