"""The index of one process: which attached pages listen to which channel."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .counters import Counters
from .page import PageSession, receive
from .socket import send_info
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
        listening = len(pages)
        sockets = receive(pages, push.seq, push, push.size)
        send_info(sockets, push)
        self._counters.delivered += len(sockets)
        if not push.seq:
            self._counters.dropped["qos 0"] += listening - len(sockets)

    def listeners(self, channel: str) -> Collection[PageSession]:
        """The pages that listen to a channel."""
        return tuple(self._channels.get(channel, ()))

    def pages(self) -> set[PageSession]:
        """All pages, also those whose hello is being answered."""
        return {page for pages in self._channels.values() for page in pages}

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
