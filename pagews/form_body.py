"""The body of a form that the browser posts, read within bounds: texts in memory, files in temporary ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from .delegates import RESERVED
from .requests import HEADERS, TOKEN_BODY, check_announced, in_time, read_body, too_large
from .site import Site
from .upload import Upload

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"

#: What pagews writes into a form: the page's token, the delegate, and where to go afterwards; or, if its script posts
#: it, the document and a number, as of a send of qos 2.
TOKEN: Final = f"{RESERVED}token"
DELEGATE: Final = f"{RESERVED}delegate"
BACK: Final = f"{RESERVED}back"
DOCUMENT: Final = f"{RESERVED}document"
ID: Final = f"{RESERVED}id"
_OWN: Final = frozenset({TOKEN, DELEGATE, BACK, DOCUMENT, ID})

#: Fields of one form, and files among them: each file may keep a file of the disk open.
MOST_FIELDS: Final = 1000
MOST_FILES: Final = 100
#: Bytes of a file that are written at once.
CHUNK: Final = 256 * 1024


class FormBody:
    """The fields of one form. What pagews has written into it itself is in `hidden`.

    Read it with `read_texts`, then with `read_files`, and close it: then its files are gone.

    Raises:
        web.HTTPRequestEntityTooLarge: it has more than `limits.upload` bytes, texts of more than `limits.message_up`,
            or too many fields. web.HTTPRequestTimeout: nothing came for `limits.stuck` seconds.
        web.HTTPBadRequest: it broke off, or is no form.
    """

    def __init__(self, request: web.Request, site: Site) -> None:
        self.fields: dict[str, list[str | Upload | None]] = {}
        self.hidden: dict[str, str] = {}
        self._request = request
        self._site = site
        self._part: BodyPartReader | None = None
        self._count = 0
        self._text_size = 0
        self._uploads: list[Upload] = []

    async def read_texts(self) -> None:
        """Read up to the first file: by then it is known who speaks, and nothing has been kept for strangers."""
        if self._request.content_type == URLENCODED:
            await self._read_urlencoded()
            return
        check_announced(self._request, self._site, self._site.limits.upload)
        async with self._reading():
            self._parts = await self._request.multipart()
        await self._next()
        while self._part is not None and self._part.filename is None:
            await self._take_text(self._part)
            await self._next()

    async def read_files(self) -> None:
        """Read the rest."""
        while self._part is not None:
            if self._part.filename is None:
                await self._take_text(self._part)
            else:
                await self._take_file(self._part)
            await self._next()

    def close(self) -> None:
        """Delete its files."""
        for upload in self._uploads:
            upload.close()

    async def _read_urlencoded(self) -> None:
        limits = self._site.limits
        # Three characters may stand for one byte.
        most = 3 * limits.message_up + TOKEN_BODY
        async with self._reading():
            body = await read_body(self._request, self._site, most)
            self._check_count(body.count(b"&"), MOST_FIELDS + len(_OWN))
            pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
        for name, text in pairs:
            self._add_text(name, text)

    async def _next(self) -> None:
        async with self._reading():
            part = await self._parts.next()
            if isinstance(part, MultipartReader) or (part is not None and part.name is None):
                raise ValueError("a part is no field")
        self._part = part

    async def _take_text(self, part: BodyPartReader) -> None:
        text = bytearray()
        while not part.at_eof():
            text += await self._read(part)
            self._check_text(len(text))
        async with self._reading():
            decoded = text.decode()
        assert part.name is not None  # _next has seen to it
        self._add_text(part.name, decoded)

    async def _take_file(self, part: BodyPartReader) -> None:
        self._check_count(len(self._uploads) + 1, MOST_FILES)
        assert part.filename is not None
        assert part.name is not None
        upload = Upload(part.filename, part.headers.get("Content-Type", "application/octet-stream"))
        self._uploads.append(upload)
        pending = bytearray()
        while not part.at_eof():
            pending += await self._read(part)
            if len(pending) >= CHUNK:
                await upload.append(bytes(pending))
                pending.clear()
        await upload.append(bytes(pending))
        upload.rewind()
        # What a browser sends of a file field in which nothing was chosen.
        nothing = not part.filename and not upload.size
        self._add(part.name, None if nothing else upload)

    async def _read(self, part: BodyPartReader) -> bytes:
        async with self._reading():
            # Of its own size: a larger one is looked for beyond the end of a short part, and waited for.
            return await part.read_chunk()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        try:
            async with in_time(self._site, self._site.limits.stuck):
                yield
        except (ValueError, RuntimeError, LookupError, HttpProcessingError) as error:
            self._site.counters.refused["malformed form"] += 1
            raise web.HTTPBadRequest(text="This is no form.\n", headers=HEADERS) from error
        received = self._request.content.total_bytes
        if received > self._site.limits.upload:
            raise too_large(self._site, received, self._site.limits.upload)

    def _add_text(self, name: str, text: str) -> None:
        # A form that is posted has CRLF for the line ends that scripts see as LF.
        text = text.replace("\r\n", "\n")
        if name.startswith(RESERVED):
            if name in _OWN:
                self.hidden[name] = text
            return
        self._text_size += len(name) + len(text.encode())
        self._check_text(0)
        self._add(name, text)

    def _add(self, name: str, value: str | Upload | None) -> None:
        self._count += 1
        self._check_count(self._count, MOST_FIELDS)
        self.fields.setdefault(name, []).append(value)

    def _check_text(self, more: int) -> None:
        limit = self._site.limits.message_up
        # The fields of pagews itself have the length of a token.
        if self._text_size > limit or more > max(limit, TOKEN_BODY):
            raise too_large(self._site, self._text_size + more, limit)

    def _check_count(self, count: int, most: int) -> None:
        if count > most:
            raise too_large(self._site, count, most)
