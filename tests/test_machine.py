"""Random histories of the shipped log, broker, node and page sessions; Hypothesis finds and shrinks the bad ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from .world import Runner

CHANNELS = ["page:p0", "page:p1", "session:s", "user:u", "topic:t", "topic:joined", "page:fork1"]

index = st.integers(0, 5)


class Histories(RuleBasedStateMachine):
    """Each rule is something that can happen to a node, its broker or a browser."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = Runner()
        self.world = self.runner.world

    @initialize()
    def begin(self) -> None:
        self.runner.run(self.world.open(0))
        self.runner.run(self.world.open(1))

    @rule(channel=st.sampled_from(CHANNELS), size=st.sampled_from([1, 1, 60, 400]), count=st.integers(1, 4))
    def publish(self, channel: str, size: int, count: int) -> None:
        for _ in range(count):
            self.runner.run(self.world.publish(channel, size, None))

    @rule(channel=st.sampled_from(CHANNELS))
    def publish_with_ttl(self, channel: str) -> None:
        self.runner.run(self.world.publish(channel, 1, 2.0))

    @rule(channel=st.sampled_from(CHANNELS))
    def emit(self, channel: str) -> None:
        self.runner.run(self.world.emit(channel))

    @rule(index=index)
    def subscribe(self, index: int) -> None:
        self.runner.run(self.world.subscribe(index, "joined"))

    @rule(index=index)
    def unsubscribe(self, index: int) -> None:
        self.runner.run(self.world.unsubscribe(index, "joined"))

    @rule(index=index)
    def open(self, index: int) -> None:
        if len(self.world.documents) < 6:
            self.runner.run(self.world.open(index))

    @rule(index=index)
    def render(self, index: int) -> None:
        self.runner.run(self.world.render(index))

    @rule(index=index)
    def connect(self, index: int) -> None:
        self.runner.run(self.world.connect(index))

    @rule(index=index, count=st.integers(1, 3))
    def receive(self, index: int, count: int) -> None:
        self.runner.run(self.world.receive(index, count))

    @rule(index=index)
    def receive_all(self, index: int) -> None:
        self.runner.run(self.world.receive(index, 1000))

    @rule(index=index)
    def cut(self, index: int) -> None:
        self.runner.run(self.world.cut(index))

    @rule(index=index)
    def notice(self, index: int) -> None:
        self.runner.run(self.world.notice(index))

    @rule(index=index)
    def leave(self, index: int) -> None:
        self.runner.run(self.world.leave(index))

    @rule(index=index)
    def fill(self, index: int) -> None:
        self.runner.run(self.world.fill(index))

    @rule(index=index)
    def release(self, index: int) -> None:
        self.runner.run(self.world.release(index))

    @rule(seconds=st.integers(1, 3))
    def pass_time(self, seconds: int) -> None:
        self.runner.run(self.world.pass_time(seconds))

    @rule(seconds=st.integers(1, 8))
    def sleep(self, seconds: int) -> None:
        self.runner.run(self.world.sleep(seconds))

    @rule(on=st.booleans())
    def stepped(self, on: bool) -> None:
        self.runner.run(self.world.stepped(on))

    @rule(index=index)
    def step(self, index: int) -> None:
        self.runner.run(self.world.step(index))

    @rule()
    def settle(self) -> None:
        self.runner.run(self.world.settle())

    def teardown(self) -> None:
        try:
            self.runner.run(self.world.finish())
        finally:
            self.runner.close()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(os.environ.get("PAGEWS_HISTORIES", "1000")),
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
