"""Brokers that break a promise on purpose, so that whoever checks promises can be seen to notice."""

from __future__ import annotations

from pagews.broker import Attach, Attached, Filed, Receiver
from pagews.log import Replay
from pagews.redis_broker import RedisBroker
from pagews.wire import Push


class _Swallowing:
    """A node that does not hear of some pushes."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def deliver(self, channel: str, message: Filed) -> None:
        if not isinstance(message, Push) or message.seq % 50:
            self._receiver.deliver(channel, message)

    def __getattr__(self, name: str) -> object:
        return getattr(self._receiver, name)


class SwallowingBroker(RedisBroker):
    """Does not hand out every fiftieth message."""

    async def start(self, receiver: Receiver) -> None:
        await super().start(_Swallowing(receiver))  # type: ignore[arg-type]  # it hands on what it does not know


class ForgetfulBroker(RedisBroker):
    """Says `resumed` to who comes back, and has lost what came meanwhile."""

    async def attach(self, hello: Attach) -> Attached:
        attached = await super().attach(hello)
        replay: Replay[Filed] = Replay(None, [], attached.replay.upto, False)
        return attached._replace(replay=replay)
