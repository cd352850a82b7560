"""The tests of this folder see it when a page complains, breaks the policy, or reloads."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext

from .conftest import Serve
from .tab import Tab


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        pytest.param("console.error('a mistake')", "error", id="console"),
        pytest.param("() => { setTimeout(() => { throw new Error('a mistake'); }); }", "uncaught", id="exception"),
        pytest.param("() => { Promise.reject(new Error('a mistake')); }", "uncaught", id="rejection"),
        pytest.param("() => { try { document.body.innerHTML = '<b>'; } catch {} }", "violation", id="markup"),
        pytest.param("() => { document.body.setAttribute('style', 'color: red'); }", "violation", id="style"),
    ],
)
async def test_a_complaint_is_seen(serve: Serve, context: BrowserContext, script: str, kind: str) -> None:
    site = await serve()
    tab = await Tab.new(context)
    await tab.open(f"{site.url}/")
    assert tab.complaints == []

    await tab.run(script)

    await tab.wait(kind)
    assert len(tab.complaints) == (2 if kind == "violation" else 1)


async def test_a_reload_is_seen(serve: Serve, context: BrowserContext) -> None:
    site = await serve()
    tab = await Tab.new(context)
    await tab.open(f"{site.url}/")
    assert tab["navigation"] == []

    async with tab.page.expect_event("load"):
        await tab.run("() => { location.reload(); }")

    assert tab["navigation"] == ["reload"]
