"""Wheel, sdist and editable checkout, each in a fresh environment, serve the browser client."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.packaging.conftest import Environment, run

SERVE = Path(__file__).with_name("serve.py")
JAVASCRIPT = ("text/javascript", "application/javascript")


def visit(environment: Environment, names: list[str]) -> dict[str, Any]:
    """Serve the site from `environment`, away from the checkout and from what it sets in the process's environment."""
    program = environment.folder / SERVE.name
    program.write_text(SERVE.read_text())
    answer: dict[str, Any] = json.loads(run([environment.python, "-I", program, *names], cwd=environment.folder))
    return answer


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_the_client_is_served(
    kind: str, request: pytest.FixtureRequest, environment: Environment, tree: Path, root: Path
) -> None:
    if kind == "editable":
        environment.install("--editable", tree)
        home = tree
    else:
        environment.install(request.getfixturevalue(kind))
        home = environment.folder
    expected = {file.name: file.read_bytes() for file in (root / "static").glob("*.js")}
    assert "pagews.js" in expected

    got = visit(environment, sorted(expected))

    assert Path(got["package"]).is_relative_to(home)
    assert urlsplit(got["address"]).path == "/pagews/static/pagews.js"
    for name, content in expected.items():
        module = got["modules"][name]
        assert module["status"] == 200, name
        assert module["type"] in JAVASCRIPT, name
        assert module["digest"] == hashlib.sha256(content).hexdigest(), name
    assert got["refusal"]["status"] == 426
    assert got["refusal"]["type"] == "text/html"


def test_the_wheel_holds_the_library_alone(wheel: Path, root: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {path.relative_to(root).as_posix() for path in (root / "pagews").glob("*.py")} | {"pagews/py.typed"}
    expected |= {f"pagews/scripts/{path.name}" for path in (root / "pagews" / "scripts").iterdir()}
    for folder, patterns in (("static", ("*.py", "*.js", "*.css")), ("templates", ("*.py", "*.html"))):
        expected |= {f"pagews/{folder}/{path.name}" for kind in patterns for path in (root / folder).glob(kind)}
    assert names == expected


def test_every_file_of_the_data_folders_is_packed(wheel: Path, root: Path) -> None:
    """A new kind of file needs its line in setup.cfg."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("static", "templates"):
        for path in (root / folder).iterdir():
            if path.name != "__pycache__":
                assert f"pagews/{folder}/{path.name}" in packed


def test_the_licence_goes_with_both(wheel: Path, sdist: Path) -> None:
    assert any(name.endswith("/LICENSE") for name in zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/LICENSE") for name in archive.getnames())


def test_the_security_policy_goes_with_the_source(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/SECURITY.md") for name in archive.getnames())
