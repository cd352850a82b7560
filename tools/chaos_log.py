"""What publishers and pages write down while it happens: files of JSON lines.

A process that is killed loses none of the lines that it has written. Times are those of the machine's monotonic clock,
which all its processes share.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class ChaosLog:
    """A file of JSON lines, each with its `time`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, **fields: Any) -> None:
        self._file.write(json.dumps({"time": time.monotonic(), **fields}).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


def read_logs(directory: Path, pattern: str) -> list[list[dict[str, Any]]]:
    """The lines of each file; of a line that was being written when its process was killed, nothing."""
    return [
        [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] for path in sorted(directory.glob(pattern))
    ]
