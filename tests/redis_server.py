"""A real `redis-server` in a process of its own, on a free port of 127.0.0.1, with its data in memory.

    with RedisServer(program, directory) as server:
        broker = RedisBroker(server.url)
        ...
        server.kill()                         # as kill -9 does
        await server.restart()                # on the same port, empty

It ends with the process that has started it, also when that one is killed; so it must be started by a thread that lives
as long, which the main thread does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults import HOST
from tests.ports import free_port

#: Seconds that the server may take to start, to answer, or to have its replica follow.
PATIENCE: Final = 10.0

#: Times that it is started on another port, should somebody have been faster.
_ATTEMPTS: Final = 10
_DUMP: Final = "dump.rdb"


class RedisServer:
    """A Redis, empty at first, that persists nothing of its own accord.

    Arguments:
        program: where it is.
        directory: an empty one for what it keeps.
        master: whom it replicates; None: nobody.

    Attributes:
        said: what it has written to its log.
    """

    def __init__(self, program: Path, directory: Path, *, master: RedisServer | None = None) -> None:
        self.said: list[str] = []
        self._program = program
        self._directory = directory
        self._master = master
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread
        self._client: redis.Redis
        self._replicas = contextlib.ExitStack()
        self._replica_count = 0

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self._port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS):
            self._port = free_port()
            if self._ready(self._spawn()):
                return self
            self.kill()
        raise AssertionError("".join(self.said))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._replicas.close()
        self.kill()

    # --- its process --------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End it with SIGKILL. Its clients see the end of their connections, also those of one that is stopped."""
        if self._process is None:
            return
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(PATIENCE)
        self._listener.join(PATIENCE)
        self._process.stdout.close()
        self._process = None
        self._client.close()

    def stop(self) -> None:
        """Let it stand still with SIGSTOP: its connections stay, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let it go on where it was stopped."""
        os.kill(self.pid, signal.SIGCONT)

    async def restart(self, *, data: bool = False) -> None:
        """Kill it if it runs, and start it on the same port: empty, or with its `data`.

        That is what it had, if it ran; if it was killed before, what it had at its last `dump`.
        """
        if self._process is not None:
            if data:
                await self.dump()
            self.kill()
        if not data:
            (self._directory / _DUMP).unlink(missing_ok=True)
        assert await asyncio.to_thread(self._ready, self._spawn()), "".join(self.said)

    async def dump(self) -> None:
        """Write its data to its directory, for a `restart`."""
        await self.command("SAVE")

    # --- what is in it ------------------------------------------------------------------------------------------------

    async def command(self, *arguments: str | bytes | int | float) -> Any:
        """Run a command; returns the answer, in strings as in the second version of its protocol."""
        return await asyncio.to_thread(self._client.execute_command, *arguments)

    async def config(self, name: str, value: str | int) -> None:
        """Change a setting, until it is started again."""
        await self.command("CONFIG", "SET", name, value)

    async def flush(self) -> None:
        """Delete every key."""
        await self.command("FLUSHALL")

    async def cut(self, kind: Literal["normal", "pubsub"]) -> int:
        """Close the connections of one kind, but for the one that says so; returns how many there were."""
        count: int = await self.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        return count

    # --- replication --------------------------------------------------------------------------------------------------

    async def replica(self) -> RedisServer:
        """Start another that replicates this one and has all that is in it now. It ends with this one's test."""
        self._replica_count += 1
        directory = self._directory / f"replica-{self._replica_count}"
        directory.mkdir()
        replica = self._replicas.enter_context(RedisServer(self._program, directory, master=self))
        await self.replicated()
        return replica

    async def replicated(self) -> None:
        """Wait until every replica has all that has been written until now."""
        # One connection for both: WAIT means what was written before its connection's last command.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.execute_command("PING")
        pipeline.execute_command("WAIT", self._replica_count, int(PATIENCE * 1000) - 1000)
        _, count = await asyncio.to_thread(pipeline.execute)
        assert count >= self._replica_count, "".join(self.said)

    async def promote(self) -> None:
        """Make this replica a master. What its own is told from now on, it lacks."""
        await self.command("REPLICAOF", "NO", "ONE")
        self._master = None

    async def succeed(self) -> None:
        """Promote this replica and let it listen on its master's port, as when an address moves.

        If the master is alive, it keeps the clients that it has, and listens on another port.
        """
        assert self._master is not None, "it is no replica"
        master, port = self._master, self._master.port
        await self.promote()
        if master._process is not None:
            await master._listen_on(free_port())
        await self._listen_on(port)

    async def _listen_on(self, port: int) -> None:
        await self.config("port", port)
        self._client.close()
        self._port = port
        self._client = self._make_client()

    # --- underneath ---------------------------------------------------------------------------------------------------

    def _spawn(self) -> queue.SimpleQueue[bool]:
        """Start the process; what is returned says whether it accepts connections, or has ended."""
        command = ["setpriv", "--pdeathsig", "KILL", str(self._program)]
        settings: dict[str, list[str]] = {
            "bind": [HOST],
            "port": [str(self._port)],
            "dir": [str(self._directory)],
            "dbfilename": [_DUMP],
            "save": [""],
            "appendonly": ["no"],
            # A replica begins at once, and needs no file for it.
            "repl-diskless-sync": ["yes"],
            "repl-diskless-sync-delay": ["0"],
        }
        if self._master is not None:
            settings["replicaof"] = [HOST, str(self._master.port)]
        for name, values in settings.items():
            command += [f"--{name}", *values]
        self._process = process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._client = self._make_client()
        ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, args=(process, ready), daemon=True)
        self._listener.start()
        return ready

    def _make_client(self) -> redis.Redis:
        return redis.Redis(
            host=HOST,
            port=self._port,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            protocol=2,
            decode_responses=True,
            encoding_errors="backslashreplace",
            retry=Retry(NoBackoff(), 0),
        )

    def _listen(self, process: subprocess.Popen[bytes], ready: queue.SimpleQueue[bool]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line.decode(errors="backslashreplace"))
            if b"Ready to accept connections" in line:
                ready.put(True)
        ready.put(False)

    def _ready(self, ready: queue.SimpleQueue[bool]) -> bool:
        try:
            return ready.get(timeout=PATIENCE)
        except queue.Empty:
            self.kill()
            raise AssertionError("".join(self.said)) from None
