"""What a fault is that is put into the program on purpose."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """A fault: in `file`, `before` becomes `after`. The tests of that name must fail then."""

    name: str
    file: str
    before: str
    after: str
    test: str
