"""What became of a form that the browser has posted, kept in its session until the form is rendered again."""

from __future__ import annotations

from typing import Final, NamedTuple

import aiohttp_session
from aiohttp import web

from .delegates import Outcome

_KEY: Final = "pagews.outcome"

#: Characters of a message. The session may be a cookie, and browsers keep 4 KiB of one.
MESSAGE_LENGTH: Final = 500

#: The message where the delegate has none of its own.
SENT: Final = "sent"


class FormOutcome(NamedTuple):
    """What is told of a form; `ok`: it was sent."""

    message: str
    ok: bool

    @classmethod
    def of(cls, outcome: Outcome) -> FormOutcome:
        """What is told of a delegate's outcome: a short string that it has returned, or its error's message."""
        if outcome.code:
            return cls((outcome.message or outcome.code)[:MESSAGE_LENGTH], ok=False)
        value = outcome.value
        return cls(value if isinstance(value, str) and len(value) <= MESSAGE_LENGTH else SENT, ok=True)


async def keep_outcome(request: web.Request, delegate: str, outcome: FormOutcome) -> None:
    """Keep what became of the form of a delegate; of one form at a time."""
    session = await aiohttp_session.get_session(request)
    session[_KEY] = {"delegate": delegate, "message": outcome.message, "ok": outcome.ok}


def take_outcome(request: web.Request, delegate: str) -> FormOutcome | None:
    """What became of the form of a delegate, once. The session must have been read."""
    session = request[aiohttp_session.SESSION_KEY]
    match session.get(_KEY):
        case {"delegate": kept, "message": str(message), "ok": bool(ok)} if kept == delegate:
            del session[_KEY]
            return FormOutcome(message, ok)
    return None
