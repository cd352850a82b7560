"""A worker in a process of its own: `python -m tests.redis_worker PORT KEY URL`.

It is on 127.0.0.1, takes PORT with others if there are such, writes a line when it listens, and stops on SIGTERM. Its
delegates: `echo` returns what it is given, `hang` never does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from aiohttp import web

from pagews import DelegateTableDef, Limits, Page
from tests.sites import TestSite
from tests.two_workers import TIMES

ROOT: Final = Path(__file__).resolve().parent.parent

#: Of all workers beside one in a process: many at once may keep a machine busy.
LIMITS: Final = Limits(**{**TIMES, "lease": 3.0, "heartbeat": 8.0})

table: Final = DelegateTableDef()


@table.on("echo")
async def echo(page: Page, data: object) -> object:
    return data


@table.on("hang")
async def hang(page: Page, data: object) -> None:
    # The number of its process, for whoever is to end it.
    await page.push("hangs", os.getpid())
    await asyncio.Event().wait()


def main() -> None:
    port, key, url = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    app = TestSite(key=key, broker=url, limits=LIMITS, delegates=table).app
    web.run_app(
        app,
        host="127.0.0.1",
        port=port,
        reuse_port=True,
        access_log=None,
        print=lambda _: print("listens", flush=True),
    )


if __name__ == "__main__":
    main()
