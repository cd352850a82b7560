"""What an application asks of a page before it lets it through: `requires=` of delegates, and `authorize` of joins."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

#: `async (page) -> bool`: whether a page may have a delegate run.
Requirement = Callable[[Any], Awaitable[bool]]


async def requires_user(page: Any) -> bool:
    """For `delegates.on(name, requires=requires_user)`: somebody is logged in on the page."""
    return page.user is not None


def is_gate(function: object, count: int) -> bool:
    """Whether something is an `async` function that can be called with so many arguments."""
    if not inspect.iscoroutinefunction(function):
        return False
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    return True


def said_yes(answer: object, gate: Callable[..., object]) -> bool:
    """Whether a gate has let a page through: True alone does. (A coroutine that nobody has awaited is as good as true
    for Python.)

    Raises:
        TypeError: it has said neither yes nor no.
    """
    if isinstance(answer, bool):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()  # one that is dropped warns, of what the error says already
    name = getattr(gate, "__qualname__", repr(gate))
    raise TypeError(f"{name} returned {type(answer).__name__}: return True or False (is an await missing?)")
