"""One browser for all tests of this folder, and a fresh context, like a browser of its own, for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.faults import HOST, FaultProxy
from tests.wire_client import Transport

from .devtools import Chromium, RealTab
from .journal import PATIENCE
from .site import Site
from .tab import Tab

_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Playwright switches the back-forward cache off, and browsers of users have it.
_NOT_ITS_ARGUMENTS: Final = ("--disable-back-forward-cache",)

OpenTab = Callable[..., Awaitable[Tab]]
Serve = Callable[..., Awaitable[Site]]
StartProxy = Callable[[Site], Awaitable[FaultProxy]]
OpenRealTab = Callable[[str], Awaitable[RealTab]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder in one event loop: that of the browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    """The machine's Chromium."""
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium, args=_ARGUMENTS, ignore_default_args=_NOT_ITS_ARGUMENTS
        )
        yield launched
        await launched.close()


@pytest.fixture
def transport() -> Transport | None:
    """What the pages of a test are forced to; None: they choose."""
    return "websocket"


@pytest_asyncio.fixture(loop_scope="session")
async def serve(transport: Transport | None) -> AsyncIterator[Serve]:
    """Starts sites, which stop when the test is over."""
    async with AsyncExitStack() as stack:

        async def start(site: Site | None = None, *, port: int = 0, **setup: Any) -> Site:
            site = site or Site(**setup)
            site.transport = transport
            await site.start(port)
            stack.push_async_callback(site.stop)
            return site

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def put_proxy(serve: Serve) -> AsyncIterator[StartProxy]:
    """Puts proxies in front of sites; the browser is to load its pages through them."""
    async with AsyncExitStack() as stack:

        async def start(site: Site) -> FaultProxy:
            return await stack.enter_async_context(FaultProxy(HOST, site.port))

        yield start


@pytest.fixture
def context_options() -> dict[str, Any]:
    """What a test wants of its browser, as Playwright calls it."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def context(
    browser: Browser, put_proxy: StartProxy, context_options: dict[str, Any]
) -> AsyncIterator[BrowserContext]:
    """A browser without history and cookies. It is closed before sites and proxies are."""
    fresh = await browser.new_context(**context_options)
    fresh.set_default_timeout(PATIENCE * 1000)
    yield fresh
    # Playwright waits for ever for the end of a tab that has begun to load another page.
    async with asyncio.timeout(PATIENCE):
        await fresh.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_tab(context: BrowserContext) -> AsyncIterator[OpenTab]:
    """Opens tabs of one browser, and sees that nobody complained in any of them."""
    tabs: list[Tab] = []

    async def open_tab(url: str = "", *, state: str = "open", **options: Any) -> Tab:
        tab = await Tab.new(context, **options)
        tabs.append(tab)
        if url:
            await tab.open(url, state=state)
        return tab

    yield open_tab
    for tab in tabs:
        await tab.settle()
    assert [complaint for tab in tabs for complaint in tab.complaints] == []


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_browser(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    """A browser that nobody drives but the test."""
    async with Chromium(chromium, tmp_path_factory.mktemp("user data"), _ARGUMENTS) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def open_real_tab(put_proxy: StartProxy, real_browser: Chromium) -> AsyncIterator[OpenRealTab]:
    """Opens tabs of that browser: each hides those before it. They are closed before sites and proxies are."""
    tabs: list[RealTab] = []

    async def open_tab(url: str) -> RealTab:
        tabs.append(await real_browser.new_tab())
        await tabs[-1].open(url)
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        await tab.close()
    assert [complaint for tab in tabs for complaint in tab["uncaught"]] == []
