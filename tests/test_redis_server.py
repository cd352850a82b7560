"""The Redis of the tests does what its tests rely on."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_py

from tests.redis_server import PATIENCE, RedisServer

#: Starts one, says who it is, and waits.
STARTER = """
import sys
from pathlib import Path
from tests.redis_server import RedisServer
with RedisServer(Path(sys.argv[1]), Path(sys.argv[2])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


async def test_the_shared_one_persists_nothing_and_evicts_nothing(redis: RedisServer) -> None:
    assert await redis.command("DBSIZE") == 0
    assert await redis.command("SET", "a", "1")
    for name, value in (("save", ""), ("appendonly", "no"), ("maxmemory-policy", "noeviction"), ("bind", "127.0.0.1")):
        assert await redis.command("CONFIG", "GET", name) == [name, value]


async def test_each_test_finds_the_shared_one_empty(redis: RedisServer) -> None:
    assert await redis.command("DBSIZE") == 0


async def test_killed_and_started_again_it_is_another_and_empty(own_redis: RedisServer) -> None:
    url, before = own_redis.url, (await own_redis.command("INFO", "server"))["run_id"]
    await own_redis.command("SET", "a", "1")
    own_redis.kill()
    with pytest.raises(redis_py.ConnectionError):
        await own_redis.command("PING")
    await own_redis.restart()
    assert own_redis.url == url
    assert (await own_redis.command("INFO", "server"))["run_id"] != before
    assert await own_redis.command("DBSIZE") == 0


async def test_a_restart_with_data_has_what_there_was_or_what_was_dumped(own_redis: RedisServer) -> None:
    await own_redis.command("SET", "a", "1")
    await own_redis.restart(data=True)
    assert await own_redis.command("GET", "a") == "1"
    await own_redis.dump()
    await own_redis.command("SET", "a", "2")
    own_redis.kill()
    await own_redis.restart(data=True)
    assert await own_redis.command("GET", "a") == "1"
    await own_redis.restart()
    assert await own_redis.command("DBSIZE") == 0


async def test_stopped_it_answers_nobody_until_it_goes_on(own_redis: RedisServer) -> None:
    own_redis.stop()
    with redis_py.Redis.from_url(own_redis.url, socket_timeout=0.05, socket_connect_timeout=1) as impatient:
        with pytest.raises(redis_py.TimeoutError):
            impatient.ping()
        own_redis.go_on()
    assert await own_redis.command("PING")
    own_redis.stop()
    own_redis.kill()


async def test_connections_are_cut_by_their_kind(own_redis: RedisServer) -> None:
    with redis_py.Redis.from_url(own_redis.url, socket_timeout=PATIENCE) as client, client.pubsub() as pubsub:
        pubsub.subscribe("news")
        assert pubsub.get_message(timeout=PATIENCE) is not None
        assert await own_redis.command("PUBSUB", "NUMSUB", "news") == ["news", 1]
        assert await own_redis.cut("pubsub") == 1
        assert await own_redis.cut("pubsub") == 0


async def test_a_replica_follows_until_it_is_promoted(own_redis: RedisServer) -> None:
    await own_redis.command("SET", "a", "1")
    replica = await own_redis.replica()
    assert await replica.command("GET", "a") == "1"
    await own_redis.command("SET", "a", "2")
    await own_redis.replicated()
    assert await replica.command("GET", "a") == "2"
    with pytest.raises(redis_py.ReadOnlyError):
        await replica.command("SET", "a", "3")
    await replica.promote()
    await own_redis.command("SET", "a", "3")
    assert await replica.command("GET", "a") == "2"
    await replica.command("SET", "a", "4")
    assert await own_redis.command("GET", "a") == "3"


async def test_a_replica_takes_the_place_of_a_master_that_was_killed(own_redis: RedisServer) -> None:
    await own_redis.command("SET", "a", "1")
    replica, url = await own_redis.replica(), own_redis.url
    own_redis.kill()
    await replica.succeed()
    assert replica.url == url
    await replica.command("SET", "b", "2")
    await replica.restart(data=True)
    assert await replica.command("MGET", "a", "b") == ["1", "2"]


async def test_a_master_that_has_lost_its_place_keeps_its_clients(own_redis: RedisServer) -> None:
    replica, url = await own_redis.replica(), own_redis.url
    with redis_py.Redis.from_url(url, single_connection_client=True) as old:
        old.set("a", "1")
        await own_redis.replicated()
        await replica.succeed()
        assert (replica.url, own_redis.url != url) == (url, True)
        old.set("a", "2")
        with redis_py.Redis.from_url(url) as new:
            assert (old.get("a"), new.get("a")) == (b"2", b"1")
        assert await own_redis.command("GET", "a") == "2"


async def test_settings_that_can_be_changed(own_redis: RedisServer) -> None:
    await own_redis.config("maxmemory", 1)
    with pytest.raises(redis_py.OutOfMemoryError):
        await own_redis.command("SET", "a", "3")


async def test_settings_that_it_does_not_take_end_the_test(redis_program: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"FATAL CONFIG FILE ERROR|Can't chdir"),
        RedisServer(redis_program, tmp_path / "nowhere"),
    ):
        pass


def test_it_ends_with_whoever_started_it(root: Path, redis_program: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(redis_program), str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        server = os.pidfd_open(int(starter.stdout.readline()))
        try:
            starter.kill()
            readable, _, _ = select.select([server], [], [], PATIENCE)
        finally:
            os.close(server)
        assert readable == [server]
