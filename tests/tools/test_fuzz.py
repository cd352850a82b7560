"""`tools.fuzz` gives hostile input to all that reads some, and says which breaks a promise."""

from __future__ import annotations

import importlib.util
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tools.fuzz_targets import TARGETS

PLANTED = "tests.tools.planted_fault"


def fuzz(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.fuzz", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=150)


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_breaks_a_promise_nor_does_what_looks_like_one(name: str) -> None:
    target, chance = TARGETS[name], random.Random(name)

    def give(data: bytes) -> None:
        try:
            target.run(data)
        except Exception as error:
            # A report may not hold every text that hostile bytes decode to.
            raise AssertionError(f"{data!r}: {error!a}") from None

    for seed in target.seeds:
        give(seed)
        for _ in range(20):
            spoiled = bytearray(seed or b"\0")
            spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
            give(bytes(spoiled[: chance.randrange(1, len(spoiled) + 1)]))


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_seeds_that_get_it_far(name: str) -> None:
    assert TARGETS[name].seeds
    assert TARGETS[name].run.__doc__


def test_a_planted_fault_is_found_and_can_be_replayed(root: Path) -> None:
    done = fuzz(root, "planted", "--targets", PLANTED, "--seconds", "20")
    if importlib.util.find_spec("atheris") is None:
        assert done.returncode == 2
        assert "pip install --editable '.[fuzz]'" in done.stderr
        replay = ["planted", "--targets", PLANTED, "--replay", "b'x'"]
    else:
        assert done.returncode == 1
        assert "LookupError: nobody has promised this" in done.stderr
        assert re.search(r"^planted +[\d,]+ runs", done.stdout)
        replay = shlex.split(done.stderr.splitlines()[-1])[3:]

    again = fuzz(root, *replay)
    assert again.returncode == 1
    assert "LookupError: nobody has promised this" in again.stderr


def test_a_replay_of_what_breaks_nothing(root: Path) -> None:
    done = fuzz(root, "wire-text", "--replay", "b'[\\x22pong\\x22]'")

    assert (done.returncode, done.stdout) == (0, "no promise was broken\n")


def test_a_target_that_there_is_not(root: Path) -> None:
    done = fuzz(root, "nothing")

    assert done.returncode == 2
    assert "no target nothing; there are wire-text" in done.stderr
