"""The command line: `python -m pagews key`."""

from __future__ import annotations

import argparse

from .tokens import ENVIRONMENT, new_key


def main(arguments: list[str] | None = None) -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m pagews", description="Tools for pagews, push for aiohttp sites.")
    commands = parser.add_subparsers(required=True, metavar="command")
    key = commands.add_parser(
        "key",
        help="print a new secret key",
        description=f"Print a new secret key, for setup(secret_key=...) or {ENVIRONMENT}.",
    )
    key.set_defaults(run=lambda: print(new_key()))
    parser.parse_args(arguments).run()


if __name__ == "__main__":
    main()
