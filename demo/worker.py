"""``python -m demo.worker NAME HOST PORT``: one of the processes of ``python -m demo --workers``.

REDIS_URL and PAGEWS_SECRET_KEY are in the environment, which unlike the command line is nobody else's to read. It says
when it listens, and stops on SIGTERM, and when whoever has started it is no more.
"""

import asyncio
import os
import signal
import sys

from aiohttp import web

from demo.app import create_app
from pagews.redis_broker import RedisBroker

#: What the keys of the demo begin with: other sites may be on the same server.
PREFIX = "pagews-demo:"


async def serve(name: str, host: str, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    runner = web.AppRunner(
        create_app(broker=RedisBroker(os.environ["REDIS_URL"], prefix=PREFIX), worker=name),
        access_log=None,
        shutdown_timeout=5,
    )
    await runner.setup()
    await web.TCPSite(runner, host, port, reuse_port=True).start()
    print("listens", flush=True)
    await stopped.wait()
    loop.remove_reader(sys.stdin.fileno())
    await runner.cleanup()


if __name__ == "__main__":
    _, name, host, port = sys.argv
    asyncio.run(serve(name, host, int(port)))
