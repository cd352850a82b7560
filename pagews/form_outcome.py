"""What became of a form that the browser has posted, kept in its session until the form is rendered again."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

import aiohttp_session
from aiohttp import web

from .delegates import Outcome
from .private import private

_KEY: Final = "pagews.outcome"

#: Characters of a message, and bytes of it as JSON, where some take twelve. The session may be a cookie, and browsers
#: keep 4 KiB of one.
MESSAGE_LENGTH: Final = 500
MESSAGE_SIZE: Final = 2000
#: Characters of a form's id in an address.
FORM_LENGTH: Final = 200

#: The message where the delegate has none of its own.
SENT: Final = "sent"


@private
class FormOutcome(NamedTuple):
    """What is told of a form; `ok`: it was sent."""

    message: str
    ok: bool

    @classmethod
    def of(cls, outcome: Outcome) -> FormOutcome:
        """What is told of a delegate's outcome: a short string that it has returned, or its error's message."""
        if outcome.code:
            return cls(_cut(outcome.message or outcome.code), ok=False)
        value = outcome.value
        return cls(value if isinstance(value, str) and _cut(value) == value else SENT, ok=True)


def _cut(message: str) -> str:
    """As much of a message as is kept."""
    message = message[:MESSAGE_LENGTH]
    while len(json.dumps(message)) > MESSAGE_SIZE:
        message = message[:-1]
    return message


async def keep_outcome(request: web.Request, form: str, outcome: FormOutcome) -> None:
    """Keep what became of a form, of one at a time. `form`: its id, as it is in an address."""
    session = await aiohttp_session.get_session(request)
    session[_KEY] = {"form": form[:FORM_LENGTH], "message": outcome.message, "ok": outcome.ok}


def take_outcome(request: web.Request, form: str) -> FormOutcome | None:
    """What became of a form, once. The session must have been read."""
    session = request[aiohttp_session.SESSION_KEY]
    match session.get(_KEY):
        case {"form": kept, "message": str(message), "ok": bool(ok)} if kept == form[:FORM_LENGTH]:
            del session[_KEY]
            return FormOutcome(message, ok)
    return None
