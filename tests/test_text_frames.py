"""Frames as text: every message comes back as it was."""

from __future__ import annotations

import base64
import json

import pytest

from pagews import Binary, Text
from pagews.errors import ProtocolError
from pagews.text_frames import (
    as_chunk,
    as_events,
    as_items,
    close_message,
    is_quiet,
    read_batch,
    read_hello,
    split_batch,
)
from pagews.wire import Message, split_frames, welcome

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 100_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_run_of_frames_is_split_where_they_end(size: int) -> None:
    messages: list[Message] = [Text("a" * size), Binary(b"\xff" * size), Text("[]")]
    run = b"".join(message.frame for message in messages)

    assert list(split_frames(run)) == [(1, b"a" * size), (2, b"\xff" * size), (1, b"[]")]


def test_events() -> None:
    run = Text('["a",\r\n"b"]').frame + Binary(b"\x00\xff").frame
    events = b'data: ["a",  "b"]\n\ndata: AP8=\n\n'

    assert as_events(run) == events
    assert as_chunk(run) == b"%x\r\n%b\r\n" % (len(events), events)


def test_items_are_json_and_can_be_told_apart() -> None:
    text, binary = json.loads(b"[%b]" % b",".join(as_items(Text('["a"]').frame + Binary(b"\x00\xff").frame)))

    assert text == ["a"]
    assert base64.b64decode(binary) == b"\x00\xff"


def test_a_batch() -> None:
    assert read_batch(split_batch(b' [ ["a", 1] ,"AP8=",\n["pong"]]')) == [
        Text('["a", 1]'),
        Binary(b"\x00\xff"),
        Text('["pong"]'),
    ]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"[1", b'["x"]', b'["\xff"]', b"[" * 9000, b"null"])
def test_what_is_no_batch(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_batch(split_batch(body))
    assert caught.value.code == 4501


@pytest.mark.parametrize(
    ("fields", "quiet"),
    [({}, True), ({"resumed": False, "lost": "epoch"}, False), ({"forked": True}, False), ({"token": "t"}, False)],
)
def test_what_a_quiet_welcome_is(fields: dict[str, object], quiet: bool) -> None:
    usual = {"page": "p", "epoch": "e", "seq": 1, "resumed": True, "lost": None, "forked": False, "heartbeat": 25.0}
    frame = welcome(**{**usual, "token": None, "message_limit": 1, **fields})  # type: ignore[arg-type]  # as they are

    assert is_quiet(frame.payload) is quiet


@pytest.mark.parametrize("item", [b'["ping",1]', b"[]", b"x", b'"AP8="'])
def test_nothing_else_is_a_quiet_welcome(item: bytes) -> None:
    assert not is_quiet(item)


def test_a_close_and_a_hello() -> None:
    assert json.loads(close_message(4000, "h\u00e9 \"'".encode())) == ["close", 4000, "h\u00e9 \"'"]
    hello = read_hello(Text('["hello",{"token":"t","document":"0123456789abcdef","attempt":1,"wait":true}]'))
    assert hello is not None
    assert hello.wait
    assert read_hello(Text('["pong"]')) is None
    assert read_hello(Text("[")) is None
