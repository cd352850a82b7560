"""The goals, as ratios of figures that were measured in the same round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Series = dict[str, dict[str, list[float]]]
"""Figure, contender, one value for each round."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`figure` of pagews is at most `bound` times `beside`, which is (figure, contender), or at most `bound` itself."""

    text: str
    figure: str
    beside: tuple[str, str] | None
    bound: float

    def values(self, series: Series) -> Sequence[float]:
        """What to hold against the bound, for each round; empty when it was not measured."""
        ours = series.get(self.figure, {}).get("pagews", [])
        if self.beside is None:
            return ours
        figure, contender = self.beside
        theirs = series.get(figure, {}).get(contender, [])
        return [our / their for our, their in zip(ours, theirs, strict=False)]


GOALS = (
    Goal("broadcast, of plain aiohttp", "broadcast", ("broadcast", "plain"), 0.80),
    Goal("broadcast, of python-socketio", "broadcast", ("broadcast", "socketio"), 0.10),
    Goal("ten pushes a turn to a page, of plain aiohttp", "burst", ("burst", "plain"), 0.20),
    Goal("ten broadcasts a turn, of plain aiohttp", "broadcast burst", ("broadcast burst", "plain"), 0.20),
    Goal("broadcast to many pages, of that to few", "broadcast many", ("broadcast few", "pagews"), 1.25),
    Goal("memory of an attached page, of plain aiohttp", "memory", ("memory", "plain"), 1.35),
    Goal("memory of an attached page, of python-socketio", "memory", ("memory", "socketio"), 2 / 3),
    Goal("memory of a page never attached, kB", "rendered", None, 0.1),
    Goal("attach, of plain aiohttp", "attach", ("attach", "plain"), 1.6),
    Goal("push latency p99, of plain aiohttp", "latency p99", ("latency p99", "plain"), 1.25),
    Goal("send and its result, of a plain aiohttp echo", "echo", ("echo", "plain"), 1.5),
    Goal("5,000 idle pages, % of a core", "idle", None, 2.0),
    Goal("client script with all its modules, kB min+gzip", "script", None, 8.0),
)
