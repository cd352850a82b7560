"""The wire messages: encoded once, decoded strictly, framed for WebSockets.

`docs/reference/protocol.md` is the protocol. A text message is a JSON array whose first item names its kind; a binary
one is a 4-byte length, that many bytes of such an array whose data is null, and then the data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, NamedTuple, NoReturn

import msgspec
from msgspec import Meta, Struct

from .errors import EncodingError, MessageTooLarge, ProtocolError
from .private import private
from .targets import NAME_LENGTH

SUBPROTOCOL: Final = "pagews.v1"

#: The largest integer that JavaScript counts exactly.
MAX_INTEGER: Final = 2**53 - 1

#: Characters of a page token at most: 16 KiB of topics, escaped and encrypted, and some.
TOKEN_LENGTH: Final = 48 * 1024

TEXT, BINARY, CLOSE = 0x1, 0x2, 0x8


# --- frames -----------------------------------------------------------------------------------------------------------


def websocket_frame(opcode: int, payload: bytes) -> bytes:
    """One whole, unmasked WebSocket frame (RFC 6455 section 5.2).

    A server does not mask (section 5.1), so the same bytes serve every socket.
    """
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


def frame_payload(frame: bytes) -> bytes:
    """The payload of an unmasked frame that `websocket_frame` made."""
    return frame[_header_size(frame) :]


def payload_size(frame: bytes) -> int:
    """The bytes of the payload of an unmasked frame."""
    return len(frame) - _header_size(frame)


def _header_size(frame: bytes) -> int:
    size = frame[1]
    return 2 if size < 126 else 4 if size == 126 else 10


def split_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each of a run of unmasked frames."""
    start = 0
    while start < len(data):
        size, head = data[start + 1], start + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, head = int.from_bytes(data[head : head + width], "big"), head + width
        yield data[start] & 0x0F, data[head : head + size]
        start = head + size


class Text:
    """A text message to or from a handler. Framed once, however many sockets it is written to."""

    __slots__ = ("frame",)

    def __init__(self, data: str) -> None:
        if not isinstance(data, str):
            raise TypeError(f"Text takes a str, not {type(data).__name__}: send bytes as Binary, data as JSON in it")
        self.frame = websocket_frame(TEXT, data.encode())

    @classmethod
    def encoded(cls, payload: bytes) -> Text:
        """A text message from bytes that are known to be UTF-8."""
        text = cls.__new__(cls)
        text.frame = websocket_frame(TEXT, payload)
        return text

    @property
    def payload(self) -> bytes:
        """The text as UTF-8."""
        return frame_payload(self.frame)

    @property
    def data(self) -> str:
        """The text."""
        return self.payload.decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and self.frame == other.frame

    def __hash__(self) -> int:
        return hash(self.frame)

    def __repr__(self) -> str:
        return f"<Text, {len(self.payload)} bytes>"


class Binary:
    """A binary message to or from a handler. Framed once, however many sockets it is written to."""

    __slots__ = ("frame",)

    def __init__(self, data: bytes) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"Binary takes bytes, not {type(data).__name__}: send text as Text, data as JSON in it")
        self.frame = websocket_frame(BINARY, bytes(data))

    @property
    def data(self) -> bytes:
        """The bytes."""
        return frame_payload(self.frame)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Binary) and self.frame == other.frame

    def __hash__(self) -> int:
        return hash(self.frame)

    def __repr__(self) -> str:
        return f"<Binary, {len(self.data)} bytes>"


class Close(NamedTuple):
    """A handler's wish to close its socket: a close code (1000, or 3000-4999) and at most 123 bytes of reason."""

    code: int = 1000
    reason: str = ""


Message = Text | Binary


def close_frame(code: int, reason: str) -> bytes:
    """A WebSocket close frame (RFC 6455 section 5.5.1: the whole body is at most 125 bytes)."""
    return websocket_frame(CLOSE, struct.pack("!H", code) + clip_reason(reason))


def clip_reason(reason: str) -> bytes:
    """`reason` as UTF-8 of at most 123 bytes, cut between characters."""
    return reason.encode(errors="replace")[:123].decode(errors="ignore").encode()


# --- server to page ---------------------------------------------------------------------------------------------------

_encoder = msgspec.json.Encoder()


def encode_json(data: object) -> bytes:
    """`data` as JSON. NaN and infinities become null, bytes base64.

    Raises:
        EncodingError: it has no JSON form.
    """
    try:
        return _encoder.encode(data)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise EncodingError(f"{type(data).__name__} has no JSON form: {error}") from error


def encode_data(data: object, limit: int) -> bytes:
    """What a push or a result carries, before it has a number: bytes as they are, all else as JSON.

    Raises:
        EncodingError: it has no JSON form.
        MessageTooLarge: it has more than `limit` bytes.
    """
    raw = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else encode_json(data)
    if len(raw) > limit:
        raise MessageTooLarge(len(raw), limit)
    return raw


@private
class Draft(NamedTuple):
    """A push that is encoded but has no number yet."""

    to: str
    delegate: str
    data: bytes
    binary: bool = False
    receipt: int = 0


class Push:
    """A push with its number: what a handler's `websocket_info` gets, and what the log keeps.

    Attributes:
        seq: its number, 0 for qos 0.
        to: `page`, `session`, `user` or `topic:NAME`.
        delegate: the name of the browser's receiver.
        receipt: the id under which an answer is awaited, or 0.
        message: the `Text` or `Binary` to write, one object for all sockets.
    """

    __slots__ = ("delegate", "message", "receipt", "seq", "to")

    def __init__(self, seq: int, draft: Draft) -> None:
        self.seq = seq
        self.to = draft.to
        self.delegate = draft.delegate
        self.receipt = draft.receipt
        tail = b",%d]" % draft.receipt if draft.receipt else b"]"
        head = b'["push",%d,%b,%b,' % (seq, _encoder.encode(draft.to), _encoder.encode(draft.delegate))
        self.message: Message
        if draft.binary:
            self.message = _with_payload(head + b"null" + tail, draft.data)
        else:
            self.message = Text.encoded(head + draft.data + tail)

    @property
    def data(self) -> Any:
        """The data, decoded anew at every access: a JSON value, or bytes."""
        if isinstance(self.message, Binary):
            return _split_payload(self.message.data)[1]
        return msgspec.json.decode(self.message.payload)[4]

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(self.message.frame)

    def __repr__(self) -> str:
        return f"<Push {self.seq} {self.delegate!r} to {self.to!r}, {self.size} bytes>"


def _with_payload(header: bytes, payload: bytes) -> Binary:
    return Binary(len(header).to_bytes(4, "big") + header + payload)


def _split_payload(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ProtocolError("binary frame shorter than its header says")
    return data[4 : 4 + size], data[4 + size :]


def welcome(
    *,
    page: str,
    epoch: str,
    seq: int,
    resumed: bool,
    lost: str | None,
    forked: bool,
    heartbeat: float,
    token: str | None,
    message_limit: int,
) -> Text:
    """The answer to a hello."""
    fields = {
        "page": page,
        "epoch": epoch,
        "seq": seq,
        "resumed": resumed,
        "lost": lost,
        "forked": forked,
        "heartbeat": heartbeat,
        "token": token,
        "limits": {"message": message_limit},
    }
    return _frame("welcome", fields)


def ping(seq: int) -> Text:
    """Moves the cursor of the page to `seq`, and asks its script for a pong."""
    return _frame("ping", seq)


def acked(receipt: int) -> Text:
    """Tells the page that its answer has been filed."""
    return _frame("acked", receipt)


def token(text: str) -> Text:
    """A fresh token for the next hello."""
    return _frame("token", text)


def result(send_id: int, value: object, limit: int) -> Message:
    """What a server delegate returned.

    Raises:
        EncodingError: `value` has no JSON form.
        MessageTooLarge: it has more than `limit` bytes.
    """
    raw = encode_data(value, limit)
    if isinstance(value, bytes | bytearray | memoryview):
        return _with_payload(b'["result",%d,true,null]' % send_id, raw)
    return Text.encoded(b'["result",%d,true,%b]' % (send_id, raw))


def failed(send_id: int, code: str, message: str) -> Text:
    """Why a send, join or leave failed."""
    return _frame("result", send_id, False, {"code": code, "message": message})


def _frame(*items: object) -> Text:
    return Text.encoded(_encoder.encode(items))


# --- page to server ---------------------------------------------------------------------------------------------------

_Name = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)]
_Id = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
_Seq = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


@private
class HelloFields(Struct, frozen=True):
    """What a page says of itself when it attaches. `wait`: of a poll, to be answered when there is something new."""

    token: Annotated[str, Meta(min_length=1, max_length=TOKEN_LENGTH)]
    document: Annotated[str, Meta(pattern=r"^[0-9A-Za-z_-]{16,64}\Z")]
    attempt: _Id
    epoch: Annotated[str, Meta(max_length=64)] | None = None
    seq: _Seq | None = None
    transport: Annotated[str, Meta(max_length=20)] | None = None
    wait: bool = False


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    fields: HelloFields


@private
class Send(Struct, frozen=True, array_like=True, tag="send"):
    id: _Id
    qos: Annotated[int, Meta(ge=0, le=2)]
    delegate: _Name
    data: Any


@private
class Ack(Struct, frozen=True, array_like=True, tag="ack"):
    """The answer to a push with a receipt; with `ok` False, `value` is an `ErrorFields`."""

    receipt: _Id
    ok: bool
    value: Any


@private
class ErrorFields(Struct, frozen=True):
    """What an answer that is an error says."""

    code: _Name
    message: Annotated[str, Meta(max_length=10_000)]


class Join(Struct, frozen=True, array_like=True, tag="join"):
    id: _Id
    topic: _Name


class Leave(Struct, frozen=True, array_like=True, tag="leave"):
    id: _Id
    topic: _Name


class Bye(Struct, frozen=True, array_like=True, tag="bye"):
    pass


class Pong(Struct, frozen=True, array_like=True, tag="pong"):
    pass


Up = Hello | Send | Ack | Join | Leave | Bye | Pong

_decode_up: Callable[[bytes | str], Up] = msgspec.json.Decoder(Up).decode


def decode(message: Message) -> Up:
    """The frame that a page sent.

    Raises:
        ProtocolError: it is malformed, of an unknown kind, or has a wrong type or too few items; says what and where.
    """
    if isinstance(message, Text):
        return _decode_json(message.payload)
    header, payload = _split_payload(message.data)
    frame = _decode_json(header)
    if isinstance(frame, Send) and frame.data is None:
        return msgspec.structs.replace(frame, data=payload)
    if isinstance(frame, Ack) and frame.value is None:
        return msgspec.structs.replace(frame, value=payload)
    raise ProtocolError("binary frame of a kind that carries no payload")


def _decode_json(payload: bytes) -> Up:
    try:
        frame = _decode_up(payload)
        if isinstance(frame, Ack) and not frame.ok:
            return msgspec.structs.replace(frame, value=msgspec.convert(frame.value, ErrorFields))
        return frame
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        _refuse(error)
    except RecursionError as error:
        _refuse(error, "nested too deeply")


def _refuse(error: Exception, why: str | None = None) -> NoReturn:
    raise ProtocolError(why or str(error)) from error
