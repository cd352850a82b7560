"""Sees to what the project needs from the system and pip cannot install.

`python3 -m tools.system venv chromium nginx redis-server`: as root on Debian it installs what is missing, and starts no
service; anywhere else it says how to install it, and fails. It runs before the project has an environment, on whatever
Python there is: standard library only, and syntax that an old Python reads too.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.programs import CHROMIUM_NAMES, REDIS_NAMES, find_chromium, find_ip, find_nginx, find_redis

MINIMUM_PYTHON = (3, 11)
APT_SECONDS = 900.0

# Debian's packages ask it whether they may start their service; 101 forbids it.
SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")


class Requirement(NamedTuple):
    """Something that must be on the machine."""

    found: Callable[[], bool]
    debian: str  # the Debian package that brings it
    elsewhere: str  # what to do on a system without apt


REQUIREMENTS = {
    # Debian cuts ensurepip out of its Pythons, and `python -m venv` fails halfway without it.
    "venv": Requirement(
        found=lambda: importlib.util.find_spec("ensurepip") is not None,
        debian=f"python{sys.version_info[0]}.{sys.version_info[1]}-venv",
        elsewhere="install a Python that has the modules venv and ensurepip",
    ),
    "chromium": Requirement(
        found=lambda: find_chromium() is not None,
        debian="chromium",
        elsewhere="install Chromium and have it in PATH as one of " + ", ".join(CHROMIUM_NAMES),
    ),
    "nginx": Requirement(
        found=lambda: find_nginx() is not None,
        debian="nginx",
        elsewhere="install nginx and have it in PATH",
    ),
    "iproute2": Requirement(
        found=lambda: find_ip() is not None,
        debian="iproute2",
        elsewhere="install iproute2 and have its `ip` in PATH",
    ),
    "redis-server": Requirement(
        found=lambda: find_redis() is not None,
        debian="redis-server",
        elsewhere="install Redis or Valkey and have it in PATH as one of " + ", ".join(REDIS_NAMES),
    ),
}


def apt_commands(packages: Sequence[str]) -> list[list[str]]:
    """Return what installs `packages` on Debian."""
    return [["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]]


def install(missing: Sequence[Requirement]) -> str | None:
    """Install `missing` where that is possible; otherwise return what the user has to do."""
    if shutil.which("apt-get") is None:
        return "; ".join(requirement.elsewhere for requirement in missing)
    commands = apt_commands([requirement.debian for requirement in missing])
    if os.geteuid() != 0:
        return " && ".join("sudo " + " ".join(command) for command in commands)
    with services_that_stay_off():
        for command in commands:
            print("+", " ".join(command), flush=True)
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=True, timeout=APT_SECONDS)
    return None


@contextlib.contextmanager
def services_that_stay_off() -> Iterator[None]:
    """Let no package start its service: the tests start nginx and Redis themselves, and want no port taken.

    A machine that has a policy of its own keeps it.
    """
    try:
        policy = os.open(SERVICE_POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:
        yield
        return
    try:
        with os.fdopen(policy, "w") as file:
            file.write("#!/bin/sh\nexit 101\n")
        yield
    finally:
        SERVICE_POLICY.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when everything asked for is there in the end, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="tools.system", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(REQUIREMENTS))
    options = parser.parse_args(arguments)
    if sys.version_info < MINIMUM_PYTHON:
        wanted, here = (".".join(str(part) for part in version[:2]) for version in (MINIMUM_PYTHON, sys.version_info))
        print(f"pagews needs Python {wanted} and this is {here}: make PYTHON=/path/to/a/newer/python3", file=sys.stderr)
        return 1
    to_do = None
    if missing := [REQUIREMENTS[name] for name in options.names if not REQUIREMENTS[name].found()]:
        to_do = install(missing)
    if to_do is None:
        return 0
    print(f"This machine lacks something. Please run this, then try again:\n\n    {to_do}\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
