"""The audit finds nothing in this checkout, and each of its checks can find something."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from tests.markdown import rows
from tools import audit
from tools.advisories import ADVISORIES, Advisory

SETUP: Final = """
[options]
install_requires =
    # It has a reason.
    one >=1.0
    two >=2.0
    # Its floor is missing.
    three
[options.extras_require]
redis =
    # Of the extra.
    four[more] >=4
"""

FLAW: Final = Advisory("CVE-1", "one", "1.1", "it is broken")


def test_nothing_is_wrong_with_this_checkout(root: Path) -> None:
    versions, faults = audit.check(root)

    assert {"aiohttp", "hiredis", "yarl"} <= versions.keys()
    assert faults == []


def test_every_dependency_has_its_place_in_the_docs(root: Path) -> None:
    told = {cells[0]: cells[1] for cells in rows((root / "docs" / "explanation" / "security.md").read_text())}

    for requirement in audit.declared((root / "setup.cfg").read_text()):
        assert told[f"`{requirement.name}`"] == str(audit.floor(requirement)), requirement


def test_advisories_are_of_what_pagews_is_built_on(root: Path) -> None:
    names = {requirement.name for requirement in audit.declared((root / "setup.cfg").read_text())}

    assert {advisory.distribution for advisory in ADVISORIES} <= names
    assert len({advisory.name for advisory in ADVISORIES}) == len(ADVISORIES)


# --- what is declared -------------------------------------------------------------------------------------------------


def test_requirement_without_a_floor_or_a_reason() -> None:
    assert list(audit.without_reason(SETUP)) == ["two>=2.0: no comment above it says why", "three: has no floor"]


def test_floor_below_a_fix() -> None:
    def faults(requirement: str) -> list[str]:
        return list(audit.floors_below_a_fix([Requirement(requirement)], [FLAW]))

    for requirement in ("one", "one>=1.0", "One>=1.0.9", "one>=1.1rc1"):
        assert faults(requirement) == [f"{requirement}: takes releases before 1.1: it is broken (CVE-1)"]
    for requirement in ("one>=1.1", "one>=2", "two"):
        assert faults(requirement) == []


# --- what is installed ------------------------------------------------------------------------------------------------


def install(folder: Path, name: str, version: str = "1.0", *requires: str, **files: str) -> None:
    """Put a distribution into a folder as an installer does."""
    about = f"{name}-{version}.dist-info"
    told = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {text}" for text in requires),
    ]
    contents = {f"{about}/METADATA": "\n".join(told) + "\n"}
    contents |= {f"{name}/{file}.py": text for file, text in files.items()}
    record = []
    for path, text in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text)}")
    (folder / about / "RECORD").write_text("\n".join([*record, f"{about}/RECORD,,"]) + "\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that distributions are found in."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_is_required_is_followed(folder: Path) -> None:
    install(folder, "audit_a", "1.0", "audit-b >=2", "audit-c; extra == 'more'", "audit-none; python_version < '3'")
    install(folder, "audit_b", "2.5", "audit-a")  # a circle
    install(folder, "audit_c", "3.0")

    found, faults = audit.closure([Requirement("audit-a[more] >=1")])

    assert {name: distribution.version for name, distribution in found.items()} == {
        "audit-a": "1.0",
        "audit-b": "2.5",
        "audit-c": "3.0",
    }
    assert faults == []
    assert audit.closure([Requirement("audit-a")])[0].keys() == {"audit-a", "audit-b"}


def test_what_is_missing_or_too_old_is_found(folder: Path) -> None:
    install(folder, "audit_a", "1.0", "audit-b >=2", "audit-none")
    install(folder, "audit_b", "1.9")

    _, faults = audit.closure([Requirement("audit-a >=1.1")])

    assert sorted(faults) == [
        "audit-a 1.0: pagews needs audit-a>=1.1",
        "audit-b 1.9: audit-a needs audit-b>=2",
        "audit-none: is not installed, and audit-a needs it",
    ]


def test_installed_release_with_a_flaw() -> None:
    assert list(audit.known_flaws({"one": "1.0.9", "two": "0"}, [FLAW])) == [
        "one 1.0.9: it is broken (CVE-1; fixed in 1.1)"
    ]
    assert list(audit.known_flaws({"one": "1.1"}, [FLAW])) == []


def test_files_that_are_not_as_they_were_packed(folder: Path) -> None:
    install(folder, "audit_a", "1.0", one="1", two="2", three="3")
    distribution = metadata.distribution("audit-a")
    cache = folder / "audit_a" / "__pycache__"
    cache.mkdir()
    (cache / "one.cpython-311.pyc").touch()  # Python's own
    assert list(audit.altered(distribution)) == []

    (folder / "audit_a" / "one.py").write_text("0")
    (folder / "audit_a" / "two.py").unlink()
    (cache / "four.so").touch()

    assert list(audit.altered(distribution)) == [
        "audit_a: audit_a/one.py is not what was packed",
        "audit_a: audit_a/two.py is gone",
        "audit_a: audit_a/__pycache__/four.so was not packed with it",
    ]
    (folder / "audit_a-1.0.dist-info" / "RECORD").unlink()
    assert list(audit.altered(distribution)) == ["audit_a: has no record of its files"]


def test_module_of_what_is_not_declared(root: Path) -> None:
    versions, _ = audit.check(root)
    del versions["yarl"]

    assert list(audit.undeclared_imports(versions)) == ["yarl: pagews loads its module yarl, and does not declare it"]


# --- npm --------------------------------------------------------------------------------------------------------------


def test_npm_package_that_is_not_locked() -> None:
    sound = {"version": "1.0.0", "integrity": "sha512-abc"}
    packages = {
        "": {"name": "the project"},
        "sound": sound,
        "weak": sound | {"integrity": "sha1-abc"},
        "loose": {"version": "1.0.0"},
        "folder": sound | {"link": True},
        "repository": sound | {"version": "git+ssh://git@example.com/x.git#1"},
        "running": sound | {"hasInstallScript": True},
    }

    assert list(audit.unlocked(json.dumps({"packages": packages}))) == [
        "weak: is not locked to a digest",
        "loose: is not locked to a digest",
        "folder: is no release",
        "repository: is no release",
        "running: runs a script when it is installed",
    ]


# --- what registries know ---------------------------------------------------------------------------------------------


def publish(index: Path, name: str, versions: Mapping[str, str]) -> None:
    """An index of one distribution: its releases, and why each was withdrawn."""
    page = index / name.replace("_", "-") / "index.html"
    page.parent.mkdir(parents=True)
    links = []
    for version, why in versions.items():
        file = f"{name}-{version}-py3-none-any.whl"
        about = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(page.parent / file, "w") as wheel:
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
        links.append(f'<a href="{file}"{f" data-yanked={why!r}" if why else ""}>{file}</a>')
    page.write_text("<!doctype html>\n" + "\n".join(links))


def test_release_that_was_withdrawn(tmp_path: Path) -> None:
    publish(tmp_path, "audit_withdrawn", {"1.0": "it was wrong", "1.1": ""})
    index = f"--index-url={tmp_path.as_uri()}"

    assert list(audit.withdrawn({"audit-withdrawn": "1.0"}, index)) == ["audit-withdrawn 1.0: was withdrawn"]
    assert list(audit.withdrawn({"audit-withdrawn": "1.1"}, index)) == []
    with pytest.raises(audit.NoAnswer, match="the index has no answer"):
        list(audit.withdrawn({"audit-withdrawn": "1.2"}, index))


def test_what_pip_audit_says() -> None:
    flaw = {"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"], "aliases": [], "description": ""}
    found = {"name": "one", "version": "1.0", "vulns": [flaw]}
    unknown = {"name": "two", "skip_reason": "not found"}

    def read(*dependencies: object) -> list[str]:
        return list(audit.read_pip_audit(json.dumps({"dependencies": dependencies, "fixes": []})))

    assert read(found) == ["one 1.0: PYSEC-1, fixed in 1.1, 2.0"]
    assert read(found | {"vulns": []}) == []
    with pytest.raises(audit.NoAnswer, match="knows of no flaws"):
        read(found, unknown)


def test_what_npm_says() -> None:
    found = {"vulnerabilities": {"one": {"severity": "high", "range": "<1.1"}}}

    assert list(audit.read_npm_audit(json.dumps({"auditReportVersion": 2} | found))) == ["one <1.1: high severity"]
    with pytest.raises(audit.NoAnswer, match="knows of no flaws"):
        list(audit.read_npm_audit('{"message": "405 Method Not Allowed", "statusCode": 405}'))


@pytest.mark.parametrize("said", ["", "no JSON", "[]"])
def test_who_says_nothing_has_no_answer(said: str) -> None:
    for read in (audit.read_pip_audit, audit.read_npm_audit):
        with pytest.raises(audit.NoAnswer, match="says nothing"):
            list(read(said))


def test_no_answer_is_said_and_is_no_failure(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", tmp_path.as_uri())  # an index without anything
    monkeypatch.setattr(audit, "published", lambda versions: audit.read_pip_audit(""))

    with pytest.raises(SystemExit) as exit:
        audit.main()

    said = capsys.readouterr()
    assert exit.value.code == 0, said.err
    assert re.sub(r"\d+", "N", said.out).splitlines() == [
        "audit: N distributions, N known flaws, and what npm is locked to",
        "  not asked for releases that were withdrawn: the index has no answer",
        "  not asked for flaws of distributions: pip-audit says nothing",
        "  not asked for flaws of npm packages: npm cannot be run: No such file or directory",
    ]


def test_a_fault_is_said_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(audit, "check", lambda root: ({}, ["one: is broken"]))
    for name in ("withdrawn", "published"):
        monkeypatch.setattr(audit, name, lambda versions: iter([]))
    monkeypatch.setattr(audit, "published_of_npm", lambda: iter(["two: is broken"]))

    with pytest.raises(SystemExit) as exit:
        audit.main()

    assert exit.value.code == 1
    assert capsys.readouterr().err.splitlines() == ["  one: is broken", "  two: is broken"]
