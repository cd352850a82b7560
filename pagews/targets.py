"""What a push is addressed to: a page, a browser session, a user or a topic."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple, Self

from .private import private

Kind = Literal["page", "session", "user", "topic"]

NAME_LENGTH = 200

#: Bytes that the names of all topics of one page may have: they travel in its token.
TOPICS_SIZE = 16 * 1024


def check_name(what: str, name: object) -> str:
    """Return `name` if it can name a delegate, topic, user, session or page: 1 to 200 printable characters.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty, too long or holds control characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {type(name).__name__}")
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise ValueError(f"{what} {name[:40]!r}: give 1 to {NAME_LENGTH} printable characters")
    return name


def check_topics(topics: Collection[str]) -> None:
    """Raises ValueError when the names of a page's topics are more than a token should carry."""
    size = sum(len(topic.encode()) + 3 for topic in topics)
    if size > TOPICS_SIZE:
        raise ValueError(f"the names of the page's topics have {size} bytes, the limit is {TOPICS_SIZE}: shorten them")


@private
class Address(NamedTuple):
    """A target as data. Its channel is its name in the log; `to` is what the browser is told."""

    kind: Kind
    name: str

    @classmethod
    def page(cls, page_id: str) -> Self:
        """One page session, by its id."""
        return cls("page", check_name("a page id", page_id))

    @classmethod
    def session(cls, session_id: str) -> Self:
        """All pages of one browser session."""
        return cls("session", check_name("a session id", session_id))

    @classmethod
    def user(cls, user_id: str) -> Self:
        """All pages of one user."""
        return cls("user", check_name("a user id", user_id))

    @classmethod
    def topic(cls, name: str) -> Self:
        """All pages that listen to a topic."""
        return cls("topic", check_name("a topic", name))

    @property
    def channel(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def to(self) -> str:
        """Page, session and user ids are not told to the browser: it knows what it is."""
        return self.channel if self.kind == "topic" else self.kind
