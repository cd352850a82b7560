"""The house of pagews: imports run downwards only, and the ground floor knows no clock, no loop and no socket."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pagews"

# From the ground up. A room imports rooms that stand before it in this table, on its own floor or below; for its types
# alone it may name any room of its floor. `__init__` is the door, which only the attic goes through.
FLOORS = {
    "pure": (
        *(
            "private",
            "errors",
            "limits",
            "targets",
            "wire",
            "text_frames",
            "counters",
            "log",
            "form_data",
            "page",
            "variables",
        ),
        *("sends", "rate", "addresses", "gates"),
        "redis_scripts",
    ),
    "asyncio": (
        *(
            "tasks",
            "shared_wait",
            "time_limit",
            "upload",
            "handler",
            "socket",
            "broker",
            "memory_broker",
            "redis_codec",
            "redis_link",
        ),
        *("redis_bus", "redis_broker", "page_tasks", "delegates"),
        *("hub", "heartbeat", "inbox", "page_jobs", "node", "receipts", "push_targets", "publisher"),
    ),
    "aiohttp": (
        *(
            "encryption",
            "tokens",
            "identity",
            "admission",
            "site",
            "origin",
            "static_files",
            "form_outcome",
            "templating",
            "page_handler",
            "controller",
            "requests",
            "answering",
            "form_parts",
            "form_body",
            "form",
            "carriers",
            "fallback",
            "renew",
            "drain",
        ),
        "app",
    ),
    "door": ("__init__",),
    "attic": ("testing", "push_command", "__main__"),
}
ROOMS = tuple(room for rooms in FLOORS.values() for room in rooms)
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

# Time and randomness reach the ground floor as arguments.
IMPURE = frozenset(
    {"asyncio", "datetime", "logging", "os", "random", "secrets", "selectors", "socket", "ssl", "threading", "time"}
    | {"uuid"}
)
AIOHTTP = frozenset({"aiohttp", "aiohttp_jinja2", "aiohttp_session"})


class Import(NamedTuple):
    """One module that a room imports, by its full name."""

    name: str
    line: int
    for_types_only: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def room(self) -> str | None:
        """The room of this house that is meant, if it is one."""
        if self.top != "pagews":
            return None
        return self.name.split(".")[1] if "." in self.name else "__init__"


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(node: ast.AST, *, for_types_only: bool = False) -> Iterator[Import]:
    """Everything that is imported anywhere below `node`, inside functions too."""
    match node:
        case ast.Import():
            for alias in node.names:
                yield Import(alias.name, node.lineno, for_types_only)
        case ast.ImportFrom(level=0, module=str(module)) if module != "pagews":
            yield Import(module, node.lineno, for_types_only)
        case ast.ImportFrom(module=module):
            yield from imports_from_the_house(node, module, for_types_only)
        case ast.If(test=test) if is_type_checking(test):
            for child in node.body:
                yield from imports(child, for_types_only=True)
            for child in node.orelse:
                yield from imports(child, for_types_only=for_types_only)
        case _:
            for below in ast.iter_child_nodes(node):
                yield from imports(below, for_types_only=for_types_only)


def imports_from_the_house(node: ast.ImportFrom, module: str | None, for_types_only: bool) -> Iterator[Import]:
    """`from .log import Log` and `from . import log`; what is no room comes through the door."""
    if module not in (None, "pagews"):
        yield Import(f"pagews.{module}", node.lineno, for_types_only)
        return
    for alias in node.names:
        name = f"pagews.{alias.name}" if alias.name in ROOMS else "pagews"
        yield Import(name, node.lineno, for_types_only)


def faults(room: str, source: str) -> list[str]:
    """Every import in `source` that `room` may not have."""
    return [
        f"pagews/{room}.py:{found.line} imports {found.name}: {why}"
        for found in imports(ast.parse(source))
        if (why := objection(room, found)) is not None
    ]


def objection(room: str, found: Import) -> str | None:
    floor = FLOOR_OF[room]
    if found.room is not None and found.room not in ROOMS:
        return "it is not in the table of this house"
    if found.room is not None and not is_below(found, room):
        return "imports run downwards only"
    if found.top == "redis" and room != "redis_link":
        return "redis-py is for redis_link alone"
    if floor == "pure" and found.top in IMPURE | AIOHTTP:
        return "the ground floor knows no clock, no loop, no socket and no logger"
    if floor == "asyncio" and found.top in AIOHTTP and not found.for_types_only:
        return "aiohttp is for the floor above"
    return None


def is_below(found: Import, room: str) -> bool:
    assert found.room is not None
    if found.for_types_only and FLOOR_OF[found.room] == FLOOR_OF[room]:
        return True
    return ROOMS.index(found.room) < ROOMS.index(room)


def test_every_room_is_in_the_table() -> None:
    assert {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downwards(room: str) -> None:
    assert faults(room, (PACKAGE / f"{room}.py").read_text()) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        pytest.param("log", "from .node import Node", id="upwards"),
        pytest.param("log", "from .log import Log", id="itself"),
        pytest.param("targets", "from pagews.wire import Push", id="against-the-order-of-a-floor"),
        pytest.param("node", "from . import app", id="a-room-by-name"),
        pytest.param("node", "from . import setup", id="through-the-door"),
        pytest.param("node", "import pagews", id="the-door-itself"),
        pytest.param("node", "from .cellar import wine", id="no-such-room"),
        pytest.param("log", "def now():\n    import time", id="inside-a-function"),
        pytest.param("log", "from asyncio import sleep", id="impure"),
        pytest.param("log", "import os.path", id="impure-by-its-part"),
        pytest.param("broker", "from aiohttp import web", id="aiohttp-below-its-floor"),
        pytest.param("app", "import redis.asyncio", id="redis"),
        pytest.param("log", "if TYPE_CHECKING:\n    from .node import Node", id="upwards-for-types"),
        pytest.param("log", "if TYPE_CHECKING:\n    import aiohttp", id="aiohttp-on-the-ground"),
        pytest.param("node", "if TYPE_CHECKING:\n    pass\nelse:\n    import aiohttp", id="not-for-types"),
    ],
)
def test_a_fault_is_seen(room: str, source: str) -> None:
    assert len(faults(room, source)) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        pytest.param("node", "import asyncio\nfrom .log import Log", id="downwards"),
        pytest.param("page", "from . import log", id="the-same-floor-in-order"),
        pytest.param("handler", "if TYPE_CHECKING:\n    from aiohttp import web", id="aiohttp-for-types"),
        pytest.param("handler", "if TYPE_CHECKING:\n    from .publisher import Page", id="the-same-floor-for-types"),
        pytest.param("app", "from aiohttp import web", id="aiohttp-on-its-floor"),
        pytest.param("testing", "import pagews", id="the-door-from-the-attic"),
    ],
)
def test_what_is_allowed_is_allowed(room: str, source: str) -> None:
    assert faults(room, source) == []
