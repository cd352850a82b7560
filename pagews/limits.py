"""Every bound and every time span, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Final

from .errors import ConfigurationError

#: Messages that the client puts in one post: its hello, and MOST of `static/post.js`.
CLIENT_POST_FRAMES: Final = 101

#: What a page may have to say at once when it comes back: its hello, the sends without a result and the answers that
#: are not confirmed, MOST of `static/outbox.js` and of `static/answers.js`.
CLIENT_REPEATS: Final = 2001

KIB = 1024
MIB = 1024 * KIB

#: Topics of one page, at most: Redis is told of them, and tells of them, in one step.
MOST_TOPICS: Final = 1000

#: Bytes of a hello, at most: more than any token has.
HELLO: Final = 49 * KIB


def check_seconds(name: str, value: object) -> None:
    """Raises ValueError unless `value` is a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
        raise ValueError(f"{name} {value!r}: give seconds above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one application. Sizes are bytes, times are seconds; all must be above zero.

    `docs/reference/limits.md` says of each what happens when it is reached, and which counter of
    `publisher.statistics()` shows it.

    Raises:
        ConfigurationError: a value is not a positive number, too small for the client, or too large for Redis.
    """

    #: one message from the browser, in bytes; a larger one closes the socket with 1009
    message_up: int = 64 * KIB
    #: one push, or the result of one send, in bytes of JSON; a larger push is `MessageTooLarge` at the call
    message_down: int = 256 * KIB
    #: how long the log keeps an entry, and a page may be away without being gone, in seconds
    retention: float = 300.0
    #: entries that one channel keeps
    channel_entries: int = 1000
    #: bytes that one channel keeps
    channel_bytes: int = 1 * MIB
    #: bytes that the log keeps in all
    log_bytes: int = 256 * MIB
    #: between two pings, in seconds; a page that is silent for one and a half of them is detached
    heartbeat: float = 25.0
    #: from the upgrade to the hello, in seconds
    hello: float = 5.0
    #: messages of one page, or one socket of a handler of your own, that may come each second for long ...
    rate: float = 100.0
    #: ... and how many of them at once, before; at least 2,001, for a page that comes back may repeat so many
    burst: int = 4000
    #: sockets that are open in this process, streams, polls and posts included
    sockets: int = 20_000
    #: sockets of one visitor's address that are open in this process
    address_sockets: int = 1000
    #: sockets of one browser session that are open in this process
    session_sockets: int = 100
    #: pages of one browser session that are attached to this process
    session_pages: int = 60
    #: bytes unsent on a socket, or waiting for its callbacks, from where on it lags
    high_water: int = 256 * KIB
    #: seconds without progress after which a socket that lags is closed
    stuck: float = 30.0
    #: bytes that are read from the log at once for a page that catches up
    replay_chunk: int = 128 * KIB
    #: seconds that a page may be away after it said goodbye
    grace: float = 30.0
    #: seconds over which a process that stops sends its pages away, and over which their returns are spread
    drain_window: float = 3.0
    #: seconds that running delegates have to end when the process stops
    drain_grace: float = 10.0
    #: how long the broker may take to answer, in seconds; after that it is unavailable
    broker: float = 5.0
    #: seconds after which a process that gives no sign of life counts as dead, where there are several
    lease: float = 10.0
    #: life of a page token in seconds; it renews itself at half of it
    token_life: float = 12 * 3600.0
    #: how long a delegate, a callback or a signal receiver may run, in seconds
    callback: float = 60.0
    #: delegates that run in this process; more sends are answered with `limit`
    delegates: int = 1000
    #: sends of one page that wait for their delegate; more are answered with `limit`
    sends_waiting: int = 1000
    #: bytes of data of the sends of one page that wait for their delegate; more are answered with `limit`
    sends_bytes: int = 1 * MIB
    #: results of qos 2 sends that are kept for one document
    results_kept: int = 1000
    #: bytes of the results of qos 2 sends that are kept for all pages, and 200 for each
    results_bytes: int = 64 * MIB
    #: topics that one page may listen to; at most 1,000
    topics: int = 100
    #: bytes of the body of one post, which carries what a page sends where there is no WebSocket; at least three times
    #: `message_up`, for characters of a message may take so many bytes, and 49 KiB for the hello
    post: int = 256 * KIB
    #: messages in the body of one post, its hello among them; at least 101, for the client puts so many in one
    post_frames: int = 1000
    #: bytes of the body of one form that comes with files
    upload: int = 32 * MIB
    #: forms with files of one browser session that are under way in this process, their delegates included
    session_uploads: int = 6
    #: forms with files that are under way in this process, 30 files each at most
    uploads: int = 20
    #: streams and waiting polls of one browser session, which keep a connection of the browser each
    held: int = 4
    #: bytes of JSON of one page variable
    variable_bytes: int = 64 * KIB
    #: bytes of all variables of one page, with their names, and 200 for each
    page_bytes: int = 256 * KIB
    #: bytes of the variables of all pages
    pages_bytes: int = 64 * MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = int if field.type == "int" else int | float
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < inf:
                number = "a whole number" if field.type == "int" else "a number"
                raise ConfigurationError(f"Limits({field.name}={value!r}): give {number} above zero")
        if self.burst < CLIENT_REPEATS:
            raise ConfigurationError(
                f"Limits(burst={self.burst}): give at least {CLIENT_REPEATS}, for a page that comes back may repeat as"
                " many messages at once"
            )
        if self.topics > MOST_TOPICS:
            raise ConfigurationError(
                f"Limits(topics={self.topics}): give at most {MOST_TOPICS}, for a page's topics are changed in one step"
            )
        if self.post_frames < CLIENT_POST_FRAMES:
            raise ConfigurationError(
                f"Limits(post_frames={self.post_frames}): give at least {CLIENT_POST_FRAMES}, for a page puts a hello"
                f" and {CLIENT_POST_FRAMES - 1} messages in one post"
            )
        if self.post < 3 * self.message_up + HELLO:
            raise ConfigurationError(
                f"Limits(post={self.post}, message_up={self.message_up}): give a post at least"
                f" {3 * self.message_up + HELLO} bytes, for a message may have three bytes a character, and a hello"
                f" {HELLO} bytes"
            )
