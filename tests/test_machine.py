"""Random histories of the shipped core; Hypothesis finds and shrinks the bad ones."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from .world import CHANNELS, Qos, Runner, World

index = st.integers(0, 5)
channel = st.sampled_from(CHANNELS)
qos = st.sampled_from((1, 2))


def has_several(histories: Histories) -> bool:
    return len(histories.world.processes) > 1


class Histories(RuleBasedStateMachine):
    """Each rule is something that can happen to a node, its broker or a browser."""

    runner: Runner

    @property
    def world(self) -> World:
        return self.runner.world

    def happens(self, event: Coroutine[Any, Any, None]) -> None:
        self.runner.run(event)

    @initialize(processes=st.sampled_from((1, 2, 3)))
    def begin(self, processes: int) -> None:
        self.runner = Runner(processes)
        self.happens(self.world.open(0))
        self.happens(self.world.open(1))

    # --- the application ----------------------------------------------------------------------------------------------

    @rule(channel=channel, size=st.sampled_from([1, 1, 60, 400]), count=st.sampled_from([1, 1, 2, 8]))
    def push(self, channel: str, size: int, count: int) -> None:
        for _ in range(count):
            self.happens(self.world.push(channel, size, 1))

    @rule(channel=channel, qos=qos)
    def push_with_ttl(self, channel: str, qos: Qos) -> None:
        self.happens(self.world.push(channel, 1, qos, ttl=2.0))

    @rule(channel=channel, qos=qos, key=st.sampled_from("ab"))
    def push_with_key(self, channel: str, qos: Qos, key: str) -> None:
        self.happens(self.world.push(channel, 1, qos, key=key))

    @rule(channel=channel)
    def push_with_receipt(self, channel: str) -> None:
        self.happens(self.world.push(channel, 1, 2))

    @rule(channel=channel)
    def push_unnumbered(self, channel: str) -> None:
        self.happens(self.world.push(channel, 1, 0))

    @rule(index=index, topic=st.sampled_from(("joined", "joined", "t")), on=st.booleans())
    def subscribe(self, index: int, topic: str, on: bool) -> None:
        self.happens(self.world.subscribe(index, topic, on=on))

    @rule(index=index)
    def render(self, index: int) -> None:
        self.happens(self.world.render(index))

    @rule(index=index, work=st.booleans())
    def keep(self, index: int, work: bool) -> None:
        self.happens(self.world.create_task(index) if work else self.world.set_variable(index))

    @rule(index=index)
    def close_page(self, index: int) -> None:
        self.happens(self.world.close_page(index))

    @rule(user=st.sampled_from(("u", "v", None)))
    def login_or_logout(self, user: str | None) -> None:
        self.happens(self.world.login(user))

    @rule(kind=st.sampled_from(("session", "user")))
    def revoke(self, kind: str) -> None:
        self.happens(self.world.revoke(kind))

    # --- browsers and networks ----------------------------------------------------------------------------------------

    @rule(index=index)
    def open(self, index: int) -> None:
        self.happens(self.world.open(index))

    @rule(index=index, topic=st.sampled_from((None, "joined", "t")), on=st.booleans())
    def duplicate(self, index: int, topic: str | None, on: bool) -> None:
        if topic is not None:
            self.happens(self.world.push(f"topic:{topic}", 1, 1))
            self.happens(self.world.subscribe(index, topic, on=on))
            self.happens(self.world.push(f"topic:{topic}", 1, 1))
        self.happens(self.world.duplicate(index))

    @rule(index=index, place=index)
    def connect(self, index: int, place: int) -> None:
        self.happens(self.world.connect(index, place))

    @rule(index=index, count=st.integers(1, 3))
    def receive(self, index: int, count: int) -> None:
        self.happens(self.world.receive(index, count))

    @rule(index=index)
    def receive_all(self, index: int) -> None:
        self.happens(self.world.receive(index, 1000))

    @rule(index=index, qos=st.sampled_from((0, 1, 2, 2)))
    def send(self, index: int, qos: Qos) -> None:
        self.happens(self.world.send(index, qos))

    @rule(index=index, kind=st.sampled_from(("join", "leave")))
    def join_or_leave(self, index: int, kind: str) -> None:
        self.happens(self.world.join(index, kind))

    @rule(index=index)
    def lie(self, index: int) -> None:
        self.happens(self.world.lie(index))

    @rule(index=index, lose=st.booleans())
    def cut(self, index: int, lose: bool) -> None:
        self.happens(self.world.cut(index, lose=lose))

    @rule(index=index)
    def notice(self, index: int) -> None:
        self.happens(self.world.notice(index))

    @rule(index=index)
    def leave(self, index: int) -> None:
        self.happens(self.world.leave(index))

    @rule(index=index)
    def fill(self, index: int) -> None:
        self.happens(self.world.fill(index))

    @rule(index=index)
    def release(self, index: int) -> None:
        self.happens(self.world.release(index))

    # --- processes ----------------------------------------------------------------------------------------------------

    @precondition(has_several)
    @rule(index=index, stall=st.booleans())
    def hold(self, index: int, stall: bool) -> None:
        self.happens(self.world.hold(index, stall=stall))

    @precondition(has_several)
    @rule(index=index, lose=st.booleans())
    def go_on(self, index: int, lose: bool) -> None:
        self.happens(self.world.lose_line(index) if lose else self.world.go_on(index))

    @precondition(has_several)
    @rule(index=index, place=index)
    def move_at_work(self, index: int, place: int) -> None:
        self.happens(self.world.move_at_work(index, place))

    @rule(on=st.booleans())
    def slow(self, on: bool) -> None:
        self.happens(self.world.slow(on))

    @precondition(has_several)
    @rule(index=index, channel=channel, lose=st.booleans())
    def lag(self, index: int, channel: str, lose: bool) -> None:
        self.hold(index, stall=False)
        self.happens(self.world.push(channel, 1, 1))
        self.go_on(index, lose=lose)
        self.happens(self.world.push(channel, 1, 1))

    @precondition(has_several)
    @rule(index=index)
    def stay_away(self, index: int) -> None:
        self.hold(index, stall=True)
        self.pass_time(3)
        self.go_on(index, lose=False)
        self.pass_time(1)

    @precondition(has_several)
    @rule(index=index)
    def kill(self, index: int) -> None:
        self.happens(self.world.kill(index))

    # --- time and order -----------------------------------------------------------------------------------------------

    @rule(seconds=st.integers(1, 3))
    def pass_time(self, seconds: int) -> None:
        self.happens(self.world.pass_time(seconds))

    @rule(seconds=st.integers(1, 8))
    def sleep(self, seconds: int) -> None:
        self.happens(self.world.sleep(seconds))

    @rule(on=st.booleans())
    def stepped(self, on: bool) -> None:
        self.happens(self.world.stepped(on))

    @rule(index=index)
    def step(self, index: int) -> None:
        self.happens(self.world.step(index))

    @rule()
    def settle(self) -> None:
        self.happens(self.world.settle())

    def teardown(self) -> None:
        try:
            self.happens(self.world.finish())
        finally:
            self.runner.close()


SETTINGS = settings(
    max_examples=int(os.environ.get("PAGEWS_HISTORIES", "1000")),
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def share() -> type:
    """A fourth of the histories, so that several processes can run them at the same time."""
    settings_of_a_share = settings(SETTINGS, max_examples=SETTINGS.max_examples // 4)
    return type("Share", (Histories.TestCase,), {"settings": settings_of_a_share})


TestFirstShare = share()
TestSecondShare = share()
TestThirdShare = share()
TestLastShare = share()
