"""Who is at the browser: the browser session's id and the user, kept in aiohttp-session's data."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, NoReturn

import aiohttp_session
import msgspec
from aiohttp import web
from aiohttp_session import AbstractStorage, Session, SessionData

from .broker import is_revoked
from .encryption import Encryption
from .errors import BrokerUnavailable, ConfigurationError
from .node import Node
from .private import private
from .targets import Address, check_name
from .tokens import new_id

#: What pagews keeps in the session's data.
SESSION_ID: Final = "pagews.session"
USER_ID: Final = "pagews.user"
SINCE: Final = "pagews.since"
#: The id before the last rotation: whose pages may be taken on.
BEFORE: Final = "pagews.before"

#: Seconds from the end of a session in which `/renew` begins no other for a browser that shows its cookie: the response
#: that brings the cookie of the one after it may be on its way, and whichever comes last stays.
GAP: Final = 5.0

UserFunction = Callable[[web.Request], Awaitable[str | None]]


@private
class Identity(NamedTuple):
    """The browser session (None: it has none yet), its user (None: not logged in), since when, and until when the
    storage keeps it (None: it does not say), both by the wall clock.
    """

    session_id: str | None
    user_id: str | None
    since: float
    until: float | None = None


_IDENTITY: web.RequestKey[Identity] = web.RequestKey("pagews identity", Identity)


class CookieStorage(AbstractStorage):
    """The session in an encrypted cookie: HttpOnly, SameSite=Lax, Secure on https, with several keys.

    aiohttp-session's own takes one key, and answers 500 to a cookie whose bytes are no ASCII.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        super().__init__(cookie_name="PAGEWS", httponly=True, samesite="Lax")
        self._encryption = Encryption(keys, "session cookie")

    async def load_session(self, request: web.Request) -> Session:
        cookie = self.load_cookie(request)
        raw = None if cookie is None else self._encryption.decrypt(cookie)
        if raw is not None:
            try:
                return Session(None, data=msgspec.json.decode(raw, type=SessionData), new=False)
            except (msgspec.DecodeError, ValueError):
                pass  # a view has put NaN into it
        # None came, or one of an expired key, tampered with, or no cookie of ours: a fresh session.
        return Session(None, data=None, new=True)

    async def save_session(self, request: web.Request, response: web.StreamResponse, session: Session) -> None:
        self.cookie_params["secure"] = request.secure
        text = "" if session.empty else json.dumps(self._get_session_data(session))
        self.save_cookie(response, self._encryption.encrypt(text.encode()) if text else "")


@private
class ReadOnlySession(Session):
    """The session as a socket sees it. An open socket cannot set a cookie, so what is written would be lost."""

    def __setitem__(self, key: str, value: object) -> NoReturn:
        _refuse_to_write()

    def __delitem__(self, key: str) -> NoReturn:
        _refuse_to_write()

    def changed(self) -> NoReturn:
        _refuse_to_write()

    def invalidate(self) -> NoReturn:
        _refuse_to_write()


def read_only(session: Session) -> Session:
    """The same session, for a socket.

    Wherever the application gets it from, also by `aiohttp_session.get_session(context.request)`: so the session object
    itself changes its class. One of a storage's own class is copied instead.
    """
    if type(session) is not Session:
        data: SessionData = {"created": session.created, "session": dict(session)}
        return ReadOnlySession(session.identity, data=data, new=session.new)
    session.__class__ = ReadOnlySession
    return session


def _end(session: Session) -> float | None:
    """When aiohttp-session will take a session for none any more, by its `max_age`; it counts whole seconds."""
    return None if session.max_age is None else session.created + session.max_age + 1


@contextmanager
def _checking() -> Iterator[None]:
    """Whether a session has ended is not known while the broker is away: it may be neither accepted nor refused."""
    try:
        yield
    except BrokerUnavailable as error:
        raise web.HTTPServiceUnavailable(
            text="The session cannot be checked at the moment.\n", headers={"Retry-After": "2"}
        ) from error


def _refuse_to_write() -> NoReturn:
    raise RuntimeError("an open socket cannot set a cookie: write to the session in a view, where a response does")


class Identities:
    """Reads and rotates identities.

    Arguments:
        storage: the session storage to use for requests whose application has set up none.
        user: who is logged in; None: what `pagews.login` put into the session.
    """

    def __init__(self, storage: AbstractStorage, user: UserFunction | None) -> None:
        self.storage = storage
        self._user = user
        self.node: Node

    async def load(self, request: web.Request) -> Identity:
        """The identity of a request, read once. A revoked session or login is none.

        Nothing is written: the answer to a request that came with an old cookie may arrive behind the one that brought
        the new cookie, and would take it away again.

        Raises:
            web.HTTPServiceUnavailable: the broker is away.
        """
        known = self.known(request)
        if known is not None:
            return known
        with _checking():
            return await self._read(request)

    async def lasts(self, request: web.Request) -> bool:
        """Whether the session and the login of a request that took its time, read at its beginning, are accepted still.

        Raises:
            web.HTTPServiceUnavailable: the broker is away.
        """
        identity = self.known(request)
        if identity is None or identity.session_id is None:
            return False
        with _checking():
            return not await self.is_revoked(identity.session_id, identity.user_id, identity.since)

    async def _read(self, request: web.Request) -> Identity:
        session = await aiohttp_session.get_session(request)
        session_id, since = session.get(SESSION_ID), session.get(SINCE)
        user_id = await self._user_of(request, session)
        if not isinstance(session_id, str) or not isinstance(since, int | float):
            identity = Identity(None, user_id, time.time())
        elif await self.is_revoked(session_id, user_id, since):
            identity = Identity(None, None if self._user is None else user_id, time.time())
        else:
            identity = Identity(session_id, user_id, since, _end(session))
        request[_IDENTITY] = identity
        return identity

    async def is_revoked(self, session_id: str, user_id: str | None, since: float) -> bool:
        """Whether a session, or what its user had since then, has ended."""
        return await is_revoked(self.node.broker, session_id, user_id, since)

    async def has_just_ended(self, request: web.Request) -> bool:
        """Whether the session of a request's cookie, or its login, has ended within the last `GAP` seconds."""
        session = await aiohttp_session.get_session(request)
        session_id, user_id = session.get(SESSION_ID), await self._user_of(request, session)
        addresses = [Address.session(session_id)] if isinstance(session_id, str) else []
        if user_id is not None:
            addresses.append(Address.user(user_id))
        ends = [await self.node.broker.revoked(address.channel) for address in addresses]
        return any(end is not None and abs(time.time() - end) < GAP for end in ends)

    async def before(self, request: web.Request) -> str | None:
        """The session that the last login, logout or rotation in this browser has ended."""
        before = (await aiohttp_session.get_session(request)).get(BEFORE)
        return before if isinstance(before, str) else None

    def known(self, request: web.Request) -> Identity | None:
        """The identity of a request, if it has been read."""
        identity: Identity | None = request.get(_IDENTITY)
        return identity

    def ensure_session(self, request: web.Request, identity: Identity) -> Identity:
        """Give the browser a session id if it has none. The session must have been read."""
        if identity.session_id is not None:
            return identity
        identity = identity._replace(session_id=new_id())
        session: Session = request[aiohttp_session.SESSION_KEY]
        if identity.user_id is None:
            session.pop(USER_ID, None)  # of a login that was revoked
        session.pop(BEFORE, None)
        session[SESSION_ID], session[SINCE] = identity.session_id, identity.since
        request[_IDENTITY] = identity
        return identity

    async def login(self, request: web.Request, user_id: str) -> None:
        if self._user is not None:
            raise ConfigurationError("setup(user=...) says who is logged in: use rotate_session() instead of login()")
        session = await aiohttp_session.get_session(request)
        session[USER_ID] = check_name("a user id", user_id)
        await self.rotate(request)

    async def logout(self, request: web.Request) -> None:
        session = await aiohttp_session.get_session(request)
        session.pop(USER_ID, None)
        await self.rotate(request)

    async def rotate(self, request: web.Request) -> None:
        """A new session id; the pages of the old one are closed with 4503, and it is not accepted again."""
        session = await aiohttp_session.get_session(request)
        old = session.get(SESSION_ID)
        identity = Identity(new_id(), await self._user_of(request, session), time.time())
        session[SESSION_ID], session[SINCE] = identity.session_id, identity.since
        request[_IDENTITY] = identity
        if isinstance(old, str):
            session[BEFORE] = old
            await self.node.revoke(Address.session(old).channel)

    async def _user_of(self, request: web.Request, session: Session) -> str | None:
        user_id = session.get(USER_ID) if self._user is None else await self._user(request)
        return None if user_id is None else check_name("a user id", user_id)
