"""What a run found: a table for people, a file for comparing."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.goals import COMPARISONS, Series
from benchmarks.redis_rounds import WORKERS
from benchmarks.settings import Settings

_CONTENDERS = {"pagews": "pagews", "plain": "plain aiohttp", "socketio": "python-socketio"}
_FIGURES = {
    "broadcast": "broadcast, µs CPU a message",
    "bare": "the same frame to all by transport.write, µs CPU a message",
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
    "broadcast qos 0": "broadcast qos 0, µs CPU a message",
    "broadcast qos 1": "broadcast qos 1, µs CPU a message",
    "broadcast qos 2": "broadcast qos 2 and answers, µs CPU a message",
    "push qos 0": "push to a page qos 0, µs CPU",
    "push qos 1": "push to a page qos 1, µs CPU",
    "push qos 2": "push to a page qos 2 and its answer, µs CPU",
    "send qos 1": "send qos 1 and its result, µs CPU",
    "send qos 2": "send qos 2 and its result, µs CPU",
    "arrive": "all attach at once, µs CPU a page",
    "arrive time": "all attach at once, ms until the last is live",
    "resume": "all come back at once, µs CPU a page",
    "resume time": "all come back at once, ms until the last is live",
    "websocket": "broadcast over WebSockets, µs CPU a message",
    "stream": "broadcast over streams, µs CPU a message",
    "poll": "broadcast over polls, µs CPU a message",
    "websocket memory": "idle page attached by WebSocket, kB",
    "stream memory": "idle page attached by stream, kB",
    "poll memory": "idle page whose poll waits, kB",
    "tasks before resets": "tasks before all pages attach and are reset",
    "tasks after resets": "tasks after it",
    "files before resets": "open files before it",
    "files after resets": "open files after it",
    "pages before resets": "attached pages before it",
    "pages after resets": "attached pages after it",
    "idle": "idle pages, % of a core",
    "script": "client script, kB min+gzip",
}
_ON_REDIS = {"pagews": "pagews", "socketio": "python-socketio", "channels": "channels_redis"}
_REDIS_FIGURES = {
    "redis bulk": "in bulk, µs CPU of both nodes a message",
    "redis bulk publisher": "in bulk, the publishing node's part of it",
    "redis bulk in Redis": "in bulk, µs CPU of Redis a message",
    "redis single": "one at a time, µs CPU of both nodes a message",
    "redis single publisher": "one at a time, the publishing node's part of it",
    "redis single in Redis": "one at a time, µs CPU of Redis a message",
    "attach embedded": "attach with the embedded broker, µs CPU",
    "attach on Redis": "attach on Redis, µs CPU",
    "attach in Redis": "attach on Redis, µs CPU of Redis",
    **{
        f"redis workers {count}{where}": f"publish for {count} nodes, µs CPU {whose} a message"
        for where, whose in (("", "of its node"), (" in Redis", "of Redis"))
        for count in WORKERS
    },
    "redis few channels": "publish to one of few channels, µs CPU of Redis",
    "redis some channels": "publish to one of some channels, µs CPU of Redis",
    "redis many channels": "publish to one of many channels, µs CPU of Redis",
    "redis memory page": "attached page in Redis, kB",
    "redis memory channel": "channel with one message in Redis, kB",
    "redis memory message": "one of 1,000 messages of a channel in Redis, kB",
}


def table(series: Series) -> str:
    """Figures and comparisons, each as the median of all cycles and, in brackets, the quartiles."""
    lines = [*_section(series, "", _CONTENDERS, _FIGURES), *_section(series, "on Redis", _ON_REDIS, _REDIS_FIGURES)]
    lines += [_row("pagews", "measured", "at most", "")]
    for comparison in COMPARISONS:
        if values := comparison.values(series):
            bound = comparison.bound
            judgement = ("-",) if bound is None else (f"{bound:.2f}", "met" if _is_met(values, bound) else "missed")
            lines.append(_row(comparison.text, _spread(values), *judgement))
    return "\n".join(lines)


def _section(series: Series, title: str, contenders: Mapping[str, str], figures: Mapping[str, str]) -> list[str]:
    lines = [
        _row(text, *(_spread(series[figure].get(contender, [])) for contender in contenders))
        for figure, text in figures.items()
        if figure in series
    ]
    return [_row(title, *contenders.values()), *lines, ""] if lines else []


def document(series: Series, settings: Settings, remarks: Sequence[str]) -> str:
    """Everything as JSON: where it was measured, what was found, all cycles."""
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "system": platform.system(), "architecture": platform.machine()},
        "versions": {
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("aiohttp", "aiohttp-session", "python-socketio", "redis", "channels-redis")
            },
        },
        "settings": asdict(settings),
        "remarks": list(remarks),
        "comparisons": {
            comparison.text: {
                "measured": statistics.median(values),
                "at_most": comparison.bound,
                "met": None if comparison.bound is None else _is_met(values, comparison.bound),
            }
            for comparison in COMPARISONS
            if (values := comparison.values(series))
        },
        "cycles": series,
    }
    return json.dumps(_rounded(found), indent=2, ensure_ascii=False) + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _row(text: str, *cells: str) -> str:
    return (f"{text:<50}" + "".join(f"{cell:<30}" for cell in cells)).rstrip()


def _is_met(values: Sequence[float], bound: float) -> bool:
    return statistics.median(values) <= bound


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median:.2f} [{lower:.2f} - {upper:.2f}]"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
