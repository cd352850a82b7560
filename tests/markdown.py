"""The examples of the documentation, as files that run."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Self

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE_ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of code; `title` is its file's name, or "" for a fragment."""

    language: str
    title: str
    code: str


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    return [Block(*found) for found in _FENCE.findall(page.read_text())]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table."""
    for row in _TABLE_ROW.findall(text):
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", row)]


class Example:
    """The files of one page of the documentation, in a folder of their own; a later block replaces an earlier one of
    the same name, as a reader would.

    Arguments:
        folder: where to put them; it becomes the working directory, and modules are imported from it.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)

    def write(self, page: str, *, files: int | None = None) -> Self:
        """Write the files of `page`, or only the first so many."""
        titled = [block for block in blocks(ROOT / page) if block.title]
        assert titled, f"{page} shows no file"
        for block in titled[:files]:
            path = self.folder / block.title
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.code)
        return self

    def load(self, name: str) -> ModuleType:
        """Import one of the files, anew for every test."""
        importlib.invalidate_caches()
        for path in self.folder.glob("*.py"):
            self._monkeypatch.delitem(sys.modules, path.stem, raising=False)
        module = importlib.import_module(name)
        for path in self.folder.glob("*.py"):
            if path.stem in sys.modules:
                self._monkeypatch.setitem(sys.modules, path.stem, sys.modules[path.stem])
        assert Path(module.__file__ or "").parent == self.folder
        return module
