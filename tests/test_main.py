"""The command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from pytest_aiohttp import AiohttpClient

import pagews
from pagews.__main__ import main
from pagews.redis_broker import RedisBroker
from pagews.testing import Browser
from pagews.tokens import read_keys
from tests.redis_server import RedisServer
from tests.views import site


def test_key_prints_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key"]) == 0
    printed = capsys.readouterr().out.strip()
    assert read_keys(printed)


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "command" in capsys.readouterr().err


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pagews", "--help"], capture_output=True, check=True, text=True, timeout=60
    )
    assert "key" in done.stdout
    assert "push" in done.stdout


# --- push -------------------------------------------------------------------------------------------------------------


async def push(*arguments: str) -> int:
    """Run the command in a thread, as it makes a loop of its own."""
    return await asyncio.to_thread(main, ["push", *arguments])


async def test_push(aiohttp_client: AiohttpClient, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis.url)
    app = site(broker=redis.url)
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open("/open?topic=news")
        [here] = await pagews.get_publisher(app).topic("news").pages()
        for target in ("topic:news", f"page:{page.id}", f"session:{here.session.id}"):
            assert await push(target, "growl", json.dumps({"to": target})) == 0
            assert await page.expect("growl") == {"to": target}
        for _ in range(2):
            assert await push("topic:news", "order", "7", "--key", "order-7") == 0
        assert await push("topic:news", "tick", "--qos", "0") == 0
        assert await page.expect("tick") is None
        assert [message.delegate for message in page.received].count("order") == 1


async def test_push_reads_standard_input(redis: RedisServer) -> None:
    command = [sys.executable, "-m", "pagews", "push", "--broker", redis.url, "topic:news", "growl", "-"]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
    await process.communicate(b'{"text": "from a file"}')

    assert process.returncode == 0
    [[_, entry]] = await redis.command("XRANGE", "pagews:channel:topic:news", "-", "+")
    assert '{"text":"from a file"}' in entry["b"]


async def test_push_waits_for_an_answer(
    aiohttp_client: AiohttpClient, redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Browser(await aiohttp_client(site(broker=redis.url))) as browser:
        page = await browser.open("/open?topic=news")
        page.on("confirm", lambda data: data["n"] + 1)

        assert await push("--broker", redis.url, "topic:news", "confirm", '{"n": 1}', "--qos", "2") == 0

        assert json.loads(capsys.readouterr().out) == {"page": page.id, "ok": True, "value": 2}

        def refuse(data: object) -> None:
            raise ValueError("never")

        page.on("refuse", refuse)
        assert await push("--broker", redis.url, "topic:news", "refuse", "--qos", "2") == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["ok"], printed["value"]) == (False, {"code": "ValueError", "message": "never"})


async def test_push_that_nobody_answers(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert await push("--broker", redis.url, "user:ann", "confirm", "--qos", "2", "--timeout", "0.01") == 3
    assert "nobody has answered" in capsys.readouterr().err


async def test_push_to_a_site_with_a_prefix(aiohttp_client: AiohttpClient, redis: RedisServer) -> None:
    async with Browser(await aiohttp_client(site(broker=RedisBroker(redis.url, prefix="shop:")))) as browser:
        page = await browser.open("/open?topic=news")
        assert await push("--broker", redis.url, "topic:news", "growl", "1") == 0
        assert await push("--broker", redis.url, "--prefix", "shop:", "topic:news", "growl", "2") == 0

        assert await page.expect("growl") == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["topic:news", "growl", "{"], "no JSON"),
        (["news", "growl"], "topic:NAME"),
        (["topic:", "growl"], "a topic"),
        (["topic:news", "pagews.dom"], "belong to pagews"),
        (["topic:news", "growl", "--ttl", "-1"], "above zero"),
        (["topic:news", "growl", "--qos", "2", "--timeout", "-1"], "--timeout -1.0: give seconds above zero"),
        (["topic:news", "growl", "--qos", "2", "--timeout", "nan"], "--timeout nan: give seconds above zero"),
        (["topic:news", "growl", "--qos", "0", "--key", "k"], "takes no key"),
        (["topic:news", "growl", "--broker", "memory://"], "application's own"),
        (["topic:news", "growl", "--broker", ""], "give --broker"),
    ],
)
async def test_push_of_what_is_wrong(
    redis: RedisServer, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await push("--broker", redis.url, *arguments) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["topic:news"], ["topic:news", "growl", "--qos", "3"]])
def test_push_of_too_little(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["push", *arguments])
    assert exited.value.code == 2


async def test_push_while_the_broker_is_away(own_redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    own_redis.kill()
    assert await push("--broker", own_redis.url, "topic:news", "growl") == 1
    assert "not reached" in capsys.readouterr().err
