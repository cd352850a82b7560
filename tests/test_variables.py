"""What is kept with a page, as JSON."""

from __future__ import annotations

import pytest

from pagews.variables import VARIABLE_SIZE, Variables, appended, increased


def test_size_is_what_is_kept() -> None:
    variables = Variables()
    assert (variables.get("é"), variables.size) == (None, 0)
    assert variables.growth("é", b"12345") == VARIABLE_SIZE + 2 + 5
    variables.put("é", b"12345")
    assert (variables.get("é"), variables.size) == (b"12345", VARIABLE_SIZE + 7)
    assert variables.growth("é", b"1") == -4
    variables.put("é", b"1")
    assert variables.size == VARIABLE_SIZE + 3
    variables.put("é", None)
    variables.put("never there", None)
    assert (variables.get("é"), variables.size) == (None, 0)


@pytest.mark.parametrize(
    ("value", "by", "total"),
    [(None, 1, 1), (b"41", 1, 42), (b"-2", -3, -5), (b"5", 0, 5), (b"0", 2**53 - 1, 2**53 - 1)],
)
def test_increased(value: bytes | None, by: int, total: int) -> None:
    assert increased("n", value, by) == total


@pytest.mark.parametrize("value", [b"1.0", b"1e3", b'"1"', b"true", b"[1]", b"{}"])
def test_what_cannot_be_increased(value: bytes) -> None:
    with pytest.raises(TypeError, match="'n' is no whole number"):
        increased("n", value, 1)


@pytest.mark.parametrize("by", [1, -1])
def test_numbers_that_json_does_not_keep(by: int) -> None:
    with pytest.raises(ValueError, match="'n' would be"):
        increased("n", b"%d" % (by * (2**53 - 1)), by)


@pytest.mark.parametrize(
    ("value", "result"), [(None, b"[1]"), (b"[]", b"[1]"), (b"[0]", b"[0,1]"), (b'[[],"]"]', b'[[],"]",1]')]
)
def test_appended(value: bytes | None, result: bytes) -> None:
    assert appended("n", value, b"1") == result


@pytest.mark.parametrize("value", [b"1", b'"[]"', b'{"a":[]}'])
def test_what_cannot_be_appended_to(value: bytes) -> None:
    with pytest.raises(TypeError, match="'n' is no list"):
        appended("n", value, b"1")
