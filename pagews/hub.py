"""The index of one process: which attached pages listen to which channel."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .counters import Counters
from .page import PageSession
from .wire import Push


class Hub:
    """Attached pages by channel."""

    __slots__ = ("_channels", "_counters")

    def __init__(self, counters: Counters) -> None:
        self._channels: dict[str, set[PageSession]] = {}
        self._counters = counters

    def deliver(self, channel: str, push: Push) -> None:
        """Hand a push to the pages that listen to its channel."""
        pages = self._channels.get(channel)
        if not pages:
            return
        seq, size, written = push.seq, push.size, 0
        for page in tuple(pages):
            if page.receive(seq, push, size):
                page.socket.send_info(push)
                written += 1
        self._counters.delivered += written
        if not seq:
            self._counters.dropped["qos 0"] += len(pages) - written

    def listeners(self, channel: str) -> Collection[PageSession]:
        """The pages that listen to a channel."""
        return tuple(self._channels.get(channel, ()))

    def listen(self, page: PageSession, channels: Iterable[str]) -> None:
        """`page` listens to `channels`."""
        for channel in channels:
            self._channels.setdefault(channel, set()).add(page)

    def forget(self, page: PageSession, channels: Iterable[str]) -> list[str]:
        """`page` does not listen to `channels` any more; returns those that now nobody listens to."""
        unused = []
        for channel in channels:
            pages = self._channels.get(channel)
            if pages is None:
                continue
            pages.discard(page)
            if not pages:
                del self._channels[channel]
                unused.append(channel)
        return unused
