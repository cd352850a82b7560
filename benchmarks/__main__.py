"""``python -m benchmarks [NAME...] [--quick]``"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import report
from benchmarks.accounting import allow_open_files, separate_cores
from benchmarks.errors import MeasurementFailed
from benchmarks.goals import Series
from benchmarks.redis_rounds import REDIS_NAMES, redis_round
from benchmarks.rounds import GROWTH_NAMES, ROUND_NAMES, growth_round, usual_round
from benchmarks.script_size import script_kilobytes
from benchmarks.settings import FULL, QUICK, Settings
from benchmarks.transports import TRANSPORT_NAMES, transports_round
from tools.programs import find_redis

_NAMES = (*sorted(ROUND_NAMES | TRANSPORT_NAMES | GROWTH_NAMES | REDIS_NAMES), "script")
_RESULTS = Path(__file__).resolve().parent / "results"
# Files that a process has open besides its sockets.
_OTHER_FILES = 200


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure pagews beside its like.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure (everything): {', '.join(_NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer pages, messages and rounds")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(_NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(_NAMES)}")
    names = frozenset(arguments.names or _NAMES)
    settings, remarks = _within_open_files(QUICK if arguments.quick else FULL)
    if find_redis() is None:
        names = without_redis(names, remarks)
    try:
        series = asyncio.run(_measure(names, settings, remarks))
    except MeasurementFailed as failure:
        sys.exit(f"The measurement failed: {failure}")
    print(report.table(series))
    for remark in remarks:
        print(f"\nNote: {remark}.")
    # What is compared over time is a full run; anything less does not overwrite it.
    complete = settings == FULL and names == set(_NAMES)
    path = _RESULTS / ("latest.json" if complete else "partial.json")
    report.write(path, report.document(series, settings, remarks))
    print(f"\nAll cycles: benchmarks/results/{path.name}")


def without_redis(names: frozenset[str], remarks: list[str]) -> frozenset[str]:
    """What is measured where there is no Redis; what is not, is remarked."""
    if skipped := names & REDIS_NAMES:
        remarks.append(f"not measured: {', '.join(sorted(skipped))}, for there is no redis-server in PATH")
    return names - skipped


def _within_open_files(settings: Settings) -> tuple[Settings, list[str]]:
    pages = allow_open_files() - settings.few_pages - _OTHER_FILES
    if pages >= settings.many_pages:
        return settings, []
    remark = f"growth and idle are measured up to {pages} pages: this system does not allow more open files"
    return replace(settings, many_pages=pages, idle_pages=min(pages, settings.idle_pages)), [remark]


async def _measure(names: frozenset[str], settings: Settings, remarks: list[str]) -> Series:
    series: Series = {}
    core = _stay_on_own_core(remarks)
    # Collected between the slices: a pause of the load client would be taken for the server's latency.
    gc.disable()
    for index in range(0 if ROUND_NAMES.isdisjoint(names) else settings.rounds):
        _say(f"round {index + 1} of {settings.rounds}: {settings.pages} pages")
        await usual_round(series, settings, names, core)
    for index in range(0 if TRANSPORT_NAMES.isdisjoint(names) else settings.rounds):
        _say(f"stream and poll, round {index + 1} of {settings.rounds}: {settings.pages} pages")
        await transports_round(series, settings, names, core)
    growth_names = GROWTH_NAMES & names
    for index in range(settings.growth_rounds if "growth" in growth_names else len(growth_names)):
        _say(f"growth, round {index + 1}: {settings.many_pages} pages")
        await growth_round(series, settings, names, core, idle="idle" in names and index == 0)
    if (program := find_redis()) is not None and not REDIS_NAMES.isdisjoint(names):
        for index in range(settings.redis_rounds):
            _say(f"redis, round {index + 1} of {settings.redis_rounds}")
            await redis_round(series, settings, names, core, program)
    if "script" in names:
        size, remark = await script_kilobytes()
        series["script"] = {"pagews": [size]}
        remarks += [remark] if remark else []
    return series


def _stay_on_own_core(remarks: list[str]) -> int | None:
    """Keep the load client on one core; returns the servers', which take turns."""
    cores = separate_cores()
    if cores is None:
        remarks.append("load client and servers share the only core")
        return None
    own, servers = cores
    os.sched_setaffinity(0, {own})
    return servers


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
