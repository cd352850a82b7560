"""Whose connection it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pagews.addresses import Addresses

PROXY = "127.0.0.1"
PROXIES = [PROXY, "10.0.0.0/8", "2001:db8:1::/48"]


@pytest.mark.parametrize(
    ("peer", "visitor"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("2a00:1450:4001:80b::200e", "2a00:1450:4001:80b::/64"),
        ("2a00:1450:4001:80b:ffff::1", "2a00:1450:4001:80b::/64"),
        ("127.0.0.1", None),
        ("10.1.2.3", None),
        ("fe80::1%eth0", None),
        ("", None),
        (None, None),
        ("no address", None),
    ],
)
def test_who_has_connected(peer: str | None, visitor: str | None) -> None:
    assert Addresses(()).visitor(peer, ["9.9.9.9"]) == visitor


@pytest.mark.parametrize(
    ("peer", "forwarded", "visitor"),
    [
        pytest.param(PROXY, ["8.8.8.8"], "8.8.8.8", id="one proxy"),
        pytest.param(PROXY, ["1.1.1.1, 8.8.8.8"], "8.8.8.8", id="what the visitor has made up"),
        pytest.param(PROXY, ["1.1.1.1", "8.8.8.8"], "8.8.8.8", id="in a header of its own"),
        pytest.param(PROXY, ["8.8.8.8, 10.1.2.3"], "8.8.8.8", id="a proxy behind a proxy"),
        pytest.param(PROXY, ["2a00::1, 2001:db8:1::7"], "2a00::/64", id="IPv6"),
        pytest.param(PROXY, ["8.8.8.8:1234"], "8.8.8.8", id="with its port"),
        pytest.param(PROXY, ["[2a00::1]:1234"], "2a00::/64", id="IPv6 with its port"),
        pytest.param(PROXY, ["[2a00::1]"], "2a00::/64", id="IPv6 in brackets"),
        pytest.param(PROXY, ["192.168.1.7"], "192.168.1.7", id="an address that is not public, told by a proxy"),
        pytest.param(PROXY, ["nonsense, 10.1.2.3"], "10.1.2.3", id="nonsense in front of a proxy"),
        pytest.param(PROXY, ["8.8.8.8, "], None, id="nonsense from the proxy"),
        pytest.param(PROXY, [], None, id="a proxy that says nothing"),
        pytest.param("8.8.8.8", ["1.1.1.1"], "8.8.8.8", id="past the proxies"),
        pytest.param("", ["1.1.1.1"], None, id="a Unix socket"),
    ],
)
def test_what_proxies_say(peer: str, forwarded: Sequence[str], visitor: str | None) -> None:
    assert Addresses(PROXIES).visitor(peer, forwarded) == visitor


@pytest.mark.parametrize("peer", ["", None])
def test_a_proxy_behind_a_unix_socket(peer: str | None) -> None:
    assert Addresses(["unix"]).visitor(peer, ["1.1.1.1, 8.8.8.8"]) == "8.8.8.8"
    assert Addresses(["unix"]).visitor("9.9.9.9", ["8.8.8.8"]) == "9.9.9.9"


@pytest.mark.parametrize("proxy", ["localhost", "10.0.0.0/33", "10.0.0.1/8", "", "0.0.0.0/0", "::/0", 5])
def test_what_is_no_network(proxy: Any) -> None:
    with pytest.raises(ValueError, match=r"does not appear to be|has host bits set|is everybody|is no text"):
        Addresses([proxy])
