"""The application that the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytest_aiohttp import AiohttpClient

from pagews.testing import Browser
from tests.markdown import ROOT, Example, rows

README = ROOT / "README.md"


async def test_shortest_application(
    aiohttp_client: AiohttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Example(tmp_path, monkeypatch).write("README.md").load("app").app
    async with Browser(await aiohttp_client(app)) as browser:
        here, there = await browser.open("/"), await browser.open("/")
        await there.cut()
        await here.send("shout", {"text": "hello"})
        await there.connect()

        assert await here.expect("heard") == {"text": "HELLO"}
        assert await there.expect("heard") == {"text": "HELLO"}
        assert 'data-pagews-send="shout"' in here.html
        assert 'data-pagews-text="heard:text"' in here.html


async def test_another_browser_does_not_hear_it(
    aiohttp_client: AiohttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Example(tmp_path, monkeypatch).write("README.md").load("app").app
    client = await aiohttp_client(app)
    async with Browser(client) as browser:
        page = await browser.open("/")
        client.session.cookie_jar.clear()
        stranger = await browser.open("/")

        await page.send("shout", {"text": "hello"})
        await stranger.send("shout", {"text": "hi"})

        assert await stranger.expect("heard") == {"text": "HI"}
        assert [message.data for message in stranger.received] == [{"text": "HI"}]


def test_its_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    commands = set(re.findall(r"(?:\$ |`)make (\w+)", README.read_text()))
    assert commands >= {"demo", "test"}
    for command in commands:
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


def test_its_guarantees_name_every_quality() -> None:
    header = next(row for row in rows(README.read_text()) if "qos 0" in row)
    assert header == ["", "qos 0", "qos 1, the default", "qos 2"]


def test_its_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README.read_text())
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG"), picture
