"""The codec: golden bytes down, strict decoding up."""

from __future__ import annotations

import base64
import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagews import wire
from pagews.errors import EncodingError, MessageTooLarge, ProtocolError

CORPUS = json.loads((Path(__file__).parent / "wire_corpus.json").read_text())


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_frame_lengths_of_rfc_6455(size: int, header: bytes) -> None:
    frame = wire.websocket_frame(wire.TEXT, b"x" * size)
    assert frame[: len(header)] == header
    assert len(frame) == len(header) + size
    assert wire.frame_payload(frame) == b"x" * size


def test_text_and_binary_are_framed_once() -> None:
    assert wire.Text("hé").frame == b"\x81\x03h\xc3\xa9"
    assert wire.Text("hé").data == "hé"
    assert wire.Text("a") == wire.Text.encoded(b"a")
    assert wire.Text("a") != wire.Binary(b"a")
    assert wire.Binary(b"\x00\xff").frame == b"\x82\x02\x00\xff"
    assert wire.Binary(b"\x00\xff").data == b"\x00\xff"
    assert len({wire.Text("a"), wire.Text("a"), wire.Binary(b"a")}) == 2
    assert "secret" not in repr(wire.Text("secret")) + repr(wire.Binary(b"secret"))


def test_close_frame_cuts_the_reason_between_characters() -> None:
    assert wire.close_frame(4500, "no") == b"\x88\x04\x11\x94no"
    assert wire.clip_reason("é" * 100) == "é".encode() * 61
    assert len(wire.close_frame(1000, "x" * 500)) == 2 + 125


def test_push_golden_bytes() -> None:
    draft = wire.Draft("topic:né", "growl", b'{"text":"hi"}')
    assert wire.Push(7, draft).message == wire.Text('["push",7,"topic:né","growl",{"text":"hi"}]')
    asked = wire.Push(8, draft._replace(receipt=99))
    assert asked.message == wire.Text('["push",8,"topic:né","growl",{"text":"hi"},99]')
    assert (asked.seq, asked.to, asked.delegate, asked.receipt) == (8, "topic:né", "growl", 99)
    assert asked.data == {"text": "hi"}
    assert asked.size == len(asked.message.frame)
    assert "hi" not in repr(asked)


def test_binary_push_golden_bytes() -> None:
    push = wire.Push(7, wire.Draft("page", "blob", b"\x00\x01", binary=True, receipt=3))
    header = b'["push",7,"page","blob",null,3]'
    assert push.message == wire.Binary(len(header).to_bytes(4, "big") + header + b"\x00\x01")
    assert push.data == b"\x00\x01"


def test_other_frames_golden_bytes() -> None:
    welcome = wire.welcome(
        page="p", epoch="e", seq=3, resumed=True, lost=None, forked=False, heartbeat=25.0, token=None, message_limit=9
    )
    assert welcome.data == (
        '["welcome",{"page":"p","epoch":"e","seq":3,"resumed":true,"lost":null,"forked":false,'
        '"heartbeat":25.0,"token":null,"limits":{"message":9}}]'
    )
    assert wire.ping(4).data == '["ping",4]'
    assert wire.acked(5).data == '["acked",5]'
    assert wire.token("t").data == '["token","t"]'
    assert wire.result(6, {"a": None}, 100) == wire.Text('["result",6,true,{"a":null}]')
    assert wire.failed(6, "c", "m").data == '["result",6,false,{"code":"c","message":"m"}]'
    header = b'["result",6,true,null]'
    assert wire.result(6, b"raw", 100) == wire.Binary(len(header).to_bytes(4, "big") + header + b"raw")


def test_threat_23_data_that_json_has_no_form_for() -> None:
    assert wire.encode_data([math.nan, math.inf, b"ab"], 100) == b'[null,null,"YWI="]'
    recursive: list[object] = []
    recursive.append(recursive)
    for data in (object(), {1j: 1}, "\ud800", recursive):
        with pytest.raises(EncodingError):
            wire.encode_data(data, 10**6)
    with pytest.raises(EncodingError):
        wire.result(1, object(), 100)
    with pytest.raises(MessageTooLarge):
        wire.result(1, "x" * 100, 100)


def test_data_that_is_too_large() -> None:
    assert wire.encode_data("x" * 8, 10) == b'"xxxxxxxx"'
    with pytest.raises(MessageTooLarge) as caught:
        wire.encode_data("x" * 9, 10)
    assert (caught.value.size, caught.value.limit) == (11, 10)
    assert "11 bytes" in str(caught.value)
    with pytest.raises(MessageTooLarge):
        wire.encode_data(b"x" * 11, 10)


def _up(case: dict[str, object]) -> wire.Message:
    if "base64" in case:
        return wire.Binary(base64.b64decode(str(case["base64"])))
    return wire.Text(str(case["frame"]))


UP = [case for case in CORPUS if case["direction"] == "up"]


@pytest.mark.parametrize("case", [case for case in UP if case["ok"]], ids=lambda case: case["why"])
def test_corpus_good_frames(case: dict[str, object]) -> None:
    wire.decode(_up(case))


@pytest.mark.parametrize("case", [case for case in UP if not case["ok"]], ids=lambda case: case["why"])
def test_corpus_bad_frames(case: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode(_up(case))
    assert caught.value.code == 4501
    assert caught.value.reason


def test_extra_items_are_ignored() -> None:
    assert wire.decode(wire.Text('["pong",1,{"later":true}]')) == wire.Pong()
    assert wire.decode(wire.Text('["send",1,2,"d",null,"more"]')) == wire.Send(1, 2, "d", None)


def test_threat_23_nesting_without_end_is_malformed() -> None:
    with pytest.raises(ProtocolError):
        wire.decode(wire.Text('["send",1,1,"d",' + "[" * 100_000 + "]" * 100_000 + "]"))


def test_binary_frames() -> None:
    header = b'["send",1,2,"d",null]'
    framed = len(header).to_bytes(4, "big") + header
    assert wire.decode(wire.Binary(framed + b"\xff")) == wire.Send(1, 2, "d", b"\xff")
    ack = b'["ack",5,true,null]'
    assert wire.decode(wire.Binary(len(ack).to_bytes(4, "big") + ack + b"x")) == wire.Ack(5, True, b"x")
    pong = b'["pong"]'
    for bad in (b"", b"\xff\xff\xff\xff", framed[:10], len(pong).to_bytes(4, "big") + pong + b"x"):
        with pytest.raises(ProtocolError):
            wire.decode(wire.Binary(bad))


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_malformed(data: bytes) -> None:
    for message in (wire.Binary(data), wire.Text(data.decode(errors="replace"))):
        with suppress(ProtocolError):
            wire.decode(message)
