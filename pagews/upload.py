"""Files that come with a form: each in a temporary file of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import Final, TypeVar

T = TypeVar("T")

#: Bytes of one file that are kept in memory; a larger one goes to the disk.
IN_MEMORY: Final = 64 * 1024


class Upload:
    """A file that a form has brought. A delegate gets it as the value of its field, also by an annotation:

        class Photo(Struct):
            title: str
            image: pagews.Upload

    It is deleted when the delegate has ended: read it or save it before. A file field in which nothing was chosen is
    None, and not in a list of files.

    Attributes:
        filename: what the browser says, whatever it is: it may name a folder, and is no name to save the file under.
        content_type: what the browser says, likewise.
        size: bytes.
        file: the contents, open for reading in binary, at its beginning. Reading it may wait for the disk: from a
            thread, please.
    """

    __slots__ = ("content_type", "file", "filename", "size")

    def __init__(self, filename: str, content_type: str) -> None:
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        self.file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # it stays open

    def __repr__(self) -> str:
        return f"<Upload, {self.size} bytes>"

    async def read(self) -> bytes:
        """All of it, as bytes in memory.

        Raises:
            ValueError: its delegate has ended.
        """
        return await _in_thread(self._read)

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Copy it to a file, which is replaced if it exists.

        Raises:
            OSError: the file cannot be written. ValueError: its delegate has ended.
        """
        await _in_thread(lambda: self._save(path))

    async def append(self, data: bytes) -> None:
        """What has come of it."""
        self.size += len(data)
        await _in_thread(lambda: self.file.write(data))

    def rewind(self) -> None:
        """All of it has come."""
        self.file.seek(0)

    def close(self) -> None:
        """Delete it."""
        self.file.close()

    def _read(self) -> bytes:
        self.file.seek(0)
        return self.file.read()

    def _save(self, path: str | os.PathLike[str]) -> None:
        self.file.seek(0)
        with open(path, "wb") as target:
            shutil.copyfileobj(self.file, target)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run what waits for the disk. A thread cannot be stopped: who is cancelled waits for it, so that nobody closes a
    file under its hands.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
