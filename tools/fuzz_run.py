"""One target under libFuzzer, until it is told to stop or finds something: a process of its own for `tools.fuzz`.

`python -m tools.fuzz_run MODULE TARGET` and libFuzzer's arguments; MODULE has TARGETS.
"""

from __future__ import annotations

import importlib
import sys

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # by hand, and without types


def main() -> None:
    """Instrument the library while it is imported, and hand over to libFuzzer, which ends the process."""
    module, name = sys.argv[1:3]
    with atheris.instrument_imports(include=["pagews"]):
        target = importlib.import_module(module).TARGETS[name]
    atheris.Setup([sys.argv[0], *sys.argv[3:]], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
