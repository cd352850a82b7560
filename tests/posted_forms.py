"""Forms as a browser posts them, part by part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import pagews
from tests.wire_client import Visitor

JSON: Final = "application/json"
HTML: Final = "text/html"

END: Final = b"--b--\r\n"


class Answer(NamedTuple):
    """What came of a form. `cookie`: what its answer sets; empty: nothing."""

    status: int
    text: str
    cookie: str
    location: str
    retry_after: str


def field(name: str, value: str) -> bytes:
    """A field that is no file."""
    return part(f'form-data; name="{name}"', value.encode())


def part(disposition: str, content: bytes = b"") -> bytes:
    """A part by its `Content-Disposition`, whatever it is."""
    return b"--b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (disposition.encode(), content)


def own(token: str, delegate: str, **more: str) -> bytes:
    """What pagews writes into a form."""
    fields = {"token": token, "delegate": delegate, "back": "/x#f", **more}
    return b"".join(field(f"pagews.{name}", value) for name, value in fields.items())


async def post_form(visitor: Visitor, body: bytes | AsyncIterator[bytes], accept: str = JSON, **headers: str) -> Answer:
    """Post the parts of a form, with its end."""
    usual = {"Content-Type": "multipart/form-data; boundary=b", "Accept": accept, "Origin": visitor.url}
    async with visitor.http.post(
        f"{visitor.url}/pagews/form", data=body, headers=usual | headers, allow_redirects=False
    ) as response:
        get = response.headers.get
        text = await response.text()
        return Answer(response.status, text, get("Set-Cookie", ""), get("Location", ""), get("Retry-After", ""))


class Slow:
    """The body of a form that stops in the middle of its file, until `go` is set."""

    def __init__(self, begin: bytes) -> None:
        self.go = asyncio.Event()
        # aiohttp reads some KiB ahead.
        self._begin = begin + part('form-data; name="file"; filename="a"', b"x" * 50_000)

    async def body(self) -> AsyncIterator[bytes]:
        """Its bytes."""
        yield self._begin[:-6]
        await self.go.wait()
        yield self._begin[-6:] + END


class Clerk:
    """A delegate, `keep`, that may be held up.

    Attributes:
        began: it has begun.
        go: it may end.
        users: as whom it ran.
        data: what it was given.
    """

    def __init__(self, *, waits: bool = False) -> None:
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.users: list[str | None] = []
        self.data: list[Any] = []
        self.delegates = pagews.DelegateTableDef()
        if not waits:
            self.go.set()

        @self.delegates.on("keep")
        async def keep(page: pagews.Page, data: Any) -> str:
            self.users.append(None if page.user is None else page.user.id)
            self.data.append(data)
            self.began.set()
            await self.go.wait()
            return "kept"
