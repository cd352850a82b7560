"""The bounds."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from pagews import ConfigurationError, Limits
from pagews.limits import HELLO, MOST_TOPICS
from pagews.wire import TOKEN_LENGTH


def test_every_bound_has_a_positive_default() -> None:
    assert all(getattr(Limits(), field.name) > 0 for field in fields(Limits))


@pytest.mark.parametrize("value", [0, -1, math.nan, "10", None, True])
def test_what_is_no_bound(value: object) -> None:
    with pytest.raises(ConfigurationError, match="heartbeat"):
        Limits(heartbeat=value)  # type: ignore[arg-type]  # the mistake that is tested


def test_a_post_has_room_for_what_the_client_puts_in_one(root: Path) -> None:
    most = re.search(r"^const MOST = (\d+);$", (root / "static/post.js").read_text(), re.MULTILINE)
    assert most is not None
    needed = int(most[1]) + 1
    assert Limits(post_frames=needed).post_frames == needed
    with pytest.raises(ConfigurationError, match=f"post_frames={needed - 1}.*at least {needed}"):
        Limits(post_frames=needed - 1)


def test_a_post_has_room_for_one_message() -> None:
    assert HELLO == TOKEN_LENGTH + 1024
    message = 100 * 1024
    needed = 3 * message + 49 * 1024
    assert Limits(message_up=message, post=needed).post == needed
    with pytest.raises(ConfigurationError, match=f"post={needed - 1}, message_up={message}.*at least {needed} bytes"):
        Limits(message_up=message, post=needed - 1)
    with pytest.raises(ConfigurationError, match="post=262144, message_up=524288"):
        Limits(message_up=512 * 1024)


def test_a_page_that_comes_back_may_repeat_what_the_client_keeps(root: Path) -> None:
    most = [
        re.search(r"^const MOST = (\d+);$", (root / f"static/{name}.js").read_text(), re.MULTILINE)
        for name in ("outbox", "answers")
    ]
    needed = 1 + sum(int(found[1]) for found in most if found is not None)
    assert all(most)
    assert Limits(burst=needed).burst == needed
    with pytest.raises(ConfigurationError, match=f"burst={needed - 1}.*at least {needed}"):
        Limits(burst=needed - 1)


def test_a_page_listens_to_no_more_topics_than_are_changed_in_one_step() -> None:
    assert Limits(topics=MOST_TOPICS).topics == MOST_TOPICS
    with pytest.raises(ConfigurationError, match=r"topics=1001.*at most 1000"):
        Limits(topics=MOST_TOPICS + 1)


def test_a_bound_stays_what_it_is() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().retention = 1.0  # type: ignore[misc]  # the mistake that is tested
