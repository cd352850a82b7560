"""What the documentation lists is what the code has, and its links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import pagews
from pagews.counters import Counters, Statistics
from pagews.errors import CLOSE_CODES
from pagews.handler import WebSocketHandler
from pagews.limits import Limits
from pagews.page import ATTACHED, TRANSITIONS
from tests.markdown import PAGES, ROOT, Block, blocks, rows

REFERENCE = ROOT / "docs" / "reference"
UNITS = {"": 1, "s": 1, "h": 3600, "KiB": 1024, "MiB": 1024**2}


def names(pages: tuple[Path, ...]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_limits() -> None:
    told = {row[0].strip("`"): row[1] for row in rows((REFERENCE / "limits.md").read_text()) if row[0].startswith("`")}
    assert list(told) == [field.name for field in fields(Limits)]
    for field in fields(Limits):
        amount, _, unit = told[field.name].partition(" ")
        assert float(amount) * UNITS[unit] == field.default, field.name


def test_close_codes() -> None:
    told = [row for row in rows((REFERENCE / "close-codes.md").read_text()) if row[0].isdecimal()]
    assert told == [[str(code), rule.then.value, rule.meaning] for code, rule in CLOSE_CODES.items()]


def test_statistics() -> None:
    text = (REFERENCE / "statistics.md").read_text()
    table = text.partition("## Reasons")[0]
    told = [name for row in rows(table) for name in re.findall(r"`(\w+)`", row[0])]
    assert tuple(told) == Statistics._fields


def counters_of_the_code() -> set[str]:
    """Each place that counts under a reason, as `refused["origin"]`; callbacks of handlers count under their name."""
    code = "\n".join(path.read_text() for path in (ROOT / "pagews").glob("*.py"))
    found = re.findall(r"\b((?:refused|dropped|failed)\[\"[^\"]+\"\])", code)
    callbacks = [name for name in vars(WebSocketHandler) if name.startswith("websocket_")]
    return {*found, *(f'failed["{name}"]' for name in callbacks)}


def test_counters() -> None:
    text = (REFERENCE / "statistics.md").read_text()
    told = set(re.findall(r"`(\w+\[\"[^\"]+\"\])`", text))
    told |= {f'failed["{name}"]' for name in re.findall(r"`(websocket_\w+)`", text)}
    assert told == counters_of_the_code()


def test_limits_name_counters_that_exist() -> None:
    told = re.findall(r"`(\w+)(\[[^]]+\])?`", (REFERENCE / "limits.md").read_text())
    reasons = {f"{counter}{reason}" for counter, reason in told if reason and counter != "Limits"}
    assert reasons
    assert {reason.partition("[")[0] for reason in reasons} <= set(Counters.__slots__)
    assert {reason for reason in reasons if not reason.startswith(("lost", "closed"))} <= counters_of_the_code()
    closed = {int(code) for code in re.findall(r"closed\[(\d+)\]", " ".join(reasons))}
    assert closed <= set(CLOSE_CODES)


def test_rules_that_comments_name_are_told() -> None:
    told = set(re.findall(r"\*\*Rule (\d+)\.\*\*", (ROOT / "docs/explanation/delivery.md").read_text()))
    named: set[str] = set()
    for path in [*(ROOT / "pagews").glob("*.py"), *(ROOT / "static").glob("*.js")]:
        for numbers in re.findall(r"\b[Rr]ules? (\d+(?:(?:, | and )\d+)*)", path.read_text()):
            named |= set(re.findall(r"\d+", numbers))
    assert named
    assert named <= told


# --- the diagram ------------------------------------------------------------------------------------------------------


def test_states_of_a_page() -> None:
    """The edges that are drawn are the table's; one of `attached` stands for one of each state that has a socket."""
    [diagram] = [block.code for block in blocks(ROOT / "docs/explanation/delivery.md") if block.language == "mermaid"]
    attached = sorted(state.value for state in ATTACHED)
    drawn = [
        (state, event, after)
        for before, after, event in re.findall(r"^ *(\w+) --> (\w+): (.+)$", diagram, re.MULTILINE)
        for state in (attached if before == "attached" else [before])
    ]
    assert sorted(drawn) == sorted(
        (before.value, event.value, after.value) for (before, event), after in TRANSITIONS.items()
    )
    inner = re.search(r"state attached \{(.+?)\}", diagram, re.DOTALL)
    assert inner
    assert sorted(set(re.findall(r"(\w+) -->", inner[1]))) == attached


# --- names ------------------------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference() -> None:
    told = set(re.findall(r"`(\w+)[`(]", (REFERENCE / "api.md").read_text()))
    told |= set(re.findall(r"`(\w+)\(.*?\)`", (REFERENCE / "api.md").read_text()))
    assert set(pagews.__all__) - told == set()


def test_every_method_of_the_push_api_is_in_the_reference() -> None:
    text = (REFERENCE / "api.md").read_text()
    for kind in (pagews.Publisher, pagews.Target, pagews.IdentityTarget, pagews.PageTarget, pagews.Page):
        inner = {"push", "ask", "close_page", "attached_pages", "attached", "detached", "gone", "answered", "start"}
        inner |= {"detached_elsewhere", "ended"}
        inner |= {"stop"}
        members = [name for name in vars(kind) if not name.startswith("_")]
        for name in set(members) - (inner if kind is pagews.Publisher else set()):
            assert re.search(rf"`(?:await )?{name}\b", text), f"{kind.__name__}.{name}"


def test_every_argument_of_setup_is_in_the_reference() -> None:
    section = (REFERENCE / "api.md").read_text().partition("### `setup(")[2].partition("\n### ")[0]
    told = [row[0].strip("`") for row in rows(section) if row[0].startswith("`")]
    assert told == [name for name in inspect.signature(pagews.setup).parameters if name != "app"]


PROGRAM = """
const { pagews, createPage } = await import(process.argv[1]);
const names = Object.getOwnPropertyNames(Object.getPrototypeOf(pagews)).filter((name) => name !== "constructor");
console.log([...names, ...Object.keys(pagews)].join("\\n"));
"""


@pytest.fixture(scope="module")
def members_of_the_client(node: Path) -> set[str]:
    client = (ROOT / "static" / "pagews.js").as_uri()
    command = [str(node), "--input-type=module", "--eval", PROGRAM, client]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(answer.stdout.split())


def test_every_member_of_the_client_is_in_the_reference(members_of_the_client: set[str]) -> None:
    table = (REFERENCE / "javascript.md").read_text().partition("## The page")[2].partition("## ")[0]
    told = {name for row in rows(table) for name in re.findall(r"`(?:await )?(\w+)", row[0])}
    assert told == members_of_the_client


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_client_is_used_as_it_is(page: Path, members_of_the_client: set[str]) -> None:
    scripts = "\n".join(block.code for block in blocks(page) if "pagews.js" in block.code or block.language == "js")
    used = set(re.findall(r"(?<![\w/.\"])pagews\.(\w+)(?!\w)", re.sub(r'"[^"\n]*"', '""', scripts)))
    python = set(pagews.__all__) | {"testing"}
    assert used - python <= members_of_the_client | {"addEventListener"}


# --- fragments --------------------------------------------------------------------------------------------------------


def python_blocks() -> Iterator[tuple[Path, Block]]:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python":
                yield page, block


def test_python_parses_and_names_what_there_is() -> None:
    for page, block in python_blocks():
        tree = compile(block.code, str(page), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pagews":
                assert node.attr in pagews.__all__, f"{page.name}: pagews.{node.attr}"


def test_python_is_formatted(tmp_path: Path) -> None:
    found = list(python_blocks())
    for number, (page, block) in enumerate(found):
        (tmp_path / f"{page.stem}_{number}.py").write_text(block.code)
    options = ["--isolated", "--line-length=120", "--target-version=py311", "--diff"]
    command = [sys.executable, "-m", "ruff", "format", *options, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert found
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_javascript_parses(page: Path, node: Path, tmp_path: Path) -> None:
    scripts = [block.code for block in blocks(page) if block.language == "js"]
    for block in blocks(page):
        scripts += re.findall(r"<script type=\"module\">\n(.*?)</script>", block.code, re.DOTALL)
    for number, script in enumerate(scripts):
        path = tmp_path / f"{number}.mjs"
        path.write_text(script.replace("\\\\n", "\\n"))
        answer = subprocess.run([node, "--check", path], capture_output=True, text=True, check=False, timeout=60)
        assert answer.returncode == 0, answer.stderr


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not link.startswith("https://")
    }
    assert set(PAGES) - linked <= {ROOT / "README.md", ROOT / "docs" / "README.md"}


def test_code_refers_to_pages_that_exist() -> None:
    for path in [*(ROOT / "pagews").glob("*.py"), *(ROOT / "static").glob("*.js")]:
        for name in re.findall(r"\bdocs/[\w/.-]*\w", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name} names {name}"
