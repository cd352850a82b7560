"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Counts of one run; `quick` ones are for the time while something is being changed."""

    rounds: int
    """How often every server has its turn."""
    pages: int
    """Pages attached while broadcast, burst, memory, attach, latency and echo are measured."""
    messages: int
    """Messages received for one figure of broadcast and burst."""
    singles: int
    """Messages timed for one figure of latency."""
    few_pages: int
    """The lower end of growth."""
    many_pages: int
    """The upper end of growth."""
    idle_pages: int
    """Pages attached while the idle server is watched."""
    idle_seconds: float
    """How long it is watched: longer than a heartbeat."""


FULL = Settings(
    rounds=3,
    pages=1000,
    messages=20_000,
    singles=1000,
    few_pages=100,
    many_pages=9000,
    idle_pages=5000,
    idle_seconds=26,
)
QUICK = Settings(
    rounds=3,
    pages=200,
    messages=4_000,
    singles=200,
    few_pages=100,
    many_pages=1000,
    idle_pages=0,
    idle_seconds=0,
)
