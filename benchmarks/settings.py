"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Counts of one run; `quick` ones are for the time while something is being changed.

    A cycle is one slice of work for each server, one server after the other. Each figure has one cycle more than is
    said here: its first is the warm-up, and not counted.
    """

    rounds: int
    """How often everything is measured with fresh processes."""
    pages: int
    """Pages attached to each server while all but growth and idle is measured."""
    attach_cycles: int
    """Cycles in which all pages attach anew, for attach, resume and resets."""
    cycles: int
    """Cycles of broadcast."""
    transport_cycles: int
    """Cycles of stream and poll."""
    qos_cycles: int
    """Cycles of qos."""
    echo_cycles: int
    """Cycles of echo."""
    burst_cycles: int
    """Cycles of the bursts."""
    messages: int
    """Messages of a slice of broadcast; one of a burst has ten for each page."""
    qos_messages: int
    """Messages of a slice of qos."""
    echoes: int
    """Pages that ask for an echo in a slice of it."""
    latency_cycles: int
    """Cycles of latency, each a percentile."""
    singles: int
    """Messages timed for one percentile; the servers take turns within them, too."""
    growth_rounds: int
    """As `rounds`, of growth."""
    growth_cycles: int
    """Cycles of growth."""
    few_pages: int
    """The lower end of growth."""
    many_pages: int
    """The upper end of growth."""
    idle_pages: int
    """Pages attached while the idle server is watched, once in a run."""
    idle_seconds: float
    """How long it is watched: longer than a heartbeat."""
    redis_rounds: int
    """As `rounds`, of all that needs a Redis."""
    redis_cycles: int
    """Cycles of what is published on Redis."""
    redis_messages: int
    """Messages of a slice of it, a multiple of 100."""
    few_channels: int
    """Channels in the smallest log whose growth is measured; a multiple of 100, as the others."""
    some_channels: int
    """Channels in one between."""
    many_channels: int
    """Channels in the largest."""


FULL = Settings(
    rounds=3,
    pages=1000,
    attach_cycles=2,
    cycles=15,
    transport_cycles=15,
    qos_cycles=8,
    echo_cycles=30,
    burst_cycles=3,
    messages=2000,
    qos_messages=2000,
    echoes=50,
    latency_cycles=3,
    singles=1000,
    growth_rounds=2,
    growth_cycles=10,
    few_pages=100,
    many_pages=9000,
    idle_pages=5000,
    idle_seconds=26,
    redis_rounds=2,
    redis_cycles=8,
    redis_messages=500,
    few_channels=100,
    some_channels=10_000,
    many_channels=100_000,
)
QUICK = Settings(
    rounds=1,
    pages=200,
    attach_cycles=2,
    cycles=10,
    transport_cycles=10,
    qos_cycles=5,
    echo_cycles=10,
    burst_cycles=2,
    messages=1000,
    qos_messages=1000,
    echoes=50,
    latency_cycles=2,
    singles=200,
    growth_rounds=1,
    growth_cycles=4,
    few_pages=100,
    many_pages=1000,
    idle_pages=0,
    idle_seconds=0,
    redis_rounds=1,
    redis_cycles=5,
    redis_messages=200,
    few_channels=100,
    some_channels=1000,
    many_channels=10_000,
)
