"""The supervisor of the demo's workers, and workers that do not start: a shell script stands in for their Python."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from demo import supervisor
from demo.supervisor import Worker
from tests.two_workers import until

#: Says which process it is. The second one hangs, the others listen until they are killed.
SCRIPT: Final = """#!/bin/sh
echo $$ >> "$PIDS"
test "$(wc -l < "$PIDS")" -eq 2 || echo listens
exec sleep 60
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "python"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return script


@asynccontextmanager
async def kept(pids: Path) -> AsyncIterator[None]:
    """A worker that is started again."""
    worker = Worker("A", "127.0.0.1", 1, {**os.environ, "PIDS": str(pids)})
    await worker.start()
    keeping = asyncio.create_task(worker.keep())
    try:
        yield
        assert not keeping.done()
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await worker.stop()


def started(pids: Path) -> list[int]:
    return [int(line) for line in pids.read_text().split()]


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.usefixtures("script")
async def test_a_worker_that_hangs_as_it_starts_is_ended_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    async with kept(pids):
        monkeypatch.setattr(supervisor, "START_WITHIN", 0.2)
        os.kill(started(pids)[0], 9)
        await until(lambda: len(started(pids)) == 3)
        assert not runs(started(pids)[1])


async def test_a_worker_that_could_not_be_started_is_tried_again(
    tmp_path: Path, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pids, elsewhere = tmp_path / "pids", script.with_suffix(".elsewhere")
    async with kept(pids):
        os.rename(script, elsewhere)
        os.kill(started(pids)[0], 9)
        await until(lambda: "worker A2 has not started: [Errno 2]" in capsys.readouterr().out)
        os.rename(elsewhere, script)
        await until(lambda: len(started(pids)) == 2)
