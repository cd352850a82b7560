"""On CI a skipped test is a failed one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts import KERNEL_FORBIDS

SKIPPED_TEST = "import pytest\n\ndef test_needs_a_program():\n    pytest.skip('the program is missing')\n"
FORBIDDEN_TEST = f"import pytest\n\ndef test_needs_a_kernel():\n    pytest.skip('{KERNEL_FORBIDS}: not permitted')\n"
SKIPPED_FILE = "import pytest\n\npytest.skip('the program is missing', allow_module_level=True)\n"


def run(test_file: Path, root: Path, *, ci: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--quiet", "-c", os.devnull, "--rootdir", str(test_file.parent)]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "tests.conftest", str(test_file)],
        cwd=root,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_FILE], ids=["test", "file"])
def test_a_skip_fails_on_ci_and_is_named(source: str, tmp_path: Path, root: Path) -> None:
    test_file = tmp_path / "test_missing_program.py"
    test_file.write_text(source)

    on_ci = run(test_file, root, ci="true")
    assert on_ci.returncode in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED), on_ci.stdout
    assert "On CI nothing may be skipped." in on_ci.stdout
    assert "the program is missing" in on_ci.stdout


def test_a_skip_is_a_skip_elsewhere(tmp_path: Path, root: Path) -> None:
    test_file = tmp_path / "test_missing_program.py"
    test_file.write_text(SKIPPED_TEST)

    elsewhere = run(test_file, root, ci="")
    assert elsewhere.returncode == pytest.ExitCode.OK, elsewhere.stdout
    assert "1 skipped" in elsewhere.stdout


def test_what_the_kernel_forbids_is_a_skip_on_ci_too(tmp_path: Path, root: Path) -> None:
    test_file = tmp_path / "test_missing_kernel.py"
    test_file.write_text(FORBIDDEN_TEST)

    on_ci = run(test_file, root, ci="true")
    assert on_ci.returncode == pytest.ExitCode.OK, on_ci.stdout
    assert "1 skipped" in on_ci.stdout
