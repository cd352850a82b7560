"""Addresses."""

from __future__ import annotations

import pytest

from pagews.targets import Address, check_name


def test_channels_and_what_the_browser_is_told() -> None:
    assert Address.page("p").channel == "page:p"
    assert Address.session("s").channel == "session:s"
    assert Address.user("ann").channel == "user:ann"
    assert Address.topic("news:*").channel == "topic:news:*"
    assert [Address.page("p").to, Address.user("ann").to, Address.topic("a/b").to] == ["page", "user", "topic:a/b"]


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\x00", "\u2028"])
def test_threat_24_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 200 printable"):
        check_name("a topic", name)


def test_a_name_is_a_string() -> None:
    with pytest.raises(TypeError, match="must be a string, not int"):
        check_name("a topic", 7)
    assert check_name("a topic", "x" * 200) == "x" * 200
