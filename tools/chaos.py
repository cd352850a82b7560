"""Faults at random, and promises that are kept all the same: `make chaos SECONDS=600 SEED=7`.

Three workers on a real Redis, browsers that hop between them, publishers in every worker. Pages send, join and leave
topics, upload files, and log in and out; workers revoke sessions and users. Workers are killed with -9,
stopped and continued; their connections to Redis are cut and stalled; Redis is stopped, emptied, killed, and a replica
takes over. At the end all is well again, and every page catches up. Then the checker reads the logs: `chaos_check.py`.

The seed decides which faults come in which order, and what is pushed; the moments are those of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from pagews.tokens import new_key
from tests.faults import HOST, FaultProxy
from tests.ports import free_port
from tests.redis_server import RedisServer
from tools.chaos_check import Checker
from tools.chaos_log import ChaosLog, read_logs
from tools.chaos_page import Browser
from tools.chaos_worker import ALL, TOPICS, USERS
from tools.programs import find_redis

WORKERS: Final = 3
BROWSERS: Final = 12
BROKER: Final = "pagews.redis_broker:RedisBroker"

#: Seconds that everything has to start, and to catch up once all is well.
CALM: Final = 45.0

ROOT: Final = Path(__file__).resolve().parent.parent


class Worker:
    """A worker process that is started again whenever it ends, and reaches Redis through a proxy of its own."""

    def __init__(self, name: str, port: int, arguments: Sequence[str], proxy: FaultProxy, output: Path) -> None:
        self.name = name
        self.proxy = proxy
        self.url = f"http://{HOST}:{port}"
        self._command = [
            *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tools.chaos_worker"),
            *("--name", name, "--port", str(port), "--redis", f"redis://{HOST}:{proxy.port}/0", *arguments),
        ]
        self._output = output
        self._process: asyncio.subprocess.Process | None = None
        self._listens = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._keeping is not None
        self._keeping.cancel()
        await asyncio.wait([self._keeping])

    async def ready(self) -> None:
        """Wait until it serves."""
        await self._listens.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _keep(self) -> None:
        with self._output.open("ab") as output:
            while True:
                self._process = process = await asyncio.create_subprocess_exec(
                    *self._command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output
                )
                try:
                    assert process.stdout is not None
                    if await process.stdout.readline():
                        self._listens.set()
                    await process.wait()
                finally:
                    self._listens.clear()
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
                await asyncio.sleep(0.1)


class Chaos:
    """One run.

    Arguments:
        seed: decides what comes.
        directory: an empty one for the logs.
        broker: MODULE:CLASS of the workers' broker.
        kinds: names of `FAULTS` that may come; None: all.
        sends: whether the pages send.
        calm: seconds that everything has to catch up once all is well.
        say: told what happens.

    Attributes:
        counts: how many faults of each kind there were.
    """

    def __init__(
        self,
        seed: int,
        directory: Path,
        *,
        broker: str = BROKER,
        kinds: Sequence[str] | None = None,
        sends: bool = True,
        calm: float = CALM,
        say: Callable[[str], None] = print,
    ) -> None:
        program = find_redis()
        assert program is not None, "there is no redis-server; `make test` sees to it"
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._chance = random.Random(seed)
        self._directory = directory
        self._program = program
        self._broker = broker
        self._kinds = kinds or tuple(FAULTS)
        self._sends = sends
        self._calm = calm
        self._say = say
        self._began = time.monotonic()
        self._redis: RedisServer
        self._workers: list[Worker] = []
        self._browsers: list[Browser] = []

    async def run(self, seconds: float) -> Checker:
        """Let it all happen for some seconds, and check it."""
        async with AsyncExitStack() as stack:
            (self._directory / "redis").mkdir()
            first = stack.enter_context(RedisServer(self._program, self._directory / "redis"))
            self._redis = first
            arguments = ["--key", new_key(), "--seed", str(self._seed), "--directory", str(self._directory)]
            for number in range(WORKERS):
                proxy = await stack.enter_async_context(FaultProxy(HOST, first.port))
                output = self._directory / f"worker-{number}.txt"
                worker = Worker(f"w{number}", free_port(), [*arguments, "--broker", self._broker], proxy, output)
                self._workers.append(await stack.enter_async_context(worker))
            async with asyncio.timeout(CALM):
                await asyncio.gather(*(worker.ready() for worker in self._workers))
            urls = [worker.url for worker in self._workers]
            for number in range(BROWSERS):
                log = ChaosLog(self._directory / f"page-{number}.log")
                stack.callback(log.close)
                topics = (ALL, *TOPICS[: number % 3])
                browser = Browser(
                    urls,
                    log,
                    random.Random(f"{self._seed} page {number}"),
                    topics=topics,
                    user=[None, *USERS][number // 3 % 3],
                    sends=self._sends,
                )
                self._browsers.append(browser)
                task = asyncio.create_task(browser.run())
                stack.push_async_callback(_end, task)
            await self._disturb(seconds)
            complete = await self._calm_down()
        may_lose = any(LOSES[kind] for kind in self.counts)
        publishers, pages = (read_logs(self._directory, f"{kind}-*.log") for kind in ("publisher", "page"))
        checker = Checker(publishers, pages, may_lose=may_lose, complete=complete)
        if not complete:
            checker.violations.append(f"not every page has caught up within {self._calm:g} s of calm")
        return checker

    async def _disturb(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self._chance.uniform(0.2, 1.5))
            kind = self._chance.choice(self._kinds)
            self.counts[kind] += 1
            self._tell(kind)
            await FAULTS[kind](self)
            for worker in self._workers:
                _forget_links(worker.proxy)

    async def _calm_down(self) -> bool:
        """No more faults, no more pushes; whether every page has then seen a last one, and has no send unanswered."""
        self._tell("calm")
        try:
            async with asyncio.timeout(self._calm):
                for browser in self._browsers:
                    browser.hops = False
                await asyncio.gather(*(worker.ready() for worker in self._workers))
                marks = set[str]()
                async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
                    for worker in self._workers:
                        await self._post(http, f"{worker.url}/quiet")
                    while not all(browser.seen & marks and not browser.unanswered for browser in self._browsers):
                        marks.add(await self._post(http, f"{self._workers[0].url}/mark"))
                        await asyncio.sleep(0.5)
        except TimeoutError:
            return False
        return True

    async def _post(self, http: aiohttp.ClientSession, url: str) -> str:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.post(url, headers={"Origin": url.rpartition("/")[0]}) as response:
                    if response.status == 200:
                        return await response.text()
            await asyncio.sleep(0.2)

    def _tell(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:6.1f} s  {what}")

    # --- faults -------------------------------------------------------------------------------------------------------

    async def kill_worker(self) -> None:
        self._chance.choice(self._workers).signal(signal.SIGKILL)

    async def stop_worker(self) -> None:
        worker = self._chance.choice(self._workers)
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(self._chance.choice((0.3, 1.5, 4.0)))
        worker.signal(signal.SIGCONT)

    async def cut_lines(self) -> None:
        for link in self._chance.choice(self._workers).proxy.links:
            if link.open and self._chance.random() < 0.6:
                self._chance.choice((link.cut, link.reset))()

    async def stall_line(self) -> None:
        links = [link for link in self._chance.choice(self._workers).proxy.links if link.open]
        if links:
            link = self._chance.choice(links)
            self._chance.choice((link.stall, link.down.stall, link.up.stall))()
            await asyncio.sleep(self._chance.choice((0.3, 2.0, 4.0)))
            link.resume()

    async def cut_pubsub(self) -> None:
        await self._redis.cut("pubsub")

    async def stop_redis(self) -> None:
        self._redis.stop()
        await asyncio.sleep(self._chance.choice((0.2, 0.8, 2.5)))
        self._redis.go_on()

    async def empty_redis(self) -> None:
        await self._redis.flush()

    async def kill_redis(self) -> None:
        self._redis.kill()
        await asyncio.sleep(self._chance.uniform(0.0, 1.5))
        await self._redis.restart()

    async def fail_over(self) -> None:
        replica = await self._redis.replica()
        await asyncio.sleep(self._chance.uniform(0.0, 0.5))
        self._redis.kill()
        await asyncio.sleep(self._chance.uniform(0.0, 0.5))
        await replica.succeed()
        self._redis = replica


FAULTS: Final[dict[str, Callable[[Chaos], Awaitable[None]]]] = {
    "a worker is killed": Chaos.kill_worker,
    "a worker is stopped, and goes on": Chaos.stop_worker,
    "lines to Redis are cut": Chaos.cut_lines,
    "a line to Redis stalls": Chaos.stall_line,
    "pub/sub is cut": Chaos.cut_pubsub,
    "Redis is stopped, and goes on": Chaos.stop_redis,
    "Redis is emptied": Chaos.empty_redis,
    "Redis is killed, and comes back empty": Chaos.kill_redis,
    "Redis is killed, and a replica takes over": Chaos.fail_over,
}
#: Those after which a page may be told that it has lost something.
LOSES: Final = {kind: kind.startswith(("Redis is emptied", "Redis is killed")) for kind in FAULTS}
#: Those after which nothing may be lost.
HARMLESS: Final = tuple(kind for kind in FAULTS if not LOSES[kind])


def _forget_links(proxy: FaultProxy) -> None:
    """A proxy keeps all that has passed, for tests that look at it."""
    proxy.links[:] = [link for link in proxy.links if link.open]
    for link in proxy.links:
        link.down.data.clear()
        link.up.data.clear()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def main() -> None:
    """Run once; the exit status is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description="Random faults on workers and Redis, and an independent check.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long there are faults (default: 60)")
    parser.add_argument("--seed", type=int, help="without it a random one")
    parser.add_argument("--directory", type=Path, help="an empty one for the logs; default: a temporary one")
    parser.add_argument("--harmless", action="store_true", help="only faults after which nothing may be lost")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed}, logs in {directory}", flush=True)
    chaos = Chaos(seed, directory, kinds=HARMLESS if arguments.harmless else None)
    checker = asyncio.run(chaos.run(arguments.seconds))
    print(", ".join(f"{count} {what}" for what, count in sorted(checker.counts.items())))
    for violation in checker.violations:
        print(violation, file=sys.stderr)
    if checker.violations:
        sys.exit(f"promises were broken; again with: make chaos SECONDS={arguments.seconds:g} SEED={seed}")
    print("every promise was kept")


if __name__ == "__main__":
    main()
