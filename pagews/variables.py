"""What an application keeps with a page: named JSON values, encoded."""

from __future__ import annotations

from typing import Final

from .wire import MAX_INTEGER

#: Bytes that a variable counts beside its name and its value, so that many small ones have a bound too.
VARIABLE_SIZE: Final = 200


class Variables:
    """The variables of one page. Values are JSON text, so that what is kept is nobody's object.

    Attributes:
        size: what they count, in bytes.
    """

    __slots__ = ("_values", "size")

    def __init__(self) -> None:
        self.size = 0
        self._values: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """The value, None when there is no such variable."""
        return self._values.get(name)

    def growth(self, name: str, value: bytes | None) -> int:
        """By how many bytes `size` would grow if `value` were put."""
        before = self._values.get(name)
        return _size(name, value) - _size(name, before)

    def put(self, name: str, value: bytes | None) -> None:
        """Keep a value; None: forget the variable."""
        self.size += self.growth(name, value)
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value


def increased(name: str, value: bytes | None, by: int) -> int:
    """The number in `value`, 0 when there is none, and `by` more.

    Raises:
        TypeError: it is no whole number.
        ValueError: the sum is beyond what a JSON number keeps exactly in every language.
    """
    if value is not None and not value.removeprefix(b"-").isdigit():
        raise TypeError(f"the page's variable {name!r} is no whole number: it cannot be increased")
    number = int(value or 0) + by
    if abs(number) > MAX_INTEGER:
        raise ValueError(f"the page's variable {name!r} would be {number}: keep it between -(2**53 - 1) and 2**53 - 1")
    return number


def appended(name: str, value: bytes | None, item: bytes) -> bytes:
    """The list in `value`, an empty one when there is none, with `item` at its end.

    Raises:
        TypeError: it is no list.
    """
    if value is None or value == b"[]":
        return b"[%b]" % item
    if not value.startswith(b"["):
        raise TypeError(f"the page's variable {name!r} is no list: nothing can be appended to it")
    return b"%b,%b]" % (value[:-1], item)


def _size(name: str, value: bytes | None) -> int:
    return 0 if value is None else VARIABLE_SIZE + len(name.encode()) + len(value)
