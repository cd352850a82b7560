"""The command line: `python -m pagews key`, `python -m pagews push`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from . import push_command
from .tokens import ENVIRONMENT, new_key


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pagews", description="Tools for pagews, push for aiohttp sites.")
    commands: Any = parser.add_subparsers(required=True, metavar="command")
    key = commands.add_parser(
        "key",
        help="print a new secret key",
        description=f"Print a new secret key, for setup(secret_key=...) or {ENVIRONMENT}.",
    )
    key.set_defaults(run=_print_key)
    push_command.add_to(commands)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


def _print_key(options: argparse.Namespace) -> int:
    print(new_key())
    return 0


if __name__ == "__main__":
    sys.exit(main())
