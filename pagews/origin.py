"""Whether a request comes from a page of this site (the Origin header, RFC 6454 section 7)."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

from aiohttp import web

from .site import Site

logger = logging.getLogger("pagews")

#: Names and addresses. A wildcard is neither.
_HOST = re.compile(r"[a-z0-9._:-]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_origin(request: web.Request, site: Site) -> None:
    """Refuse a request of another site.

    Browsers send Origin with every WebSocket upgrade and every POST; a client that sends none is no browser, and has no
    victim's cookie to misuse. The scheme is not compared with the request's: behind a proxy that ends TLS it is http.

    Raises:
        web.HTTPForbidden: the origin is foreign.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return
    if site.allowed_origins:
        if origin in site.allowed_origins:
            return
    elif _same_host(origin, request.headers.get("Host", "")):
        return
    site.counters.refused["origin"] += 1
    asked = "allowed_origins, not host" if site.allowed_origins else "host"
    logger.warning("refused a request from origin %.100r to %s %.100r", origin, asked, request.headers.get("Host", ""))
    raise web.HTTPForbidden(text="This address is for pages of this site.\n")


def as_written(origin: str) -> str | None:
    """An origin as browsers write it: in lower case, and without a port that goes without saying. None: it is none."""
    try:
        parts = urlsplit(origin.lower())
        port, default = parts.port, _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:  # a port that is no number, a bracket too many
        return None
    host = parts.hostname
    if default is None or not host or _HOST.fullmatch(host) is None:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" if port in (None, default) else f"{parts.scheme}://{host}:{port}"


def _same_host(origin: str, host: str) -> bool:
    if origin in (f"https://{host}", f"http://{host}") and host:
        return True  # as browsers write them; the rest is for ports that are left out
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        default = _DEFAULT_PORTS.get(theirs.scheme)
        return (
            default is not None
            and bool(theirs.hostname)
            and theirs.hostname == ours.hostname
            and (theirs.port or default) == (ours.port or default)
        )
    except ValueError:  # a port that is no number, a bracket too many
        return False
