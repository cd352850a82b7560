"""Every fault that pagews says it survives is made to happen by a test that has its number in its name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parent
PAGE: Final = TESTS.parent / "docs" / "explanation" / "faults.md"

FAULTS: Final = {
    1: "a connection is cut, at any byte",
    2: "an answer is lost, on its way down or up",
    3: "a line is dead, and nobody is told",
    4: "a thousand connections are reset",
    5: "bytes come one at a time",
    6: "a page reads slowly",
    7: "a page never reads, and keeps sending",
    8: "a process is killed",
    9: "a process stands still for a minute, and goes on",
    10: "the server restarts under load",
    11: "Redis is killed, and comes back empty",
    12: "Redis stands still",
    13: "the connection that listens to Redis is dead, and nobody is told",
    14: "Redis drops that connection, which has too much to write",
    15: "a replica takes over that has not everything",
    16: "Redis is full, or read-only",
    17: "the clock jumps by an hour",
    18: "the event loop stands still",
    19: "the browser goes offline, and online",
    20: "the tab is hidden, throttled or frozen",
    21: "Back and Forward, with and without the browser's cache of pages",
    22: "the tab is duplicated, or its HTML comes from a cache",
    23: "an old and a new socket overlap",
    24: "a WebSocket is refused, or swallowed",
    25: "a proxy keeps answers back",
    26: "seven tabs share the connections of one browser",
    27: "a POST is cut behind its body",
    28: "a delegate raises, hangs, or returns what cannot be encoded",
    29: "a callback of a handler raises",
    30: "another secret key is deployed",
}


def numbered_tests() -> Iterator[tuple[int, str]]:
    """The number and name of every test of a fault."""
    for path in TESTS.rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                number = re.match(r"test_fault_(\d+)_", node.name)
                if number:
                    yield int(number[1]), node.name


def test_every_fault_is_made_to_happen() -> None:
    assert {number for number, _ in numbered_tests()} == set(FAULTS)


def test_every_fault_is_told() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)

    assert {int(number): name for number, name in rows} == FAULTS
