"""The browser client's own tests, which Node's test runner runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


def count(name: str, report: str) -> int:
    """A figure of the summary that ends a report in TAP; a file without tests has none."""
    found = re.search(rf"^# {name} (\d+)$", report, re.MULTILINE)
    assert found, report
    return int(found[1])


def test_there_are_tests() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_javascript(file: Path, node: Path, root: Path) -> None:
    # Without `--test`, which counts a file without tests as one that has passed.
    answer = subprocess.run(
        [node, "--test-reporter=tap", file], cwd=root, capture_output=True, text=True, check=False, timeout=120
    )
    report = answer.stdout + answer.stderr
    assert answer.returncode == 0, report
    assert count("tests", report) == count("pass", report) > 0, report
