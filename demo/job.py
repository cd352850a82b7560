"""A long job that tells its page how far it is: it really counts the lines of Python's standard library."""

import asyncio
from pathlib import Path

from aiohttp import web

import pagews
from demo.running import PageTasks

PACE = 0.15  # seconds between two packages, so that one can watch

JOBS = web.AppKey("jobs", PageTasks)

delegates = pagews.DelegateTableDef()


@delegates.on("job_start")
async def start(page: pagews.Page, data: None) -> None:
    page.app[JOBS].start(page, count_library(page))


@delegates.on("job_cancel")
async def cancel(page: pagews.Page, data: None) -> bool:
    return page.app[JOBS].stop(page.id)


async def count_library(page: pagews.Page) -> None:
    packages = await asyncio.to_thread(library_packages)
    total = 0
    for done, package in enumerate(packages, start=1):
        lines = await asyncio.to_thread(count_lines, package)
        total += lines
        await page.push("job_log", f"{package.name}: {lines:,} lines")
        await page.push("job_progress", {"done": done, "of": len(packages), "lines": total})
        await asyncio.sleep(PACE)
    await page.push("job_end", {"packages": len(packages), "lines": total})


def library_packages() -> list[Path]:
    library = Path(asyncio.__file__).parent.parent
    return sorted(init.parent for init in library.glob("*/__init__.py") if init.parent.name != "test")


def count_lines(package: Path) -> int:
    return sum(source.read_bytes().count(b"\n") for source in package.rglob("*.py"))


def setup(app: web.Application) -> None:
    app[JOBS] = PageTasks(limit=8)
