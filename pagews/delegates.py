"""Server-side delegates: the table, typed payloads, and what the browser is told when one fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from .counters import Counters
from .errors import ConfigurationError, DelegateError, NotAuthorized
from .form_data import Fields, form_data
from .gates import Requirement, is_gate, said_yes
from .private import private
from .targets import check_name
from .tasks import is_own_end
from .time_limit import TimeLimit

logger = logging.getLogger("pagews")

Delegate = Callable[[Any, Any], Awaitable[object]]
D = TypeVar("D", bound=Delegate)

#: Names that begin so belong to pagews.
RESERVED: Final = "pagews."


def check_delegate(name: object) -> str:
    """Return `name` if an application may use it for a delegate.

    Raises:
        TypeError, ValueError: it is no string, not printable, too long, or begins with `pagews.`.
    """
    checked = check_name("a delegate", name)
    if checked.startswith(RESERVED):
        raise ValueError(f"delegate {checked!r}: names that begin with {RESERVED!r} belong to pagews")
    return checked


class _Entry(NamedTuple):
    """A delegate, and what a page must meet for it."""

    function: Delegate
    requirements: tuple[Requirement, ...]


class DelegateTableDef:
    """A table of server delegates, in the manner of aiohttp's `RouteTableDef`.

    A delegate is `async def name(page, data)`. Annotate `data` with a msgspec Struct, a dataclass, a TypedDict or any
    other type that msgspec converts to, and it is validated; a browser that sends something else gets the error
    `invalid-data`, which says what and where. What the delegate returns resolves the browser's promise.

    Arguments:
        requires: `async (page) -> bool`, such as `requires_user`: what a page must meet for every delegate of the
            table. One that does not gets the error `not-authorized`, and its data is not looked at.

    Raises:
        ConfigurationError: `requires` is no `async` function.
    """

    def __init__(self, *, requires: Requirement | None = None) -> None:
        self._requirements = _requirements(requires)
        self._delegates: dict[str, _Entry] = {}

    def on(self, name: str, *, requires: Requirement | None = None) -> Callable[[D], D]:
        """Register a delegate.

        Arguments:
            name: 1 to 200 printable characters, not beginning with `pagews.`.
            requires: what a page must meet for this delegate, behind what the table asks for.

        Raises:
            ConfigurationError: the name is taken or not allowed, the function is not `async` with two parameters, or
                `requires` is not `async`.
        """
        requirements = self._requirements + _requirements(requires)
        try:
            check_delegate(name)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{error}; write @delegates.on('name') above the function") from error

        def register(function: D) -> D:
            if name in self._delegates:
                raise ConfigurationError(f"delegate {name!r} is registered twice: give one of them another name")
            if not _is_delegate(function):
                raise ConfigurationError(f"delegate {name!r}: write it as 'async def {function.__name__}(page, data)'")
            self._delegates[name] = _Entry(function, requirements)
            return function

        return register

    def __iter__(self) -> Iterator[tuple[str, _Entry]]:
        return iter(self._delegates.items())

    def __repr__(self) -> str:
        return f"<DelegateTableDef {sorted(self._delegates)}>"


def _requirements(requires: Requirement | None) -> tuple[Requirement, ...]:
    if requires is None:
        return ()
    if not is_gate(requires, 1):
        raise ConfigurationError(
            f"requires={requires!r}: give an 'async def' function of the page, such as requires_user"
        )
    return (requires,)


def _is_delegate(function: object) -> bool:
    return inspect.iscoroutinefunction(function) and len(inspect.signature(function).parameters) == 2


@private
class Outcome(NamedTuple):
    """How a delegate ended: with a value, or with an error for the browser."""

    value: object = None
    code: str = ""
    message: str = ""


class _Row(NamedTuple):
    function: Delegate
    requirements: tuple[Requirement, ...]
    type: Any

    async def is_open_to(self, page: object) -> bool:
        for requirement in self.requirements:
            if not said_yes(await requirement(page), requirement):
                return False
        return True


class Delegates:
    """All delegates of an application.

    Arguments:
        timeout: seconds that one may run.
        most: how many may run at the same time.
    """

    def __init__(self, counters: Counters, timeout: float, most: int) -> None:
        self._rows: dict[str, _Row] = {}
        self._counters = counters
        self._time_limit = TimeLimit(timeout)
        self._most = most
        self._running = 0

    def add(self, table: DelegateTableDef) -> None:
        """Take in a table.

        Raises:
            ConfigurationError: a name is taken already, or an annotation cannot be resolved.
        """
        for name, (function, requirements) in table:
            if name in self._rows:
                raise ConfigurationError(f"delegate {name!r} is in two tables: give one of them another name")
            self._rows[name] = _Row(function, requirements, _data_type(name, function))

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    async def run_form(self, name: str, page: object, fields: Fields) -> Outcome:
        """Run a delegate with the fields of a form, which are strings and are taken for what it wants."""
        row = self._rows.get(name)
        data = form_data(fields, Any if row is None else row.type)
        return await self.run(name, page, data, strict=False)

    async def run(self, name: str, page: object, data: object, *, strict: bool = True) -> Outcome:
        """Run a delegate; whatever happens is an outcome.

        Arguments:
            strict: False takes a string for the number, or whatever else, that it holds.
        """
        row = self._rows.get(name)
        if row is None:
            self._counters.refused["unknown delegate"] += 1
            return Outcome(code="unknown-delegate", message=f"the server has no delegate {name!r}")
        if self._running >= self._most:
            self._counters.refused["delegates"] += 1
            return Outcome(code="limit", message="the server has too much to do: try again in a moment")
        self._running += 1
        try:
            with self._time_limit.watch() as watched:
                if not await row.is_open_to(page):
                    raise NotAuthorized("the page does not meet what the delegate requires")
                if row.type is not Any:
                    try:
                        # A type of the application may look at its fields, and raise what it likes.
                        data = msgspec.convert(data, row.type, str_keys=True, strict=strict)
                    except msgspec.ValidationError as error:
                        self._counters.refused["invalid data"] += 1
                        return Outcome(code="invalid-data", message=str(error))
                return Outcome(await row.function(page, data))
        except DelegateError as error:
            return Outcome(code=error.code, message=error.message)
        except NotAuthorized:
            self._counters.refused["delegate"] += 1
            return Outcome(code="not-authorized", message="the application does not let this page do that")
        except (Exception, asyncio.CancelledError) as error:
            if is_own_end(error):
                raise
            self._counters.failed["delegate"] += 1
            if isinstance(error, TimeoutError) and watched.expired:
                logger.error("delegate %r ran longer than %g s and was stopped", name, self._time_limit.seconds)
                return Outcome(code="timeout", message="the server's delegate took too long")
            logger.error("delegate %r failed", name, exc_info=error)
            return Outcome(code="internal", message="the server's delegate failed")
        finally:
            self._running -= 1

    def returned_nonsense(self, name: str, error: Exception) -> None:
        """A delegate has returned what cannot be sent."""
        self._counters.failed["delegate"] += 1
        logger.error("delegate %r returned what cannot be sent: %s", name, error)


def _data_type(name: str, function: Delegate) -> Any:
    parameter = list(inspect.signature(function).parameters.values())[1]
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    try:
        hint = typing.get_type_hints(function, include_extras=True)[parameter.name]
        msgspec.json.Decoder(hint)
    except (NameError, TypeError) as error:
        raise ConfigurationError(f"delegate {name!r}: its annotation of {parameter.name!r}: {error}") from error
    return hint
