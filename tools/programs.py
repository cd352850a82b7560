"""The programs that are not Python's, and where they are on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

MINIMUM_NODE = 20
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find_chromium() -> Path | None:
    """Return the machine's Chromium, or None."""
    for name in CHROMIUM_NAMES:
        if path := shutil.which(name):
            return Path(path)
    return None


def find_node() -> Path | None:
    """Return Node if it is new enough for the client's tests and has npm beside it, otherwise None."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30)
    version = re.match(r"v(\d+)\.", answer.stdout)
    return Path(node) if version and int(version[1]) >= MINIMUM_NODE else None
