"""One tab of the browser: its page, what the page has told the test, and what the browser has complained of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from playwright.async_api import BrowserContext, ConsoleMessage, Page

from .journal import Journal

#: What the browser itself writes when the network fails, and no script can help.
_NETWORK: Final = ("WebSocket connection to", "Failed to load resource")

_CONSOLE: Final = ("error", "warning", "assert")
_COMPLAINTS: Final = (*_CONSOLE, "uncaught", "violation")

_WATCH: Final = """
addEventListener("securitypolicyviolation", ({ violatedDirective, sourceFile, sample }) =>
  told("violation", { violatedDirective, sourceFile, sample }));
navigation.addEventListener("navigate", ({ navigationType }) => told("navigation", navigationType));
"""


_REPORT: Final = """
document.addEventListener("pagews:ready", ({{ detail: page }}) => {{
  for (const name of {watching}) page.addEventListener(name, ({{ detail }}) => told(name, detail));
  for (const name of {keeping}) page.addEventListener(name, (event) => event.preventDefault());
}});
"""


class Tab(Journal):
    """A tab. Its page can call `told(name, value)`, which is noted here; so is each `navigation` by a script.

    Attributes:
        page: Playwright's page.
        network_fails: set by a test that breaks the network: the browser's own words about that are no complaint.
        expected: words in the console that are no complaint, but noted as `expected`.
    """

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page
        self.network_fails = False
        self.expected = ""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.note("uncaught", str(error)))

    @classmethod
    async def new(
        cls,
        context: BrowserContext,
        *,
        without_jitter: bool = False,
        watching: Sequence[str] = (),
        keeping: Sequence[str] = (),
    ) -> Tab:
        """Open an empty tab.

        Arguments:
            without_jitter: the page does at once what it would do after a random time.
            watching: events of each page that is loaded, to be noted with their detail.
            keeping: events whose default is kept from happening.
        """
        tab = cls(await context.new_page())
        await tab.page.expose_binding("told", lambda source, name, value=None: tab.note(name, value))
        await tab.page.add_init_script(_WATCH)
        if without_jitter:
            await tab.page.add_init_script("Math.random = () => 0;")
        await tab.page.add_init_script(_REPORT.format(watching=json.dumps(watching), keeping=json.dumps(keeping)))
        return tab

    @property
    def complaints(self) -> list[str]:
        """Errors in the console, exceptions that nobody caught, violations of the policy."""
        return [f"{kind}: {what}" for kind in _COMPLAINTS for what in self[kind]]

    async def settle(self) -> None:
        """Return when everything that the page has said so far has been noted."""
        if not self.page.is_closed():
            await self.run("0")

    async def open(self, url: str, *, state: str = "open") -> None:
        """Load a page and wait until it is in a state of `pagews.state`."""
        await self.page.goto(url)
        await self.is_in(state)

    async def is_in(self, state: str) -> None:
        """Wait for a state of `pagews.state`."""
        await self.page.wait_for_function("state => window.pagews?.state === state", arg=state)

    async def shows(self, state: str) -> None:
        """Wait for a state of `html[data-pagews-state]`, which style sheets see."""
        await self.page.wait_for_selector(f'html[data-pagews-state="{state}"]')

    async def run(self, script: str, argument: Any = None) -> Any:
        """Run a JavaScript function, or the value of an expression, in the page; waits for a promise."""
        return await self.page.evaluate(script, argument)

    async def id(self) -> str:
        """The page's id."""
        return str(await self.run("pagews.id"))

    async def listen(self, delegate: str) -> None:
        """Register a delegate that tells its data under its own name."""
        await self.run("name => { pagews.on(name, (data) => { told(name, data); }); }", delegate)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in _CONSOLE or (self.network_fails and message.text.startswith(_NETWORK)):
            return
        self.note("expected" if self.expected and self.expected in message.text else message.type, message.text)
