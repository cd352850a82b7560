"""Random histories of the core for as long as asked: `make soak SECONDS=600 SEED=7`.

The histories are those of `tests/test_machine.py`, of one process or several, in rounds; each round prints its seed
before it runs, and the same seed brings the same histories. The first that breaks a promise is shrunk and printed, as
the calls that show it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import Final

import hypothesis
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.test_machine import SETTINGS, Histories

#: Histories in one round: some seconds.
ROUND: Final = 100

_SETTINGS: Final = hypothesis.settings(
    SETTINGS, max_examples=ROUND, database=None, phases=(Phase.generate, Phase.shrink), print_blob=False
)


def main() -> None:
    """Run rounds until the time is over; the exit status is 1 when a history has broken a promise."""
    parser = argparse.ArgumentParser(description="Random histories of the core, for as long as asked.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on, in whole rounds (default: 60)")
    parser.add_argument("--seed", type=int, help="of the first round, the others count up; without it a random one")
    arguments = parser.parse_args()
    first = random.SystemRandom().randrange(10**9) if arguments.seed is None else arguments.seed
    end, number = time.monotonic() + arguments.seconds, first
    while number == first or time.monotonic() < end:
        print(f"seed {number}: {ROUND} histories of at most 100 steps", flush=True)
        try:
            run_state_machine_as_test(hypothesis.seed(number)(Histories), settings=_SETTINGS)
        except BaseException:
            print(f"again with: make soak SECONDS=0 SEED={number}", file=sys.stderr, flush=True)
            raise
        number += 1
    print(f"every promise was kept in {(number - first) * ROUND} histories")


if __name__ == "__main__":
    main()
