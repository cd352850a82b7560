"""The command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pagews.__main__ import main
from pagews.tokens import read_keys


def test_key_prints_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    main(["key"])
    printed = capsys.readouterr().out.strip()
    assert read_keys(printed)


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "command" in capsys.readouterr().err


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pagews", "--help"], capture_output=True, check=True, text=True, timeout=60
    )
    assert "key" in done.stdout
