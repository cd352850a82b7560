"""The exception tree, and the one table of close codes.

"You called it wrongly" (`ConfigurationError`, `EncodingError`, `MessageTooLarge`, `LimitExceeded`) and "the other side
did" (`ProtocolError`, `RemoteError`) are different types; what an error knows is in its attributes, and its text says
what to do.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class PagewsError(Exception):
    """The root of every error that pagews raises on purpose."""


class ConfigurationError(PagewsError):
    """The application set something up wrongly. The text says what to change."""


class EncodingError(PagewsError, ValueError):
    """The data of a push, or a page variable, cannot be written as JSON; nothing was filed or stored."""


class MessageTooLarge(PagewsError, ValueError):
    """A message is larger than its limit; it was refused before it had a number.

    Attributes: `size` and `limit`, both in bytes of JSON.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return f"the message has {self.size} bytes, the limit is {self.limit}: send less, or raise it in pagews.Limits"


class LimitExceeded(PagewsError, ValueError):
    """A page's variables would be larger than a bound allows; nothing was stored.

    Attributes: `limit` (its name in `pagews.Limits`), `size` and `bound`, both in bytes.
    """

    def __init__(self, limit: str, size: int, bound: int) -> None:
        super().__init__(limit, size, bound)
        self.limit = limit
        self.size = size
        self.bound = bound

    def __str__(self) -> str:
        return f"that would be {self.size} bytes, limits.{self.limit} is {self.bound}: keep less, or raise it"


class BrokerUnavailable(PagewsError, ConnectionError):
    """The broker did not take a message in time.

    Attributes: `unknown` is true when it may have been filed all the same (its reply was lost): push again with the
    same `key=`, and it is filed once.
    """

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


class NotAuthorized(PagewsError):
    """Raised by a server delegate: this page may not do that. It reaches the browser as `not-authorized`, without its
    text.
    """


class AskTimeout(PagewsError, TimeoutError):
    """Nobody answered an `ask` in time. The question stays in the log: the page may still answer, unheard."""


class PageGone(PagewsError):
    """The page that was asked, or was to keep something, is known to have ended."""


def _check_string(part: object) -> None:
    if not isinstance(part, str):
        raise TypeError(f"an error for the other side is a code and a message, both strings, not {part!r:.40}")


class CodedError(PagewsError):
    """An error that travels over the wire as `{code, message}`."""

    def __init__(self, code: str, message: str = "") -> None:
        for part in (code, message):
            _check_string(part)
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class RemoteError(CodedError):
    """The browser's delegate threw while answering. Attributes: `code`, `message`."""


class DelegateError(CodedError):
    """Raised by a server delegate to tell the browser something: it reaches it as `PageError` with this code."""


class ProtocolError(PagewsError):
    """The peer sent what the wire protocol does not allow. Attributes: `code` (the close code it gets), `reason`."""

    def __init__(self, reason: str, code: int = 4501) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Return(enum.Enum):
    """What a page does after a close code."""

    BACK = "back"  # comes back with back-off, or after the delay that the reason gives
    RENEW = "renew"  # asks /renew once for a fresh token, else reloads under guard
    AWAY = "never"  # does not come back


class CloseRule(NamedTuple):
    """One row of the table of close codes."""

    then: Return
    meaning: str


class CloseCode(enum.IntEnum):
    """The close codes that pagews sends itself."""

    NORMAL = 1000
    GOING_AWAY = 1001
    TOO_BIG = 1009
    ABNORMAL = 1006
    INTERNAL = 1011
    RESTART = 1012
    HELLO_TIMEOUT = 4002
    LIMIT = 4004
    TOO_SLOW = 4008
    TOO_MANY = 4013
    BAD_TOKEN = 4500
    MALFORMED = 4501
    IDENTITY = 4503
    SUPERSEDED = 4509


#: RFC 6455 section 7.4 names the standard codes. Of the codes that are not here, 4500-4999 do not come back.
CLOSE_CODES: Final[dict[int, CloseRule]] = {
    1000: CloseRule(Return.BACK, "normal closure"),
    1001: CloseRule(Return.BACK, "the server goes away, or the browser leaves"),
    1002: CloseRule(Return.AWAY, "WebSocket protocol error"),
    1003: CloseRule(Return.AWAY, "data of a kind that is not accepted"),
    1006: CloseRule(Return.BACK, "the connection broke"),
    1007: CloseRule(Return.AWAY, "text that is not UTF-8"),
    1009: CloseRule(Return.BACK, "message too big: come back without it"),
    1010: CloseRule(Return.AWAY, "an extension is missing"),
    1011: CloseRule(Return.BACK, "a callback of the server failed"),
    1012: CloseRule(Return.BACK, "the server restarts"),
    1013: CloseRule(Return.BACK, "the server is overloaded"),
    4002: CloseRule(Return.BACK, "no hello in time"),
    4004: CloseRule(Return.BACK, "a limit of this server, named in the reason"),
    4008: CloseRule(Return.BACK, "the reader was too slow, or silent, for too long"),
    4013: CloseRule(Return.BACK, "too many messages in too little time"),
    4500: CloseRule(Return.RENEW, "token unknown, tampered, expired or of another session"),
    4501: CloseRule(Return.AWAY, "malformed or unexpected frame"),
    4503: CloseRule(Return.RENEW, "identity changed or session ended"),
    4509: CloseRule(Return.AWAY, "superseded by a newer socket of the same document"),
}


def check_close(code: object) -> None:
    """Raises ValueError unless an endpoint may send `code` (RFC 6455 section 7.4)."""
    sendable = {1000, 1001, 1002, 1003, *range(1007, 1015)}
    if not isinstance(code, int) or not (code in sendable or 3000 <= code <= 4999):
        raise ValueError(f"close code {code!r}: give one that may be sent, such as 1000 or 1012, or 3000 to 4999")


def returns(code: int) -> Return:
    """What a page does after `code`: the table's word, else the rule of its range."""
    rule = CLOSE_CODES.get(code)
    if rule is not None:
        return rule.then
    return Return.AWAY if 4500 <= code < 5000 else Return.BACK
