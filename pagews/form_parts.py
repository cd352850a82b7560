"""The parts of a form that comes as `multipart/form-data`: aiohttp's reader of them, within bounds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs, web

from .private import private

#: Lines before the first part, or of the headers of one: aiohttp reads those without a pause, if they are there.
MOST_LINES: Final = 200

#: As HTML writes it ("Multipart form data"): a name may hold anything but what is escaped, backslashes too.
_DISPOSITION: Final = re.compile(r'form-data; *name="([^"]*)"(?:; *filename="([^"]*)")?')
_ESCAPED: Final = {"%22": '"', "%0D": "\r", "%0A": "\n"}
_ESCAPE: Final = re.compile("|".join(_ESCAPED))


@private
class Part(NamedTuple):
    """A field of a form that comes in parts. `filename`: None unless it is a file."""

    name: str
    filename: str | None
    reader: BodyPartReader


class Parts(MultipartReader):
    """The fields of a form, one after the other.

    aiohttp splits a name at each `;`. Of what it cannot split it warns, with the whole of it, and Python keeps every
    text of a warning: so it is not shown that header.

    Arguments:
        check: called whenever some of the body has been read.
    """

    def __init__(self, request: web.Request, check: Callable[[], None]) -> None:
        self._lines = _Lines(request.content, check)
        super().__init__(request.headers, cast(StreamReader, self._lines))
        self.multipart_reader_cls = self._whole  # type: ignore[assignment]  # called for such a part, as the class
        self._disposition = ""

    async def next_field(self) -> Part | None:
        """The next of them; None when there are no more.

        Raises:
            ValueError: it is none, and what else aiohttp raises.
        """
        self._lines.count = 0
        reader = await self.next()
        if reader is None:
            return None
        found = _DISPOSITION.fullmatch(self._disposition)
        if found is None or isinstance(reader, MultipartReader):
            raise ValueError("a part is no field")
        self._disposition.encode()  # bytes that are no UTF-8 end here
        name, filename = found.groups()
        return Part(_unescape(name), None if filename is None else _unescape(filename), reader)

    async def fetch_next_part(self) -> MultipartReader | BodyPartReader:
        """aiohttp asks for a part by this."""
        part = await super().fetch_next_part()
        if isinstance(part, BodyPartReader):
            headers = part.headers.copy()
            self._disposition = headers.pop(hdrs.CONTENT_DISPOSITION, "")
            headers.popall(hdrs.CONTENT_DISPOSITION, [])
            part.headers = type(part.headers)(headers)
        return part

    def _whole(self, headers: Any, content: StreamReader, **limits: object) -> BodyPartReader:
        """A file that is made of parts itself, such as a page that a browser has saved: to a form it is a file."""
        return self.part_reader_cls(self._boundary, headers, content, subtype=self._mimetype.subtype)


class _Lines:
    """The body as a reader of parts sees it, of which only so many lines are read at once."""

    def __init__(self, content: StreamReader, check: Callable[[], None]) -> None:
        self.count = 0
        self._content = content
        self._check = check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def readline(self, **limits: int) -> bytes:
        self.count += 1
        if self.count > MOST_LINES:
            raise ValueError("too many lines before a part")
        line = await self._content.readline(**limits)
        self._check()
        return line

    async def read(self, size: int) -> bytes:
        data = await self._content.read(size)
        self._check()
        return data


def _unescape(name: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPED[found[0]], name)
