"""Fetches pages as a browser would, for the cookie and the page token that come with them."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, field

from benchmarks.errors import MeasurementFailed

_COOKIE = re.compile(r"^set-cookie: *([^;\r\n]+)", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(r"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_TOKEN = re.compile(r'data-page="([^"]+)"')

# For some thousand pages.
_FETCH_SECONDS = 60
# Kept connections that pages are fetched over at the same time.
_FETCH_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Visit:
    """What a browser knows after it has loaded a page."""

    port: int
    cookie: str
    token: str | None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(slots=True)
class Document:
    """One document of a browser, over all its sockets."""

    visit: Visit
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    attempt: int = 1
    epoch: str | None = None
    """Of the cursor; None until the first socket was cut."""
    seq: int = 0


async def fetch_visits(port: int, count: int) -> list[Visit]:
    """Load the page `count` times, each time as a browser that has never been here."""
    shares = [len(range(start, count, _FETCH_TOGETHER)) for start in range(_FETCH_TOGETHER)]
    async with asyncio.timeout(_FETCH_SECONDS):
        visits = await asyncio.gather(*(_fetch(port, share) for share in shares))
    return [visit for share in visits for visit in share]


async def _fetch(port: int, count: int) -> list[Visit]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return [await _visit(reader, writer, port) for _ in range(count)]
    finally:
        writer.close()


async def _visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> Visit:
    writer.write(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/html\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = _LENGTH.search(head)
    body = (await reader.readexactly(int(length[1]))).decode() if length else ""
    cookie = _COOKIE.search(head)
    if not head.startswith("HTTP/1.1 200 ") or cookie is None:
        raise MeasurementFailed(f"the page gave no session cookie: {head!r} {body!r}")
    token = _TOKEN.search(body)
    return Visit(port, cookie[1], token[1] if token else None)
