"""A long job that tells its page how far it is: it really counts the lines of Python's standard library."""

import asyncio
import secrets
from pathlib import Path

from aiohttp import web

import pagews
from demo.running import PageWork, State

PACE = 0.15  # seconds between two packages, so that one can watch

JOBS = web.AppKey("jobs", PageWork)

delegates = pagews.DelegateTableDef()


@delegates.on("job_start")
async def start(page: pagews.Page, data: None) -> None:
    await page.app[JOBS].start(page, {"job": secrets.token_hex(4), "done": 0, "lines": 0})


@delegates.on("job_cancel")
async def cancel(page: pagews.Page, data: None) -> bool:
    return await page.app[JOBS].stop(page)


async def count_next(page: pagews.Page, state: State) -> State | None:
    packages = await asyncio.to_thread(library_packages)
    job, done, total = state["job"], state["done"], state["lines"]
    if done == len(packages):
        await page.push("job_end", {"packages": done, "lines": total}, key=f"{job} end")
        return None
    package = packages[done]
    lines = await asyncio.to_thread(count_lines, package)
    done, total = done + 1, total + lines
    await page.push("job_log", f"{package.name}: {lines:,} lines", key=f"{job} log {done}")
    await page.push("job_progress", {"done": done, "of": len(packages), "lines": total}, key=f"{job} {done}")
    await asyncio.sleep(PACE)
    return {"job": job, "done": done, "lines": total}


def library_packages() -> list[Path]:
    library = Path(asyncio.__file__).parent.parent
    return sorted(init.parent for init in library.glob("*/__init__.py") if init.parent.name != "test")


def count_lines(package: Path) -> int:
    return sum(source.read_bytes().count(b"\n") for source in package.rglob("*.py"))


def setup(app: web.Application) -> None:
    app[JOBS] = PageWork("job", count_next, limit=8)
    app.on_startup.append(listen)


async def listen(app: web.Application) -> None:
    pagews.get_publisher(app).on_attach.append(app[JOBS].go_on)
