"""The body of a form that the browser posts, read within bounds: texts in memory, files in temporary ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .delegates import RESERVED
from .form_parts import Part, Parts
from .requests import HEADERS, TOKEN_BODY, Pace, check_announced, in_time, read_body, too_large
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
EPOCH: Final = f"{RESERVED}epoch"
ID: Final = f"{RESERVED}id"
_OWN: Final = frozenset({TOKEN, DELEGATE, BACK, DOCUMENT, EPOCH, ID})

#: Fields of one form, and files among them: each file may keep a file of the disk open.
MOST_FIELDS: Final = 500
MOST_FILES: Final = 30
#: Bytes of a file that are written at once.
CHUNK: Final = 256 * 1024
#: Files have the time, behind the first `limits.stuck` seconds, in which the largest form comes with so many bytes a
#: second: a form with files keeps one of a few places.
FILES_RATE: Final = 56 * 1024


class FormBody:
    """The fields of one form. What pagews has written into it itself is in `hidden`.

    Read it with `read_texts`, then with `read_files`, and close it: then its files are gone.

    Raises:
        web.HTTPRequestEntityTooLarge: it has more than `limits.upload` bytes, texts of more than `limits.message_up`,
            or too many fields. web.HTTPRequestTimeout: it came too slowly, see `Pace` and `FILES_RATE`.
        web.HTTPBadRequest: it broke off, or is no form.
    """

    def __init__(self, request: web.Request, site: Site) -> None:
        self.fields: dict[str, list[str | Upload | None]] = {}
        self.hidden: dict[str, str] = {}
        self._request = request
        self._site = site
        self._pace = Pace(request, site)
        self._part: Part | None = None
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
            self._parts = Parts(self._request, self._check_received)
        await self._next()
        while self._part is not None and self._part.filename is None:
            await self._take_text(self._part)
            await self._next()

    @property
    def has_files(self) -> bool:
        """Whether there is more to read, once its texts are."""
        return self._part is not None

    async def read_files(self) -> None:
        """Read the rest."""
        limits = self._site.limits
        async with in_time(self._site, limits.stuck + limits.upload / FILES_RATE):
            while self._part is not None:
                if self._part.filename is None:
                    await self._take_text(self._part)
                else:
                    await self._take_file(self._part, self._part.filename)
                await self._next()

    def close(self) -> None:
        """Delete its files."""
        for upload in self._uploads:
            upload.close()

    async def _read_urlencoded(self) -> None:
        limits = self._site.limits
        # Three characters may stand for one byte.
        most = 3 * limits.message_up + TOKEN_BODY
        body = await read_body(self._request, self._site, most)
        async with self._reading():
            self._check_count(body.count(b"&"), MOST_FIELDS + len(_OWN), "fields")
            pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
            for name, text in pairs:
                self._add_text(name, text)

    async def _next(self) -> None:
        # Parts that have come already are read without a wait: others have their turn between them.
        await asyncio.sleep(0)
        async with self._reading():
            self._part = await self._parts.next_field()

    async def _take_text(self, part: Part) -> None:
        text = bytearray()
        while not part.reader.at_eof():
            text += await self._read(part)
            self._check_text(len(text))
        async with self._reading():
            self._add_text(part.name, text.decode())

    async def _take_file(self, part: Part, filename: str) -> None:
        self._check_count(len(self._uploads) + 1, MOST_FILES, "files")
        upload = Upload(filename, part.reader.headers.get("Content-Type", "application/octet-stream"))
        self._uploads.append(upload)
        pending = bytearray()
        while not part.reader.at_eof():
            pending += await self._read(part)
            if len(pending) >= CHUNK:
                await upload.append(bytes(pending))
                pending.clear()
        await upload.append(bytes(pending))
        upload.rewind()
        # What a browser sends of a file field in which nothing was chosen.
        nothing = not filename and not upload.size
        self._add(part.name, None if nothing else upload)

    async def _read(self, part: Part) -> bytes:
        async with self._reading():
            # Of its own size: a larger one is looked for beyond the end of a short part, and waited for.
            return await part.reader.read_chunk()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        try:
            async with self._pace.step():
                yield
        except (ValueError, RuntimeError, LookupError, HttpProcessingError) as error:
            self._site.counters.refused["malformed form"] += 1
            raise web.HTTPBadRequest(text="This is no form.\n", headers=HEADERS) from error

    def _check_received(self) -> None:
        received = self._request.content.total_bytes
        if received > self._site.limits.upload:
            raise too_large(self._site, received, self._site.limits.upload)

    def _add_text(self, name: str, text: str) -> None:
        # A form that is posted has CRLF for the line ends that scripts see as LF.
        text = text.replace("\r\n", "\n")
        if name.startswith(RESERVED):
            if name not in _OWN or name in self.hidden:
                raise ValueError("a field of pagews is unknown, or there twice")
            self.hidden[name] = text
            return
        self._text_size += len(name) + len(text.encode())
        self._check_text(0)
        self._add(name, text)

    def _add(self, name: str, value: str | Upload | None) -> None:
        self._count += 1
        self._check_count(self._count, MOST_FIELDS, "fields")
        self.fields.setdefault(name, []).append(value)

    def _check_text(self, more: int) -> None:
        limit = self._site.limits.message_up
        # The fields of pagews itself have the length of a token.
        if self._text_size > limit or more > max(limit, TOKEN_BODY):
            raise too_large(self._site, self._text_size + more, limit)

    def _check_count(self, count: int, most: int, unit: str) -> None:
        if count > most:
            raise too_large(self._site, count, most, unit)
