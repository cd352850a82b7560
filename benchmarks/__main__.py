"""``python -m benchmarks [NAME...] [--quick]``"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from benchmarks import report
from benchmarks.accounting import allow_open_files
from benchmarks.errors import MeasurementFailed
from benchmarks.goals import Series
from benchmarks.measures import Contender
from benchmarks.rounds import GROWTH_NAMES, GROWTH_TURNS, TURN_NAMES, TURNS, Figures, growth_turn, turn
from benchmarks.script_size import script_kilobytes
from benchmarks.settings import FULL, QUICK, Settings

_NAMES = (*sorted(TURN_NAMES | GROWTH_NAMES), "script")
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
    print(f"\nAll rounds: benchmarks/results/{path.name}")


def _within_open_files(settings: Settings) -> tuple[Settings, list[str]]:
    pages = allow_open_files() - _OTHER_FILES
    if pages >= settings.many_pages:
        return settings, []
    remark = f"growth and idle are measured up to {pages} pages: this system does not allow more open files"
    return replace(settings, many_pages=pages, idle_pages=min(pages, settings.idle_pages)), [remark]


async def _measure(names: Collection[str], settings: Settings, remarks: list[str]) -> Series:
    series: Series = {}
    for index in range(settings.rounds):
        if not TURN_NAMES.isdisjoint(names):
            for contender in _rotated(TURNS, index):
                _say(f"round {index + 1} of {settings.rounds}: {contender.name}, {settings.pages} pages")
                _add(series, contender, await turn(contender, settings, names))
        if not GROWTH_NAMES.isdisjoint(names):
            for contender in _rotated(GROWTH_TURNS, index):
                _say(f"round {index + 1} of {settings.rounds}: {contender.name}, {settings.many_pages} pages")
                _add(series, contender, await growth_turn(contender, settings, names))
    if "script" in names:
        size, remark = await script_kilobytes()
        series["script"] = {"pagews": [size]}
        remarks += [remark] if remark else []
    return series


def _rotated(contenders: tuple[Contender, ...], by: int) -> tuple[Contender, ...]:
    """No server always comes first: what a round warms up, its neighbours profit from."""
    by %= len(contenders)
    return contenders[by:] + contenders[:by]


def _add(series: Series, contender: Contender, figures: Figures) -> None:
    for figure, value in figures.items():
        series.setdefault(figure, {}).setdefault(contender.name, []).append(value)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
