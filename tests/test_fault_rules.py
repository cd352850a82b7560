"""Where a recorded stream has its frames, and where the rules that look at them cut."""

from __future__ import annotations

import pytest

from tests.faults import Frame, before_frame, frames

HEADER = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
ONE, TWO, THREE = b"\x81\x03one", b"\x81\x03two", b"\x81\x05three"


def test_frames_of_a_stream() -> None:
    long, longer = b"l" * 200, b"L" * 70_000
    stream = HEADER + ONE + b"\x81\x7e\x00\xc8" + long + b"\x82\x7f" + (70_000).to_bytes(8, "big") + longer
    begin = len(HEADER)

    # The last one is not whole.
    assert list(frames(stream + TWO[:-1])) == [
        Frame(begin, begin + 5, 1, b"one"),
        Frame(begin + 5, begin + 209, 1, long),
        Frame(begin + 209, begin + 209 + 70_010, 2, longer),
    ]
    assert list(frames(HEADER[:-1])) == list(frames(HEADER)) == []


def test_frames_are_unmasked() -> None:
    masked = b"\x81\x83" + b"\1\2\3\4" + bytes([ord("o") ^ 1, ord("n") ^ 2, ord("e") ^ 3])

    assert [frame.payload for frame in frames(HEADER + masked)] == [b"one"]


@pytest.mark.parametrize("split", range(len(HEADER + ONE) + 1))
def test_cut_before_a_frame_however_it_comes(split: int) -> None:
    stream = HEADER + ONE + TWO + THREE
    rule = before_frame(b"two")
    passed = bytearray()
    for chunk in (stream[:split], stream[split:]):
        stop = rule(passed, chunk)
        passed += chunk[:stop]
        if stop is not None:
            break

    assert passed == HEADER + ONE
