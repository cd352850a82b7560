"""A target that breaks a promise, for the fuzzer to find."""

from __future__ import annotations

from typing import Final

from tools.fuzz_targets import Target


def run(data: bytes) -> None:
    """Takes everything but what begins with an x."""
    if data.startswith(b"x"):
        raise LookupError("nobody has promised this")


TARGETS: Final = {"planted": Target(run, [b"a seed"])}
