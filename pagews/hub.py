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
        # Pages in the order in which they came, which is that of their memory.
        self._channels: dict[str, dict[PageSession, None]] = {}
        self._counters = counters

    def deliver(self, channel: str, push: Push) -> None:
        """Hand a push to the pages that listen to its channel."""
        pages = self._channels.get(channel)
        if not pages:
            return
        seq, size, written = push.seq, push.size, 0
        # A copy: whoever is written to may end, and leave.
        listening = tuple(pages)
        for page in listening:
            if page.receive(seq, push, size):
                page.socket.send_info(push)
                written += 1
        self._counters.delivered += written
        if not seq:
            self._counters.dropped["qos 0"] += len(listening) - written

    def listeners(self, channel: str) -> Collection[PageSession]:
        """The pages that listen to a channel."""
        return tuple(self._channels.get(channel, ()))

    def listen(self, page: PageSession, channels: Iterable[str]) -> None:
        """`page` listens to `channels`."""
        for channel in channels:
            listening = self._channels.get(channel)
            if listening is None:
                self._channels[channel] = {page: None}
            else:
                listening[page] = None

    def forget(self, page: PageSession, channels: Iterable[str]) -> list[str]:
        """`page` does not listen to `channels` any more; returns those that now nobody listens to."""
        unused = []
        for channel in channels:
            pages = self._channels.get(channel)
            if pages is None:
                continue
            pages.pop(page, None)
            if not pages:
                del self._channels[channel]
                unused.append(channel)
        return unused
