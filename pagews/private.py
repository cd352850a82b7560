"""What is private does not show: a `repr` or an error ends up in logs, in tracebacks and in reports."""

from __future__ import annotations

from typing import TypeVar

C = TypeVar("C")


def private(cls: type[C]) -> type[C]:
    """A class whose instances are named by their type alone: they hold a token, a session id or what was said."""
    cls.__repr__ = _name  # type: ignore[method-assign]  # what a decorator is for
    return cls


def _name(self: object) -> str:
    return f"<{type(self).__name__}>"


def without_password(address: str) -> str:
    """The address of a server, without what stands before its host, and without its options: both may be a password."""
    head, at, tail = address.rpartition("@")
    shown = f"{head.partition('://')[0]}://…@{tail}" if at else address
    place, question_mark, _ = shown.partition("?")
    return f"{place}?…" if question_mark else place
