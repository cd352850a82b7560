"""setup.cfg tells pip the truth about the package."""

from __future__ import annotations

import ast
import configparser
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pagews


def requirements(text: str) -> dict[str, Requirement]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def third_party_imports(folder: Path) -> set[str]:
    """The distributions that the Python files in `folder` import from."""
    modules = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                modules.add(node.module.partition(".")[0])
    distributions = packages_distributions()
    foreign = modules - sys.stdlib_module_names - {"pagews"}
    return {canonicalize_name(distribution) for module in foreign for distribution in distributions[module]}


def for_users(metadata: configparser.ConfigParser) -> dict[str, Requirement]:
    """What the library requires, with its extra for Redis."""
    always, extra = metadata["options"]["install_requires"], metadata["options.extras_require"]["redis"]
    return requirements(always) | requirements(extra)


def test_what_the_library_imports_is_what_it_requires(metadata: configparser.ConfigParser, root: Path) -> None:
    assert third_party_imports(root / "pagews") == set(for_users(metadata))


def test_every_requirement_has_a_lower_bound_and_no_upper_one(metadata: configparser.ConfigParser) -> None:
    for name, requirement in for_users(metadata).items():
        assert [clause.operator for clause in requirement.specifier] == [">="], name


def test_the_version_is_one(metadata: configparser.ConfigParser) -> None:
    assert pagews.__version__ == metadata["metadata"]["version"]


def test_the_tests_build_with_what_a_user_builds_with(metadata: configparser.ConfigParser, root: Path) -> None:
    """The packaging tests build without isolation, in the tests' environment."""
    build_system = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]
    for_tests = requirements(metadata["options.extras_require"]["test"])
    for name, requirement in requirements("\n".join(build_system["requires"])).items():
        assert for_tests[name].specifier == requirement.specifier


def test_every_python_from_the_lowest_is_classified(metadata: configparser.ConfigParser) -> None:
    assert metadata["options"]["python_requires"] == ">=3.11"
    assert "Programming Language :: Python :: 3.11" in metadata["metadata"]["classifiers"]
