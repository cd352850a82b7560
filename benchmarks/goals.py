"""What is compared, as ratios of values that were measured in the same cycle, and the goals among it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Series = dict[str, dict[str, list[float]]]
"""Figure, contender, one value for each cycle of all rounds."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`figure` of pagews, or of another contender, in terms of `beside`, which is (figure, contender), or by itself.

    The goal is that it is at most `bound`; what has none is told, and not judged.
    """

    text: str
    figure: str
    beside: tuple[str, str] | None
    bound: float | None
    contender: str = "pagews"

    def values(self, series: Series) -> Sequence[float]:
        """What is compared, for each cycle; empty when it was not measured."""
        ours = series.get(self.figure, {}).get(self.contender, [])
        if self.beside is None:
            return ours
        figure, contender = self.beside
        theirs = series.get(figure, {}).get(contender, [])
        return [our / their for our, their in zip(ours, theirs, strict=bool(ours and theirs))]


COMPARISONS = (
    Comparison("broadcast, of plain aiohttp", "broadcast", ("broadcast", "plain"), 0.80),
    Comparison("bare transport.write of one frame, of plain aiohttp", "bare", ("broadcast", "plain"), None, "plain"),
    Comparison("broadcast, of python-socketio", "broadcast", ("broadcast", "socketio"), 0.10),
    Comparison("ten pushes a turn to a page, of plain aiohttp", "burst", ("burst", "plain"), 0.20),
    Comparison("ten broadcasts a turn, of plain aiohttp", "broadcast burst", ("broadcast burst", "plain"), 0.20),
    Comparison("broadcast to many pages, of that to few", "broadcast many", ("broadcast few", "pagews"), 1.25),
    Comparison("memory of an attached page, of plain aiohttp", "memory", ("memory", "plain"), 1.35),
    Comparison("memory of an attached page, of python-socketio", "memory", ("memory", "socketio"), 2 / 3),
    Comparison("memory of a page never attached, kB", "rendered", None, 0.1),
    Comparison("attach, of plain aiohttp", "attach", ("attach", "plain"), 1.6),
    Comparison("push latency p99, of plain aiohttp", "latency p99", ("latency p99", "plain"), 1.25),
    Comparison("push latency p50, of plain aiohttp", "latency p50", ("latency p50", "plain"), None),
    Comparison("send and its result, of a plain aiohttp echo", "echo", ("echo", "plain"), 1.5),
    Comparison("broadcast, qos 1 of qos 0", "broadcast qos 1", ("broadcast qos 0", "pagews"), None),
    Comparison("broadcast, qos 2 with all answers, of qos 0", "broadcast qos 2", ("broadcast qos 0", "pagews"), None),
    Comparison("push to a page, qos 1 of qos 0", "push qos 1", ("push qos 0", "pagews"), None),
    Comparison("push to a page, qos 2 with its answer, of qos 0", "push qos 2", ("push qos 0", "pagews"), None),
    Comparison("send and its result, qos 2 of qos 1", "send qos 2", ("send qos 1", "pagews"), None),
    Comparison("resume of all at once, of their first attach", "resume", ("arrive", "pagews"), None),
    Comparison("resume of all at once, of plain reconnects", "resume", ("resume", "plain"), None),
    Comparison("time until the last is live, of plain reconnects", "resume time", ("resume time", "plain"), None),
    Comparison("broadcast over streams, of WebSockets", "stream", ("websocket", "pagews"), 1.5),
    Comparison("broadcast over polls, of WebSockets", "poll", ("websocket", "pagews"), None),
    Comparison("memory of a page by stream, of one by WebSocket", "stream memory", ("websocket memory", "pagews"), 1.5),
    Comparison("memory of a page that polls, of one by WebSocket", "poll memory", ("websocket memory", "pagews"), None),
    Comparison("tasks, files and pages left after resets", "left by resets", None, 0),
    Comparison("5,000 idle pages, % of a core", "idle", None, 2.0),
    Comparison("on Redis in bulk, µs CPU of both nodes a message", "redis bulk", None, 100),
    Comparison("on Redis in bulk, of python-socketio", "redis bulk", ("redis bulk", "socketio"), 1 / 3),
    Comparison("on Redis in bulk, of channels_redis", "redis bulk", ("redis bulk", "channels"), None),
    Comparison("on Redis one at a time, of python-socketio", "redis single", ("redis single", "socketio"), None),
    Comparison("on Redis one at a time, of channels_redis", "redis single", ("redis single", "channels"), None),
    Comparison("attach on Redis, of embedded broker", "attach on Redis", ("attach embedded", "pagews"), None),
    Comparison("publish for 8 nodes, of 1", "redis workers 8", ("redis workers 1", "pagews"), None),
    Comparison(
        "publish for 8 nodes, of 1, in Redis", "redis workers 8 in Redis", ("redis workers 1 in Redis", "pagews"), None
    ),
    Comparison(
        "publish to one of many channels, of few, in Redis",
        "redis many channels",
        ("redis few channels", "pagews"),
        None,
    ),
    Comparison("client script with all its modules, kB min+gzip", "script", None, 8.0),
)
