"""Whose connection it is: the address of the browser, also behind proxies of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

#: What `trusted_proxies` calls a proxy that comes through a Unix socket, which has no address.
UNIX: Final = "unix"
_WITH_PORT: Final = re.compile(r"\[([^\]]+)\](?::\d+)?|([^:]+):\d+")
#: A visitor with IPv6 has a network of at least this size, and as many addresses as they like in it (RFC 6177).
VISITOR_V6: Final = 64


class Addresses:
    """Finds the address of a visitor.

    Arguments:
        proxies: addresses and networks, such as `127.0.0.1` or `10.0.0.0/8`, or `unix`, whose `X-Forwarded-For` is
            believed.

    Raises:
        ValueError: one of them is neither.
    """

    def __init__(self, proxies: Iterable[str]) -> None:
        names = list(proxies)
        self._unix = UNIX in names
        self._networks = [_network(name) for name in names if name != UNIX]

    def visitor(self, peer: str | None, forwarded: Sequence[str]) -> str | None:
        """By what a visitor is counted: an IPv4 address, or the network of an IPv6 address; None: by nothing.

        An address that is not public, and was not told by a trusted proxy, is that of this machine, or of a proxy that
        nobody has named: it may stand for all visitors there are.

        Arguments:
            peer: the address of the connection; None or empty for a Unix socket.
            forwarded: the values of all `X-Forwarded-For` of the request, in their order.
        """
        address, believed = _read(peer), False
        trusted = self._trusts(address) if address is not None else self._unix and not peer
        # Each proxy appends whom it has heard: what stands before the word of one that is not trusted may be made up.
        for hop in reversed([hop for value in forwarded for hop in value.split(",")]):
            if not trusted:
                break
            told = _read(hop.strip())
            if told is None:
                break
            address, believed, trusted = told, True, self._trusts(told)
        if address is None or not (believed or address.is_global):
            return None
        if isinstance(address, IPv6Address):
            return str(IPv6Network((int(address), VISITOR_V6), strict=False))
        return str(address)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _network(name: object) -> IPv4Network | IPv6Network:
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is no text")
    network = ip_network(name)
    if not network.prefixlen:
        raise ValueError(f"{name!r} is everybody: whoever connects could say that they are somebody else")
    return network


def _read(text: str | None) -> IPv4Address | IPv6Address | None:
    # Some proxies append the port.
    with_port = _WITH_PORT.fullmatch(text or "")
    try:
        address = ip_address((with_port[1] or with_port[2]) if with_port else text or "")
    except ValueError:
        return None
    # A socket that takes both kinds says of IPv4 ::ffff:192.0.2.1.
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
