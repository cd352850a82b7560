"""Looks at what pagews is built on, as it is declared and as it is installed: `python -m tools.audit`.

What needs no network always runs, and fails when something is wrong:

* every requirement of the library has a floor, with its reason, and no floor is below the fix of a known flaw;
* what is installed satisfies all that is required of it, has no known flaw, and is what its distributor has packed:
  every file has the digest that is on record, and none has been put beside them;
* the library loads nothing that is not declared;
* every npm package is locked to a digest.

What registries know is asked for too: releases that were withdrawn, flaws that were published since. One that does not
answer, or has no answer, is no failure; it is said.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from importlib.metadata import Distribution
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.advisories import ADVISORIES, Advisory

ROOT: Final = Path(__file__).resolve().parent.parent

#: Seconds in which a registry has to answer.
PATIENCE: Final = 60.0

#: What Python runs or loads; what it has compiled itself is on no record.
_CODE: Final = (".py", ".so", ".pyd", ".dll", ".dylib", ".pth")

_LOAD: Final = """
import importlib, pkgutil, sys
before = {*sys.modules}
sys.path.insert(0, sys.argv[1])
import pagews
for module in pkgutil.iter_modules(pagews.__path__):
    if module.name != "__main__":
        importlib.import_module(f"pagews.{module.name}")
print(*{name.partition(".")[0] for name in sys.modules.keys() - before})
"""


# --- what is declared -------------------------------------------------------------------------------------------------


def declared(setup: str) -> list[Requirement]:
    """What the library requires by its `setup.cfg`, with its extra for Redis."""
    parser = configparser.ConfigParser()
    parser.read_string(setup)
    lists = parser["options"]["install_requires"], parser["options.extras_require"]["redis"]
    return [Requirement(line) for lines in lists for line in lines.splitlines() if line]


def without_reason(setup: str) -> Iterator[str]:
    """Requirements of a `setup.cfg` without a floor, or without a comment above them."""
    lines = [line.strip() for line in setup.splitlines()]
    explained = {line.replace(" ", "") for above, line in pairwise(lines) if above.startswith("#")}
    for requirement in declared(setup):
        if floor(requirement) is None:
            yield f"{requirement}: has no floor"
        if str(requirement) not in explained:
            yield f"{requirement}: no comment above it says why"


def floor(requirement: Requirement) -> Version | None:
    """The lowest version that a requirement takes."""
    floors = [Version(clause.version) for clause in requirement.specifier if clause.operator == ">="]
    return max(floors, default=None)


def floors_below_a_fix(requirements: Iterable[Requirement], advisories: Sequence[Advisory]) -> Iterator[str]:
    """Requirements that take a release with a known flaw."""
    for requirement in requirements:
        for advisory in advisories:
            lowest = floor(requirement)
            is_it = canonicalize_name(requirement.name) == advisory.distribution
            if is_it and (lowest is None or lowest < Version(advisory.fixed)):
                yield f"{requirement}: takes releases before {advisory.fixed}: {advisory.flaw} ({advisory.name})"


# --- what is installed ------------------------------------------------------------------------------------------------


def closure(requirements: Iterable[Requirement]) -> tuple[dict[str, Distribution], list[str]]:
    """What is installed of some requirements and of all that they require, by name; and what is wrong with it."""
    found: dict[str, Distribution] = {}
    faults = []
    known = set()
    waiting = [(requirement, "pagews") for requirement in requirements]
    while waiting:
        requirement, whose = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            distribution = found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            faults.append(f"{name}: is not installed, and {whose} needs it")
            continue
        if not requirement.specifier.contains(distribution.version, prereleases=True):
            faults.append(f"{name} {distribution.version}: {whose} needs {requirement}")
        for extra in ("", *requirement.extras):
            for text in distribution.requires or []:
                needed = Requirement(text)
                if (name, extra, text) not in known and (
                    needed.marker is None or needed.marker.evaluate({"extra": extra})
                ):
                    known.add((name, extra, text))
                    waiting.append((needed, name))
    return found, faults


def known_flaws(versions: Mapping[str, str], advisories: Sequence[Advisory]) -> Iterator[str]:
    """Installed releases with a known flaw."""
    for advisory in advisories:
        version = versions.get(advisory.distribution)
        if version is not None and Version(version) < Version(advisory.fixed):
            yield f"{advisory.distribution} {version}: {advisory.flaw} ({advisory.name}; fixed in {advisory.fixed})"


def altered(distribution: Distribution) -> Iterator[str]:
    """Files that are not as they were packed: gone, changed, or added beside them."""
    name = distribution.metadata["Name"]
    record = distribution.read_text("RECORD")
    if record is None:
        yield f"{name}: has no record of its files"
        return
    packed = set()
    folders = set()
    for path, digest, _ in csv.reader(record.splitlines()):
        file = Path(str(distribution.locate_file(path)))
        packed.add(file)
        top = Path(path).parts[0]
        if len(Path(path).parts) > 1 and top != ".." and not top.endswith(".dist-info"):
            folders.add(Path(str(distribution.locate_file(top))))
        if digest:
            kind, _, expected = digest.partition("=")
            if not file.is_file():
                yield f"{name}: {path} is gone"
            elif _digest(kind, file) != expected:
                yield f"{name}: {path} is not what was packed"
    for folder in folders:
        for file in folder.rglob("*"):
            if file.suffix in _CODE and file not in packed:
                yield f"{name}: {file.relative_to(folder.parent)} was not packed with it"


def _digest(kind: str, file: Path) -> str:
    return base64.urlsafe_b64encode(hashlib.new(kind, file.read_bytes()).digest()).rstrip(b"=").decode()


def undeclared_imports(allowed: Iterable[str]) -> Iterator[str]:
    """What the library loads, all of it, of distributions that are not declared."""
    # Isolated from what the user's environment adds to the path.
    command = [sys.executable, "-I", "-c", _LOAD, str(ROOT)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    allowed = {canonicalize_name(name) for name in ("pagews", *allowed)}
    owners = metadata.packages_distributions()
    for module in sorted(set(answer.stdout.split())):
        for owner in {canonicalize_name(owner) for owner in owners.get(module, [])} - allowed:
            yield f"{owner}: pagews loads its module {module}, and does not declare it"


# --- npm --------------------------------------------------------------------------------------------------------------


def unlocked(lock: str) -> Iterator[str]:
    """npm packages that are not locked to a digest, are none of the registry's, or run something when installed."""
    for path, package in json.loads(lock)["packages"].items():
        if not path:
            continue  # the project itself
        if not str(package.get("integrity", "")).startswith("sha512-"):
            yield f"{path}: is not locked to a digest"
        if package.get("link") or not re.fullmatch(r"\d[\w.+-]*", str(package.get("version", ""))):
            yield f"{path}: is no release"
        if package.get("hasInstallScript"):
            yield f"{path}: runs a script when it is installed"


# --- what registries know ---------------------------------------------------------------------------------------------


class NoAnswer(Exception):
    """A registry has not answered, or has no answer; says why."""


def withdrawn(versions: Mapping[str, str], *options: str) -> Iterator[str]:
    """Installed releases that their makers have withdrawn since.

    Arguments:
        options: of pip, beside those that the machine sets.
    """
    pins = [f"{name}=={version}" for name, version in versions.items()]
    command = ["-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--retries=0", *options, *pins]
    answer = _ask([sys.executable, *command])
    if answer.returncode != 0:
        raise NoAnswer("the index has no answer")
    for found in re.finditer(r"yanked version: '(.+?)' candidate \(version (\S+)", answer.stderr):
        yield f"{found[1]} {found[2]}: was withdrawn"


def published(versions: Mapping[str, str]) -> Iterator[str]:
    """Flaws that have been published of installed releases, also those that `tools/advisories.py` does not know."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins"
        pins.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
        options = ["--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json", f"--requirement={pins}"]
        answer = _ask([sys.executable, "-m", "pip_audit", *options])
    yield from read_pip_audit(answer.stdout)


def read_pip_audit(said: str) -> Iterator[str]:
    """What pip-audit has found, by its JSON."""
    answer = _read(said, "pip-audit")
    unknown = [found["name"] for found in answer.get("dependencies", []) if "skip_reason" in found]
    if "dependencies" not in answer or unknown:
        raise NoAnswer("the index knows of no flaws")
    for found in answer["dependencies"]:
        for flaw in found["vulns"]:
            yield f"{found['name']} {found['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions'])}"


def published_of_npm() -> Iterator[str]:
    """Flaws that have been published of the npm packages that are locked."""
    answer = _ask(["npm", "audit", "--json", "--package-lock-only", "--no-update-notifier"])
    yield from read_npm_audit(answer.stdout)


def read_npm_audit(said: str) -> Iterator[str]:
    """What npm has found, by its JSON."""
    answer = _read(said, "npm")
    if "auditReportVersion" not in answer:
        raise NoAnswer("the registry knows of no flaws")
    for name, found in answer["vulnerabilities"].items():
        yield f"{name} {found['range']}: {found['severity']} severity"


def _read(said: str, who: str) -> dict[str, Any]:
    try:
        answer = json.loads(said)
    except json.JSONDecodeError:
        raise NoAnswer(f"{who} says nothing") from None
    if not isinstance(answer, dict):
        raise NoAnswer(f"{who} says nothing")
    return answer


def _ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {PATIENCE:g} s") from None
    except OSError as error:
        raise NoAnswer(f"{command[0]} cannot be run: {error.strerror}") from error


# --- all of it --------------------------------------------------------------------------------------------------------


def check(root: Path) -> tuple[dict[str, str], list[str]]:
    """All that needs no network: what is installed for the library, by name, and what is wrong."""
    setup = (root / "setup.cfg").read_text()
    requirements = declared(setup)
    found, faults = closure(requirements)
    versions = {name: distribution.version for name, distribution in sorted(found.items())}
    faults += [
        *without_reason(setup),
        *floors_below_a_fix(requirements, ADVISORIES),
        *known_flaws(versions, ADVISORIES),
        *(fault for distribution in found.values() for fault in altered(distribution)),
        *undeclared_imports(versions),
        *unlocked((root / "package-lock.json").read_text()),
    ]
    return versions, faults


def main() -> None:
    versions, faults = check(ROOT)
    print(f"audit: {len(versions)} distributions, {len(ADVISORIES)} known flaws, and what npm is locked to")
    for what, asked in (
        ("releases that were withdrawn", withdrawn(versions)),
        ("flaws of distributions", published(versions)),
        ("flaws of npm packages", published_of_npm()),
    ):
        try:
            faults += list(asked)
            print(f"  asked for {what}")
        except NoAnswer as why:
            print(f"  not asked for {what}: {why}")
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
