"""The benchmarks measure what they say, on a few pages of each server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import without_redis
from benchmarks.goals import Comparison, Series
from benchmarks.redis_rounds import redis_round
from benchmarks.report import table
from benchmarks.rounds import GROWTH_NAMES, ROUND_NAMES, growth_round, usual_round
from benchmarks.settings import QUICK
from benchmarks.transports import TRANSPORT_NAMES, transports_round

SMALL = replace(
    QUICK,
    pages=20,
    attach_cycles=1,
    cycles=2,
    transport_cycles=2,
    qos_cycles=2,
    echo_cycles=2,
    burst_cycles=2,
    messages=40,
    qos_messages=40,
    echoes=5,
    latency_cycles=1,
    singles=40,
    growth_cycles=2,
    few_pages=5,
    many_pages=10,
    idle_pages=5,
    idle_seconds=0.1,
    redis_cycles=2,
    redis_messages=200,
    few_channels=100,
    some_channels=200,
    many_channels=300,
)


async def test_a_usual_round() -> None:
    series: Series = {}
    await usual_round(series, SMALL, ROUND_NAMES, None)
    for figure in ("broadcast", "burst", "memory", "attach", "latency p99", "echo", "resume", "arrive"):
        assert series[figure].keys() == {"pagews", "plain", "socketio"}, figure
    assert len(series["broadcast"]["plain"]) == SMALL.cycles
    for figure in ("broadcast qos 0", "broadcast qos 1", "broadcast qos 2", "push qos 2", "send qos 2"):
        assert min(series[figure]["pagews"]) > 0
    # Each page answers, the answer is filed, and the page is told: that cannot cost nothing.
    assert sum(series["push qos 2"]["pagews"]) > 1.5 * sum(series["push qos 0"]["pagews"])
    assert series["left by resets"]["pagews"] == series["left by resets"]["plain"] == [0]
    del series["memory"]  # so few pages may fit into what a process has already
    assert "broadcast qos 2 and answers" in table(series)


async def test_stream_and_poll_beside_websocket() -> None:
    series: Series = {}
    await transports_round(series, SMALL, TRANSPORT_NAMES, None)
    for figure in ("websocket", "stream", "poll"):
        assert len(series[figure]["pagews"]) == SMALL.transport_cycles, figure
        assert len(series[f"{figure} memory"]["pagews"]) == 1, figure
        del series[f"{figure} memory"]  # so few pages may fit into what a process has already
    # Each message of a poll is a response and the next request.
    assert sum(series["poll"]["pagews"]) > 2 * sum(series["websocket"]["pagews"])
    assert "broadcast over polls" in table(series)


async def test_growth_and_idle() -> None:
    series: Series = {}
    await growth_round(series, SMALL, GROWTH_NAMES, None, idle=True)
    assert len(series["broadcast many"]["pagews"]) == len(series["broadcast few"]["pagews"]) == SMALL.growth_cycles
    assert series["idle"].keys() == {"pagews"}


async def test_publish_and_memory_on_redis(redis_program: Path) -> None:
    series: Series = {}
    await redis_round(series, SMALL, frozenset({"redis"}), None, redis_program)
    for figure in ("redis bulk", "redis single"):
        for part in ("", " publisher", " in Redis"):
            found = series[figure + part]
            assert found.keys() == {"pagews", "socketio", "channels"}, figure
            assert all(len(values) == SMALL.redis_cycles and min(values) > 0 for values in found.values()), found
    # The page's node works for each message, too.
    assert sum(series["redis bulk"]["pagews"]) > 1.1 * sum(series["redis bulk publisher"]["pagews"])
    # Each message has 100 bytes, and those of one channel share what a channel costs.
    (message,), (channel,) = series["redis memory message"]["pagews"], series["redis memory channel"]["pagews"]
    assert 0.1 < message < 0.5 * channel
    assert "in bulk, of python-socketio" in table(series)


async def test_attach_on_redis(redis_program: Path) -> None:
    series: Series = {}
    await redis_round(series, SMALL, frozenset({"redis-attach"}), None, redis_program)
    assert set(series) == {"attach embedded", "attach on Redis", "attach in Redis"}
    assert all(min(found["pagews"]) > 0 for found in series.values())
    assert "attach on Redis, of embedded broker" in table(series)


async def test_growth_on_redis(redis_program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Eight workers take long to start.
    monkeypatch.setattr("benchmarks.redis_rounds.WORKERS", (1, 2))
    series: Series = {}
    await redis_round(series, SMALL, frozenset({"redis-growth"}), None, redis_program)
    figures = [f"redis workers {count}{where}" for count in (1, 2) for where in ("", " in Redis")]
    figures += [f"redis {how} channels" for how in ("few", "some", "many")]
    assert sorted(series) == sorted(figures)
    assert all(len(found["pagews"]) == SMALL.redis_cycles and min(found["pagews"]) > 0 for found in series.values())
    assert "publish for 2 nodes" in table(series)


def test_where_there_is_no_redis_its_figures_are_left_out() -> None:
    remarks: list[str] = []
    assert without_redis(frozenset({"echo"}), remarks) == {"echo"}
    assert remarks == []
    assert without_redis(frozenset({"echo", "redis-attach", "redis"}), remarks) == {"echo"}
    assert remarks == ["not measured: redis, redis-attach, for there is no redis-server in PATH"]


def test_only_what_belongs_together_is_compared() -> None:
    comparison = Comparison("of plain", "broadcast", ("broadcast", "plain"), 0.8)
    assert comparison.values({"broadcast": {"pagews": [2.0, 3.0], "plain": [4.0, 4.0]}}) == [0.5, 0.75]
    assert comparison.values({"broadcast": {"pagews": [2.0]}}) == []
    assert comparison.values({"broadcast": {"plain": [2.0]}}) == []
    with pytest.raises(ValueError, match="shorter"):
        comparison.values({"broadcast": {"pagews": [2.0, 3.0], "plain": [4.0]}})
