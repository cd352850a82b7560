"""How many bytes a browser loads for the client script."""

from __future__ import annotations

import asyncio
import gzip
import shutil
from pathlib import Path

_STATIC = Path(__file__).resolve().parent.parent / "static"
_ENTRY = _STATIC / "pagews.js"
_MINIFIER = ("npx", "--yes", "esbuild@0.28.2", "--bundle", "--minify", "--format=esm", "--log-level=error")
_MINIFIER_SECONDS = 60


async def script_kilobytes() -> tuple[float, str | None]:
    """Size of the client script with all that it imports, and a remark when it could not be minified."""
    minified = await _minified()
    if minified is not None:
        return len(gzip.compress(minified, 9)) / 1000, None
    sources = b"".join(path.read_bytes() for path in sorted(_STATIC.rglob("*.js")))
    return len(gzip.compress(sources, 9)) / 1000, "the client script is gzipped only: npx could not run esbuild on it"


async def _minified() -> bytes | None:
    if shutil.which(_MINIFIER[0]) is None:
        return None
    process = await asyncio.create_subprocess_exec(
        *_MINIFIER, str(_ENTRY), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_MINIFIER_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.terminate()
        await process.wait()
        return None
    return output if process.returncode == 0 else None
