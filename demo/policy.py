"""A strict content security policy: no inline style, no inline script without this response's nonce."""

import secrets

from aiohttp import web
from aiohttp.typedefs import Handler

NONCE = web.RequestKey("csp_nonce", str)


def nonce(request: web.Request) -> str:
    """For the scripts of this response: its policy allows them, and no others."""
    if NONCE not in request:
        request[NONCE] = secrets.token_urlsafe(16)
    return request[NONCE]


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if response.content_type != "text/html":
        return
    script = f"'nonce-{request[NONCE]}' 'strict-dynamic'" if NONCE in request else "'none'"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Content-Security-Policy"] = "; ".join(
        (
            "default-src 'self'",
            f"script-src {script}",
            "style-src 'self'",
            "require-trusted-types-for 'script'",
            "trusted-types pagews",
            "base-uri 'none'",
            "object-src 'none'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    )


@web.middleware
async def same_origin_posts(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses forms that another site sends in the visitor's name; a program that is no browser says nothing."""
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise web.HTTPForbidden(text="This form was sent by another site.")
    return await handler(request)
