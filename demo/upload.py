"""A file goes up while the page hears what it is told meanwhile, and without JavaScript too."""

import asyncio
import hashlib

from msgspec import Struct

import pagews

delegates = pagews.DelegateTableDef()


class Sent(Struct):
    file: pagews.Upload | None


@delegates.on("upload_digest")
async def digest(page: pagews.Page, data: Sent) -> str:
    if data.file is None:
        raise pagews.DelegateError("no-file", "Choose a file first.")
    sha256 = await asyncio.to_thread(hashlib.file_digest, data.file.file, "sha256")
    return f"{data.file.size:,} bytes came, and are gone again. SHA-256: {sha256.hexdigest()}"
