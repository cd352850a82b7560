"""Builds the tree once, and makes fresh environments to install what came out."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
SECONDS = 120


class Environment(NamedTuple):
    """A fresh virtual environment: pagews is its own, what pagews depends on is that of the tests."""

    folder: Path
    python: Path

    def install(self, *what: str | Path) -> None:
        """Install by pip, without the network."""
        alone = ("--ignore-installed", "--no-deps", "--no-index", "--no-build-isolation")
        pip = (sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet")
        run([*pip, *alone, *what], cwd=self.folder)


def run(command: Sequence[str | Path], *, cwd: Path) -> str:
    """Run to the end and return what it printed; with everything it said in the error if it fails."""
    answer = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout


@pytest.fixture(scope="session")
def tree(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, so that the checkout is neither written to nor leaned on."""
    copy = tmp_path_factory.mktemp("packaging") / "tree"
    copy.mkdir()
    for name in ("pagews", "static", "templates"):
        shutil.copytree(root / name, copy / name, ignore=IGNORED)
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "SECURITY.md", "LICENSE"):
        shutil.copy(root / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def metadata(root: Path) -> configparser.ConfigParser:
    """What setup.cfg says."""
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg")
    return parser


@pytest.fixture(scope="session")
def sdist(tree: Path) -> Path:
    """The source distribution."""
    run([sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", tree.parent / "sdist", tree], cwd=tree)
    (built,) = (tree.parent / "sdist").glob("*.tar.gz")
    return built


@pytest.fixture(scope="session")
def wheel(tree: Path) -> Path:
    """The wheel, built from the tree."""
    run([sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tree.parent / "wheel", tree], cwd=tree)
    (built,) = (tree.parent / "wheel").glob("*.whl")
    return built


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A fresh environment without pagews."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)}, scheme="venv")
    # A plain path, unlike `site.addsitedir`, leaves the .pth files over there unread: the tests' own editable pagews
    # stays out of sight.
    here = sysconfig.get_paths()
    dependencies = "\n".join(dict.fromkeys((here["purelib"], here["platlib"])))
    (Path(paths["purelib"]) / "dependencies.pth").write_text(dependencies + "\n")
    return Environment(folder, Path(paths["scripts"]) / "python")
