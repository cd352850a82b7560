"""Every attack that pagews says it withstands is made by a test that has its number in its name, and is told."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

TESTS: Final = Path(__file__).resolve().parent
DOCS: Final = TESTS.parent / "docs"
PAGE: Final = DOCS / "explanation" / "threats.md"
STATISTICS: Final = DOCS / "reference" / "statistics.md"

#: The number that is left out concerns pieces of pages, which pagews does not send.
NUMBERS: Final = set(range(1, 37)) - {31}


class Row(NamedTuple):
    """A row of the page: what comes, what it gets, the counters that tell, the tests that show it."""

    comes: str
    gets: str
    counted: str
    shown: str


def rows() -> dict[int, Row]:
    """The rows of the page by their number, which each has once."""
    found = re.findall(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    numbers = [int(number) for number, *_ in found]
    assert len(numbers) == len(set(numbers))
    return {int(number): Row(*cells) for number, *cells in found}


def python_tests() -> Iterator[str]:
    """The names of all tests in Python."""
    for path in TESTS.rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name


def javascript_tests() -> Iterator[str]:
    """The titles of all tests in JavaScript that begin with a number."""
    for path in TESTS.rglob("*.test.mjs"):
        yield from re.findall(r'test\("(threat \d+: [^"]+)"', path.read_text())


def test_every_threat_is_made() -> None:
    names = [*python_tests(), *javascript_tests()]
    found = {int(number[1]) for name in names if (number := re.match(r"(?:test_)?threat[_ ](\d+)[_:]", name))}

    assert found == NUMBERS


def test_every_threat_is_told() -> None:
    assert set(rows()) == NUMBERS


def test_every_threat_names_a_test_of_its_own() -> None:
    there = set(python_tests())
    for number, row in rows().items():
        named = re.findall(r"`(\w+)`", row.shown)
        assert named, number
        for name in named:
            assert name.startswith(f"test_threat_{number}_")
            assert name in there


def test_every_threat_names_counters_that_exist() -> None:
    known = set(re.findall(r'`((?:refused|dropped|failed)\["[^"]+"\])`', STATISTICS.read_text()))
    # Of a socket's callbacks one stands for all.
    known.add('failed["websocket_handle"]')
    for number, row in rows().items():
        named = re.findall(r'`((?:refused|dropped|failed)\["[^"]+"\])`', row.counted)
        assert set(named) <= known, number
        assert named or "`closed[" in row.counted or row.counted.startswith(("none", "by ")), number
