"""Opening a page in a view, and the script include of its template."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final, Literal, get_args
from urllib.parse import quote

import aiohttp_jinja2
import jinja2
from aiohttp import web
from markupsafe import Markup

from .broker import Position
from .delegates import check_delegate
from .errors import ConfigurationError
from .form_outcome import take_outcome
from .identity import Identity
from .push_targets import Page
from .site import SOCKET_ROUTE, Site, get_site
from .targets import Address, check_topics
from .tokens import Token, new_id

#: What may carry a page's socket.
Transport = Literal["websocket", "stream", "poll"]

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

    def __init__(self, site: Site, identity: Identity, cursor: Position, page_id: str) -> None:
        assert identity.session_id is not None  # ensure_session has been called
        super().__init__(site.publisher, page_id, identity.session_id, identity.user_id, ())
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


_FORM_ATTRIBUTES: Final = frozenset({"method", "action", "enctype", "data-pagews-send"})

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


async def page_token(request: web.Request, page_id: str | None = None) -> str:
    """The token of a page that this request opens. `page_id`: None: a new one."""
    site = get_site(request)
    await site.identities.load(request)
    return _open(request, site, (), page_id).token(site)


def script_tag(
    page: Page, *, nonce: str | None = None, nostream: bool = False, transport: Transport | None = None
) -> Markup:
    """The script include of a page that `open_page` has returned, for any template engine.

    Arguments:
        nonce: that of the response's content security policy.
        nostream: the script is there, the connection is not: `pagews.connect()` in the browser starts it.
        transport: `websocket`, `stream` or `poll`: this one and no other. None: what gets through.

    Raises:
        ConfigurationError: the page is not one that `open_page` has returned.
        ValueError: there is no such transport.
    """
    if transport is not None and transport not in get_args(Transport):
        raise ValueError(f"transport={transport!r}: give one of {', '.join(get_args(Transport))}, or None")
    if not isinstance(page, RenderedPage):
        raise ConfigurationError("script_tag() takes the page that open_page(request) has returned in this request")
    site = get_site(page.app)
    tag = render(
        "script.html",
        base=site.base(),
        token=page.token(site),
        nonce=nonce,
        nostream=nostream,
        transport=transport,
    )
    return Markup(tag.strip())


def form_tag(page: Page, delegate: str, *, upload: bool = False, **attributes: object) -> Markup:
    """The beginning of a form that sends its fields to a delegate, for any template engine: the opening tag, and the
    hidden fields that make it work without JavaScript. Your fields and `</form>` follow.

    An `<output>` in it tells what became of the form the last time: of one that the browser has posted, once. The
    browser is led back to the form by its id.

    Arguments:
        page: what `open_page` has returned in this request.
        delegate: the name of a delegate of the server.
        upload: the form has file fields.
        attributes: of the tag; `class_` stands for `class`, `aria_label` for `aria-label`. None: left out. The `id` is
            `pagews-DELEGATE` if there is none: of several forms of one delegate in a page each needs its own.

    Raises:
        ConfigurationError: the page is not one that `open_page` has returned in this request.
        TypeError, ValueError: there is no such delegate, or no such attribute.
    """
    request = _request.get(None)
    if not isinstance(page, RenderedPage) or request is None:
        raise ConfigurationError("form_tag() takes the page that open_page(request) has returned in this request")
    site = get_site(page.app)
    if check_delegate(delegate) not in site.delegates:
        raise ValueError(f"form: the server has no delegate {delegate!r}")
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    for name in names.values():
        if name in _FORM_ATTRIBUTES:
            raise ValueError(f"form: {name!r} is pagews's own attribute")
    given = {names[name]: value for name, value in attributes.items() if value is not None}
    form_id = str(given.get("id", f"pagews-{delegate}".replace(" ", "-")))
    fragment = quote(form_id, safe="")
    tag = render(
        "form.html",
        base=site.base(),
        delegate=delegate,
        upload=upload,
        attributes={"id": form_id} | given,
        token=page.token(site),
        back=f"{_address(request, site)}#{fragment}",
        outcome=take_outcome(request, fragment),
    )
    return Markup(tag.strip())


def _address(request: web.Request, site: Site) -> str:
    """The path and query of a request as its browser sees them: a proxy may have stripped what comes before."""
    ours = str(site.app.router[SOCKET_ROUTE].url_for()).removesuffix("/socket")
    before = site.base().removesuffix(ours) if site.base().endswith(ours) else ""
    return before + request.rel_url.raw_path_qs


def opened_page(request: web.Request) -> bool:
    """Whether a page has been opened in this request."""
    return _PAGE in request


async def prepare(request: web.Request, site: Site) -> None:
    """At the beginning of a request: take the cursor before the view reads its data, and make the include ready."""
    request[_POSITION] = site.node.broker.head
    if "html" in (accept := request.headers.get("Accept", "*/*")) or "*/*" in accept:
        # The include is called synchronously and could not.
        await site.identities.load(request)
    _request.set(request)
    for app in request.match_info.apps:
        environment = app.get(aiohttp_jinja2.APP_KEY)
        if environment is not None:
            environment.globals.setdefault("pagews_script", pagews_script)
            environment.globals.setdefault("pagews_form", pagews_form)


def pagews_script(*, nonce: str | None = None, nostream: bool = False, transport: Transport | None = None) -> Markup:
    """The script include of the request that is being answered; opens its page if the view did not.

    A global of every aiohttp-jinja2 environment of the application. It finds the request by itself, so it also works
    inside macros and included templates, and without aiohttp-jinja2's request processor.

    Raises:
        ConfigurationError: there is no request, or it does not accept HTML and the view has not opened a page.
    """
    page = _page_of_request("pagews_script()", "script_tag(page)")
    return script_tag(page, nonce=nonce, nostream=nostream, transport=transport)


def pagews_form(delegate: str, *, upload: bool = False, **attributes: Any) -> Markup:
    """The beginning of a form of the request that is being answered: see `form_tag`. A global like `pagews_script`."""
    return form_tag(_page_of_request("pagews_form()", "form_tag(page, ...)"), delegate, upload=upload, **attributes)


def _page_of_request(what: str, instead: str) -> RenderedPage:
    request = _request.get(None)
    if request is None:
        raise ConfigurationError(f"{what} is for templates that answer a request: else use {instead}")
    return _open(request, get_site(request), ())


def _open(request: web.Request, site: Site, topics: Iterable[str], page_id: str | None = None) -> RenderedPage:
    page, identity = request.get(_PAGE), site.identities.known(request)
    if page is None or (identity is not None and page.session.id != identity.session_id):
        # Also when the session was rotated since: the page would be one of the session that has ended.
        if identity is None:
            raise ConfigurationError(
                "the request does not accept HTML, so its template needs 'await pagews.open_page(request)' before it"
            )
        identity = site.identities.ensure_session(request, identity)
        page = RenderedPage(site, identity, request.get(_POSITION) or site.node.broker.head, page_id or new_id())
        request[_PAGE] = page
    page.listen(topics)
    return page
