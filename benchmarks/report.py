"""What a run found: a table for people, a file for comparing."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.goals import GOALS, Series
from benchmarks.settings import Settings

_CONTENDERS = {"pagews": "pagews", "plain": "plain aiohttp", "socketio": "python-socketio"}
_FIGURES = {
    "broadcast": "broadcast, µs CPU a message",
    "burst": "ten pushes a turn to a page, µs CPU a message",
    "broadcast burst": "ten broadcasts a turn, µs CPU a message",
    "broadcast few": "broadcast to few pages, µs CPU a message",
    "broadcast many": "broadcast to many pages, µs CPU a message",
    "memory": "attached idle page, kB",
    "rendered": "page never attached, kB",
    "attach": "attach, µs CPU",
    "latency p50": "push latency p50, µs",
    "latency p99": "push latency p99, µs",
    "echo": "send and its result, µs CPU",
    "idle": "idle pages, % of a core",
    "script": "client script, kB min+gzip",
}


def table(series: Series) -> str:
    """Figures and goals, each as the median of the rounds and, in brackets, the lowest and the highest."""
    lines = [_row("", *_CONTENDERS.values())]
    for figure, text in _FIGURES.items():
        if figure in series:
            lines.append(_row(text, *(_spread(series[figure].get(contender, [])) for contender in _CONTENDERS)))
    lines += ["", _row("goal, pagews", "measured", "at most", "")]
    for goal in GOALS:
        if values := goal.values(series):
            verdict = "met" if statistics.median(values) <= goal.bound else "missed"
            lines.append(_row(goal.text, _spread(values), f"{goal.bound:.2f}", verdict))
    return "\n".join(lines)


def document(series: Series, settings: Settings, remarks: Sequence[str]) -> str:
    """Everything as JSON: where it was measured, what was found, all rounds."""
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "system": platform.system(), "architecture": platform.machine()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("aiohttp", "aiohttp-session", "python-socketio")},
        },
        "settings": asdict(settings),
        "remarks": list(remarks),
        "goals": {
            goal.text: {
                "measured": statistics.median(values),
                "at_most": goal.bound,
                "met": statistics.median(values) <= goal.bound,
                "rounds": list(values),
            }
            for goal in GOALS
            if (values := goal.values(series))
        },
        "rounds": series,
    }
    return json.dumps(_rounded(found), indent=2, ensure_ascii=False) + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _row(text: str, *cells: str) -> str:
    return (f"{text:<50}" + "".join(f"{cell:<30}" for cell in cells)).rstrip()


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.2f} [{min(values):.2f} - {max(values):.2f}]"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
