"""Ports for servers that are stopped and started again."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

from tests.faults import HOST

#: Below those that Linux gives to clients. Of them, one could be a client's while the server is away; and a client that
#: connects again and again to a port where nobody listens is in the end given that port, and talks to itself.
PORTS: Final = range(20_000, 32_000)

_ATTEMPTS: Final = 10
#: By no seed: what runs at the same time may have the same one.
_CHANCE: Final = random.SystemRandom()


def free_port() -> int:
    """One on which nobody listens."""
    for port in _CHANCE.sample(PORTS, _ATTEMPTS):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port
    raise AssertionError(f"{_ATTEMPTS} ports of {PORTS} are taken")
