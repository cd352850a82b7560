"""What the operating system has booked to a process: CPU time, memory, open files."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

# CPUCLOCK_SCHED of Linux: user and system time of a whole process. Its nanoseconds matter:
# the ticks of /proc/PID/stat are as long as a thousand deliveries.
_PROCESS_CPU_CLOCK = 2


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used so far, in seconds."""
    return time.clock_gettime((~pid << 3) | _PROCESS_CPU_CLOCK)


def resident_bytes(pid: int) -> int:
    """Resident memory of the process, in bytes.

    Read from ``smaps_rollup``, which walks the pages; the figures of ``/proc/PID/status`` are batched per core.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Rss in /proc/{pid}/smaps_rollup")


def allow_open_files() -> int:
    """Raise this process's limit of open files, and so its children's, to the hard limit. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def separate_cores() -> tuple[int, int] | None:
    """One core for the load client and another for the servers; None where there is one only."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else None
