"""Fuzzes what reads the bytes of strangers, led by coverage: `make fuzz SECONDS=600`.

`python -m tools.fuzz [TARGET …] --seconds 60` shares the time out among the targets of `tools.fuzz_targets`, by default
all. An input that breaks a promise is printed as a literal of Python, and the exit status is 1 then;
`python -m tools.fuzz TARGET --replay LITERAL` shows it again, also where there is no fuzzer.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent

#: Bytes of an input at most: what is worth finding needs no more.
SIZE: Final = 4096
#: Seconds that one input may take, and MiB of memory that a target may.
INPUT_SECONDS, MEMORY = 10, 1024
#: Seconds that a target may take besides, to begin and to end.
MARGIN: Final = 120

TARGETS_MODULE: Final = "tools.fuzz_targets"


class Outcome(NamedTuple):
    """What came of one target: how many inputs it was given, how much of the code they reached, and the one that breaks
    a promise, if any, with what was said of it.
    """

    runs: int
    coverage: int
    found: bytes | None = None
    said: str = ""


def fuzz(module: str, name: str, seconds: int) -> Outcome:
    """Fuzz one target of a module for so many seconds, in a process of its own.

    Raises:
        RuntimeError: the fuzzer itself has failed.
    """
    target = importlib.import_module(module).TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        corpus, found = Path(folder, "corpus"), Path(folder, "found")
        corpus.mkdir()
        for number, seed in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(seed)
        command = [sys.executable, "-m", "tools.fuzz_run", module, name, str(corpus)]
        command += [f"-max_total_time={seconds}", f"-max_len={SIZE}", f"-timeout={INPUT_SECONDS}"]
        command += [f"-rss_limit_mb={MEMORY}", f"-exact_artifact_path={found}", "-print_final_stats=1"]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False, timeout=seconds + MARGIN
        )
        said = done.stdout + done.stderr
        if not found.exists() and done.returncode:
            raise RuntimeError(f"{name}: the fuzzer ended with {done.returncode}\n{said}")
        runs = re.findall(r"^(?:stat::number_of_executed_units: |#)(\d+)\s", said, re.MULTILINE)
        covered = re.findall(r"\bcov: (\d+)", said)
        return Outcome(
            int(runs[-1]) if runs else 0,
            int(covered[-1]) if covered else 0,
            found.read_bytes() if found.exists() else None,
            said,
        )


def report(module: str, name: str, outcome: Outcome) -> None:
    """Say what came of one target."""
    print(f"{name:16} {outcome.runs:>10,} runs, {outcome.coverage:>6,} edges and lines reached", flush=True)
    if outcome.found is not None:
        told = re.search(r"Uncaught Python exception: ===\n(.*?)\n==", outcome.said, re.DOTALL)
        print(told.group(1) if told else outcome.said, file=sys.stderr)
        extra = "" if module == TARGETS_MODULE else f" --targets {module}"
        print(f"{name} is broken by {outcome.found!r}; again with:", file=sys.stderr)
        print(f'python -m tools.fuzz {name}{extra} --replay "{_quoted(outcome.found)}"', file=sys.stderr)


def _quoted(data: bytes) -> str:
    """A literal that a shell leaves alone between double quotes."""
    return "b'" + "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in data) + "'"


def main() -> int:
    """Fuzz, or replay; the exit status is 1 when an input has broken a promise."""
    parser = argparse.ArgumentParser(description="Fuzzes what reads the bytes of strangers, led by coverage.")
    parser.add_argument("target", nargs="*", help="all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together (default: 60)")
    parser.add_argument("--replay", metavar="LITERAL", help="give a target this input, and nothing else")
    parser.add_argument("--targets", metavar="MODULE", default=TARGETS_MODULE, help="where the targets are")
    arguments = parser.parse_args()
    targets = importlib.import_module(arguments.targets).TARGETS
    unknown = set(arguments.target) - set(targets)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(targets)}")
    names = arguments.target or list(targets)
    if arguments.replay is not None:
        for name in names:
            targets[name].run(ast.literal_eval(arguments.replay))
        print("no promise was broken")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("there is no atheris: python -m pip install --editable '.[fuzz]'", file=sys.stderr)
        return 2
    is_broken = False
    for name in names:
        outcome = fuzz(arguments.targets, name, max(1, arguments.seconds // len(names)))
        report(arguments.targets, name, outcome)
        is_broken = is_broken or outcome.found is not None
    return int(is_broken)


if __name__ == "__main__":
    sys.exit(main())
