"""Opening a page in a view, and the script include of its template."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

import aiohttp_jinja2
import jinja2
from aiohttp import web
from markupsafe import Markup

from .broker import Position
from .errors import ConfigurationError
from .identity import Identity
from .publisher import Page
from .site import Site, get_site
from .targets import Address, check_topics
from .tokens import Token, new_id

_POSITION: Final[web.RequestKey[Position]] = web.RequestKey("pagews position", Position)

_request: Final[ContextVar[web.Request]] = ContextVar("pagews request")

_environment: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("pagews.templates", ""), autoescape=True, undefined=jinja2.StrictUndefined
)


def render(template: str, **context: object) -> str:
    """Render one of pagews's own templates."""
    return _environment.get_template(template).render(context)


class RenderedPage(Page):
    """A page that this request renders: it knows its cursor, and can make its token."""

    __slots__ = ("_cursor", "_identity")

    def __init__(self, site: Site, identity: Identity, cursor: Position) -> None:
        assert identity.session_id is not None  # ensure_session has been called
        super().__init__(site.publisher, new_id(), identity.session_id, identity.user_id, ())
        self._identity = identity
        self._cursor = cursor

    def listen(self, topics: Iterable[str]) -> None:
        """Add topics that the token will name."""
        added = {*self._rendered, *(Address.topic(topic).name for topic in topics)}
        limit = self._publisher.limits.topics
        if len(added) > limit:
            raise ValueError(f"a page of {len(added)} topics is above limits.topics, {limit}")
        check_topics(added)
        self._rendered = added

    def token(self, site: Site) -> str:
        """The identity of the page, encrypted."""
        return site.tokens.write(
            Token(
                page=self.id,
                session=self.session.id,
                user=None if self.user is None else self.user.id,
                topics=sorted(self._rendered),
                epoch=self._cursor.epoch,
                seq=self._cursor.seq,
                since=self._identity.since,
                issued=time.time(),
            )
        )


_PAGE: Final[web.RequestKey[RenderedPage]] = web.RequestKey("pagews page", RenderedPage)


async def open_page(request: web.Request, *, topics: Iterable[str] = ()) -> Page:
    """Open the page session that this request renders. Called twice, it is the same page with the topics of both.

    Nothing pushed to the page from now on is lost, whenever its browser connects; nor what was pushed to its session,
    user and topics since the request began. Nothing is stored until the browser connects.

    Arguments:
        topics: names of topics to listen to, 1 to 200 printable characters each.

    Raises:
        ConfigurationError: pagews is not set up for the application.
        TypeError, ValueError: a topic's name is not as above, or there are more than `limits.topics`.
    """
    site = get_site(request)
    if isinstance(topics, str):
        raise TypeError(f"topics must be a list of names: write [{topics!r}]")
    await site.identities.load(request)
    return _open(request, site, topics)


def script_tag(page: Page, *, nonce: str | None = None, nostream: bool = False) -> Markup:
    """The script include of a page that `open_page` has returned, for any template engine.

    Arguments:
        nonce: that of the response's content security policy.
        nostream: the script is there, the connection is not: `pagews.connect()` in the browser starts it.

    Raises:
        ConfigurationError: the page is not one that `open_page` has returned.
    """
    if not isinstance(page, RenderedPage):
        raise ConfigurationError("script_tag() takes the page that open_page(request) has returned in this request")
    site = get_site(page.app)
    return Markup(
        render("script.html", base=site.base(), token=page.token(site), nonce=nonce, nostream=nostream).strip()
    )


def opened_page(request: web.Request) -> bool:
    """Whether a page has been opened in this request."""
    return _PAGE in request


async def prepare(request: web.Request, site: Site) -> None:
    """At the beginning of a request: take the cursor before the view reads its data, and make the include ready."""
    request[_POSITION] = site.node.broker.position
    if "html" in (accept := request.headers.get("Accept", "*/*")) or "*/*" in accept:
        # The include is called synchronously and could not.
        await site.identities.load(request)
    _request.set(request)
    for app in request.match_info.apps:
        environment = app.get(aiohttp_jinja2.APP_KEY)
        if environment is not None:
            environment.globals.setdefault("pagews_script", pagews_script)


def pagews_script(*, nonce: str | None = None, nostream: bool = False) -> Markup:
    """The script include of the request that is being answered; opens its page if the view did not.

    A global of every aiohttp-jinja2 environment of the application. It finds the request by itself, so it also works
    inside macros and included templates, and without aiohttp-jinja2's request processor.

    Raises:
        ConfigurationError: there is no request, or it does not accept HTML and the view has not opened a page.
    """
    request = _request.get(None)
    if request is None:
        raise ConfigurationError("pagews_script() is for templates that answer a request: else use script_tag(page)")
    return script_tag(_open(request, get_site(request), ()), nonce=nonce, nostream=nostream)


def _open(request: web.Request, site: Site, topics: Iterable[str]) -> RenderedPage:
    page, identity = request.get(_PAGE), site.identities.known(request)
    if page is None or (identity is not None and page.session.id != identity.session_id):
        # Also when the session was rotated since: the page would be one of the session that has ended.
        if identity is None:
            raise ConfigurationError(
                "the request does not accept HTML, so pagews_script() needs 'await pagews.open_page(request)' before it"
            )
        identity = site.identities.ensure_session(request, identity)
        page = RenderedPage(site, identity, request.get(_POSITION) or site.node.broker.position)
        request[_PAGE] = page
    page.listen(topics)
    return page
