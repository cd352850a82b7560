"""A Chromium that is spoken to by the DevTools protocol and nothing between.

Playwright keeps every page visible and its timers quick. Tabs of this browser are hidden when another one is in front
of them, are throttled then as they are for users, and can be frozen.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from .journal import PATIENCE, Journal

#: What every document of a tab tells of itself, before its first script.
_TELL: Final = """
globalThis.told = (name, value = null) => tell(JSON.stringify([name, value]));
document.addEventListener("visibilitychange", () => told("visibility", document.visibilityState));
for (const name of ["freeze", "resume"]) document.addEventListener(name, () => told(name));
document.addEventListener("pagews:ready", ({ detail: page }) => {
  page.addEventListener("statechange", ({ detail: { state } }) => told("state", state));
});
"""


class Chromium:
    """A browser in a process of its own, with one window: `async with Chromium(path, directory, arguments)`.

    Arguments:
        directory: an empty one for what it keeps.
    """

    def __init__(self, path: Path, directory: Path, arguments: Sequence[str]) -> None:
        self._command = [
            str(path),
            "--headless",
            "--remote-debugging-port=0",
            f"--user-data-dir={directory}",
            *arguments,
            "about:blank",
        ]
        self._process: asyncio.subprocess.Process
        self._http: aiohttp.ClientSession
        self._ws: aiohttp.ClientWebSocketResponse
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, RealTab] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        async with asyncio.timeout(30):
            while b"DevTools listening on " not in (line := await self._process.stderr.readline()):
                assert line, "Chromium has ended"
        self._http = aiohttp.ClientSession()
        self._ws = await self._http.ws_connect(line.split()[-1].decode(), max_msg_size=0)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._drop(self._process.stderr))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            # Killed, it would leave its children to nobody.
            await self.call("Browser.close")
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            await self._end()

    async def _end(self) -> None:
        await self._ws.close()
        await self._http.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def new_tab(self) -> RealTab:
        """Open an empty tab, in front of all others."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = self._tabs[session] = RealTab(self, target, session)
        for method in ("Page.enable", "Runtime.enable"):
            await tab.call(method)
        await tab.call("Runtime.addBinding", name="tell")
        await tab.add_script(_TELL)
        return tab

    async def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; returns its result.

        Raises:
            AssertionError: it failed.
        """
        number = next(self._ids)
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._ws.send_json(message | {"sessionId": session} if session else message)
        async with asyncio.timeout(PATIENCE):
            said = await answer
        assert "error" not in said, f"{method}: {said['error']}"
        result: dict[str, Any] = said["result"]
        return result

    async def _listen(self) -> None:
        async for message in self._ws:
            said = json.loads(message.data)
            if "id" in said:
                answer = self._calls.pop(said["id"])
                if not answer.done():
                    answer.set_result(said)
            elif said.get("sessionId") in self._tabs:
                self._tabs[said["sessionId"]].happened(said["method"], said["params"])

    async def _drop(self, stderr: asyncio.StreamReader) -> None:
        while await stderr.read(4096):
            pass


class RealTab(Journal):
    """A tab. What its documents tell is noted, `visibility`, `freeze`, `resume` and `state` by themselves."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        super().__init__()
        self._browser = browser
        self._target = target
        self._session = session

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol for this tab; returns its result."""
        return await self._browser.call(method, self._session, **parameters)

    async def add_script(self, script: str) -> None:
        """Run a script in every document to come, before its own."""
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    async def open(self, url: str) -> None:
        """Load a page and wait until it is attached."""
        opened = self["state"].count("open") + 1
        await self.call("Page.navigate", url=url)
        await self.until(lambda: self["state"].count("open") == opened, "open page")

    async def run(self, expression: str) -> Any:
        """Evaluate an expression, and wait for it if it is a promise; returns its value."""
        evaluated = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in evaluated, evaluated["exceptionDetails"]
        return evaluated["result"].get("value")

    async def is_hidden(self) -> bool:
        """Whether its document is hidden from its own point of view."""
        return bool(await self.run("document.visibilityState") == "hidden")

    async def bring_to_front(self) -> None:
        """Show it, and hide the tab that was in front."""
        await self.call("Page.bringToFront")

    async def close(self) -> None:
        """Close it."""
        await self._browser.call("Target.closeTarget", targetId=self._target)

    async def freeze(self) -> None:
        """Stop its tasks, as the browser does to hidden tabs to save energy."""
        await self.call("Page.setWebLifecycleState", state="frozen")

    async def thaw(self) -> None:
        """Let its tasks go on."""
        await self.call("Page.setWebLifecycleState", state="active")

    def happened(self, method: str, parameters: dict[str, Any]) -> None:
        """The browser tells something of this tab."""
        if method == "Runtime.bindingCalled":
            name, value = json.loads(parameters["payload"])
            self.note(name, value)
        elif method == "Runtime.exceptionThrown":
            self.note("uncaught", parameters["exceptionDetails"]["text"])
