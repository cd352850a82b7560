"""Servers of the tests in processes of their own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

#: Seconds that one may take until it listens.
PATIENCE: Final = 30


@asynccontextmanager
async def serving_process(module: str, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m module`, which writes a line when it listens. It ends with the test, also when that is killed."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", module, *map(str, arguments)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"listens\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
