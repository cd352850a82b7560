"""Server delegates: the table, typed payloads, and what the browser is told."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest

from pagews import ConfigurationError, DelegateError, DelegateTableDef, NotAuthorized, RemoteError
from pagews.counters import Counters
from pagews.delegates import Delegates, Outcome


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclass
class Name:
    first: str


class Options(TypedDict):
    on: bool


def delegates(table: DelegateTableDef, timeout: float = 5.0) -> Delegates:
    made = Delegates(Counters(), timeout, 1000)
    made.add(table)
    return made


async def test_a_delegate_gets_the_page_and_the_data() -> None:
    table = DelegateTableDef()

    @table.on("echo")
    async def echo(page: Any, data: Any) -> object:
        return [page, data]

    assert await delegates(table).run("echo", "the page", {"a": 1}) == Outcome(["the page", {"a": 1}])
    assert [name for name, _ in table] == ["echo"]
    assert repr(table) == "<DelegateTableDef ['echo']>"


class Range(msgspec.Struct):
    """A payload that looks at its own fields."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("Give the lower one first.")
        if self.low == 0:
            raise DelegateError("zero", "Not from zero.")
        if self.low == 1:
            raise RuntimeError("a mistake")


@pytest.mark.parametrize(
    ("low", "outcome"),
    [
        (9, Outcome(code="invalid-data", message="Give the lower one first.")),
        (0, Outcome(code="zero", message="Not from zero.")),
        (1, Outcome(code="internal", message="the server's delegate failed")),
        (2, Outcome(3)),
    ],
)
async def test_a_payload_that_checks_itself(low: int, outcome: Outcome) -> None:
    table = DelegateTableDef()

    @table.on("span")
    async def span(page: Any, data: Range) -> object:
        return data.high - data.low

    made = delegates(table)
    assert await made.run("span", None, {"low": low, "high": 5}) == outcome
    assert await made.run_form("span", None, {"low": [str(low)], "high": ["5"]}) == outcome


async def test_typed_payloads() -> None:
    table = DelegateTableDef()

    @table.on("struct")
    async def struct(page: Any, data: Point) -> object:
        return (data.x, data.y)

    @table.on("dataclass")
    async def dataclass_(page: Any, data: Name) -> object:
        return data.first

    @table.on("dict")
    async def dict_(page: Any, data: Options) -> object:
        return data["on"]

    @table.on("bytes")
    async def bytes_(page: Any, data: bytes) -> object:
        return len(data)

    run = delegates(table).run
    assert (await run("struct", None, {"x": 3})).value == (3, 0)
    assert (await run("dataclass", None, {"first": "Ada"})).value == "Ada"
    assert (await run("dict", None, {"on": True})).value is True
    assert (await run("bytes", None, b"\xff")).value == 1
    assert await run("struct", None, {"x": "3"}) == Outcome(
        code="invalid-data", message="Expected `int`, got `str` - at `$.x`"
    )
    assert (await run("dataclass", None, None)).code == "invalid-data"


async def test_what_the_browser_is_told_when_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    table = DelegateTableDef()

    @table.on("own")
    async def own(page: Any, data: Any) -> None:
        raise DelegateError("sold-out", "none left")

    @table.on("bug")
    async def bug(page: Any, data: Any) -> None:
        raise RuntimeError("a secret")

    @table.on("other page")
    async def other(page: Any, data: Any) -> None:
        raise RemoteError("a", "secret")

    counters = Counters()
    made = Delegates(counters, 5.0, 1000)
    made.add(table)
    assert await made.run("own", None, None) == Outcome(code="sold-out", message="none left")
    assert not caplog.records
    for name in ("bug", "other page"):
        assert await made.run(name, None, None) == Outcome(code="internal", message="the server's delegate failed")
    assert len(caplog.records) == 2
    assert (await made.run("none", None, None)).code == "unknown-delegate"
    assert counters.failed["delegate"] == 2
    assert counters.refused["unknown delegate"] == 1


async def test_one_that_hangs_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    table = DelegateTableDef()
    cancelled = asyncio.Event()

    @table.on("hang")
    async def hang(page: Any, data: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @table.on("own timeout")
    async def own_timeout(page: Any, data: Any) -> None:
        raise TimeoutError("of something else")

    made = delegates(table, timeout=0.01)
    with caplog.at_level(logging.ERROR):
        assert (await made.run("hang", None, None)).code == "timeout"
    assert cancelled.is_set()
    assert "longer than 0.01 s" in caplog.text
    assert (await made.run("own timeout", None, None)).code == "internal"


@pytest.mark.parametrize("name", ["", "x" * 201, "pagews.dom", "a\n", 7])
def test_names_that_are_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError):
        DelegateTableDef().on(name)


def test_functions_that_are_no_delegates() -> None:
    table = DelegateTableDef()

    def plain(page: Any, data: Any) -> None: ...
    async def one(page: Any) -> None: ...
    async def good(page: Any, data: Any) -> None: ...

    mistakes: list[Any] = [plain, one]
    for function in mistakes:
        with pytest.raises(ConfigurationError, match="async def"):
            table.on("x")(function)
    table.on("x")(good)
    with pytest.raises(ConfigurationError, match="registered twice"):
        table.on("x")(good)
    made = delegates(table)
    with pytest.raises(ConfigurationError, match="two tables"):
        made.add(table)


def test_an_annotation_that_nobody_knows() -> None:
    table = DelegateTableDef()

    @table.on("x")
    async def x(page: Any, data: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # tested

    with pytest.raises(ConfigurationError, match="annotation of 'data'"):
        delegates(table)


async def test_a_cancelled_task_that_a_delegate_waits_for_is_a_failure_and_not_the_end() -> None:
    table = DelegateTableDef()

    @table.on("x")
    async def x(page: Any, data: Any) -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    made = delegates(table)
    assert (await made.run("x", None, None)).code == "internal"
    running = asyncio.create_task(made.run("x", None, None))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# --- what a delegate requires -----------------------------------------------------------------------------------------


async def yes(page: Any) -> bool:
    return True


async def no(page: Any) -> bool:
    return False


async def raises(page: Any) -> bool:
    raise NotAuthorized(f"not {page}")


@pytest.mark.parametrize("of_table", [None, yes, no, raises])
@pytest.mark.parametrize("of_delegate", [None, yes, no, raises])
async def test_a_delegate_runs_for_who_meets_all_that_is_required(of_table: Any, of_delegate: Any) -> None:
    table = DelegateTableDef(requires=of_table)

    @table.on("point", requires=of_delegate)
    async def point(page: Any, data: Point) -> int:
        return data.x

    outcome = await delegates(table).run("point", "the page", {"x": 7})

    is_met = {of_table, of_delegate} <= {None, yes}
    refusal = Outcome(code="not-authorized", message="the application does not let this page do that")
    assert outcome == (Outcome(7) if is_met else refusal)


async def test_a_delegate_may_refuse_by_itself() -> None:
    table = DelegateTableDef()
    counters = Counters()

    @table.on("delete")
    async def delete(page: Any, data: Any) -> None:
        raise NotAuthorized("row 7 belongs to somebody else")

    made = Delegates(counters, 5.0, 1000)
    made.add(table)

    assert (await made.run("delete", "the page", 7)).code == "not-authorized"
    assert counters.refused == {"delegate": 1}
    assert counters.failed == {}


async def test_a_requirement_that_fails_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(page: Any) -> bool:
        raise LookupError("no database")

    table = DelegateTableDef(requires=broken)
    ran = []

    @table.on("point")
    async def point(page: Any, data: Any) -> None:
        ran.append(data)

    assert await delegates(table).run("point", "the page", 7) == Outcome(
        code="internal", message="the server's delegate failed"
    )
    assert ran == []
    assert "no database" in caplog.text


@pytest.mark.parametrize("requires", [lambda page: True, "user", 7])
def test_what_is_no_requirement(requires: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"requires=.*async def"):
        DelegateTableDef(requires=requires)
    with pytest.raises(ConfigurationError, match=r"requires=.*async def"):
        DelegateTableDef().on("point", requires=requires)


async def forgetful(page: Any) -> Any:
    return yes(page)


async def wordy(page: Any) -> Any:
    return "no"


async def silent(page: Any) -> Any:
    return None


@pytest.mark.parametrize("requires", [forgetful, wordy, silent])
async def test_a_requirement_that_says_neither_yes_nor_no_lets_nobody_in(
    requires: Any, caplog: pytest.LogCaptureFixture
) -> None:
    table = DelegateTableDef()
    ran = []

    @table.on("point", requires=requires)
    async def point(page: Any, data: Any) -> None:
        ran.append(data)

    assert (await delegates(table).run("point", "the page", 7)).code == "internal"
    assert ran == []
    assert f"{requires.__name__} returned" in caplog.text
    assert "is an await missing?" in caplog.text


async def test_a_requirement_may_say_why() -> None:
    async def first(page: Any) -> bool:
        raise DelegateError("login-first", "Log in to see your basket.")

    table = DelegateTableDef(requires=first)
    table.on("point")(no_op)

    outcome = await delegates(table).run("point", "the page", 7)

    assert outcome == Outcome(code="login-first", message="Log in to see your basket.")


async def no_op(page: Any, data: Any) -> None:
    pass


def test_a_requirement_takes_the_page() -> None:
    async def of_two(page: Any, data: Any) -> bool:
        return True

    with pytest.raises(ConfigurationError, match=r"requires=.*of the page"):
        DelegateTableDef(requires=of_two)  # type: ignore[arg-type]  # the mistake that is tested
