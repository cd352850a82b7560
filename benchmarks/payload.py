"""The 100 bytes that every message of every server carries.

``#`` and a number of eight digits, by which the load client knows that it received each message once. A message whose
way is timed goes on with ``@`` and the sender's monotonic clock, which both processes share.
"""

from __future__ import annotations

import time

SIZE = 100
MARK = b"#"
NUMBER_DIGITS = 8
_TIME_MARK = b"@"
_TIME_DIGITS = 20


def numbered(number: int) -> str:
    """The payload of this number."""
    return f"#{number:0{NUMBER_DIGITS}d}".ljust(SIZE, ".")


def timed(number: int) -> str:
    """The payload of this number, saying when it was made."""
    return f"#{number:0{NUMBER_DIGITS}d}@{time.monotonic_ns():0{_TIME_DIGITS}d}".ljust(SIZE, ".")


def made_at(frame: bytes) -> int:
    """When the timed payload in this frame was made, in nanoseconds of the monotonic clock."""
    at = frame.index(_TIME_MARK) + 1
    return int(frame[at : at + _TIME_DIGITS])
