"""`tools.system` installs as root on Debian, and otherwise says in one line what to do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import programs, system


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no program at all; its apt, once `with_apt`, writes down what it is told."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "ROOTS_PROGRAMS", ())
    monkeypatch.setattr(system, "SERVICE_POLICY", tmp_path / "policy-rc.d")
    return tmp_path


def with_apt(machine: Path) -> Path:
    """Put an `apt-get` on `machine`; returns the file that it writes its arguments to."""
    told = machine / "told"
    apt = machine / "apt-get"
    apt.write_text(f"#!/bin/sh\necho \"$@\" >> '{told}'\n")
    apt.chmod(0o755)
    return told


def test_what_is_there_is_left_alone(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = with_apt(machine)
    chromium = machine / "chromium"
    chromium.touch()
    chromium.chmod(0o755)
    assert system.main(["chromium"]) == 0
    assert not told.exists()
    assert capsys.readouterr() == ("", "")


def test_root_on_debian_installs(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = with_apt(machine)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert system.main(["chromium", "nginx", "redis-server"]) == 0
    installs = "install --yes --no-install-recommends chromium nginx redis-server"
    assert told.read_text().splitlines() == ["update", installs]


@pytest.mark.parametrize("outcome", ["true", "false"])
def test_what_is_installed_starts_no_service(machine: Path, monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    said = machine / "said"
    apt = machine / "apt-get"
    apt.write_text(f"#!/bin/sh\n'{system.SERVICE_POLICY}' redis-server start\necho $? >> '{said}'\n{outcome}\n")
    apt.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with contextlib.nullcontext() if outcome == "true" else pytest.raises(subprocess.CalledProcessError):
        system.main(["redis-server"])
    assert set(said.read_text().split()) == {"101"}
    assert not system.SERVICE_POLICY.exists()


def test_the_policy_of_the_machine_is_left_alone(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_apt(machine)
    system.SERVICE_POLICY.write_text("its own")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert system.main(["nginx"]) == 0
    assert system.SERVICE_POLICY.read_text() == "its own"


def test_anyone_else_on_debian_is_told_one_command(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = with_apt(machine)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert system.main(["venv", "chromium", "nginx"]) == 1
    assert not told.exists()
    (command,) = [line.strip() for line in capsys.readouterr().err.splitlines() if "sudo" in line]
    venv = f"python3.{sys.version_info.minor}-venv"
    assert command == (
        f"sudo apt-get update && sudo apt-get install --yes --no-install-recommends {venv} chromium nginx"
    )


def test_elsewhere_one_is_told_what_is_missing(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert system.main(["chromium", "nginx", "redis-server"]) == 1
    said = capsys.readouterr().err
    assert "install Chromium" in said
    assert "install nginx" in said
    assert "install Redis or Valkey" in said


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    assert system.main(["venv"]) == 1
    said = capsys.readouterr().err
    assert "needs Python 3.11 and this is 3.10" in said
    assert "make PYTHON=" in said
