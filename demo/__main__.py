"""``python -m demo``: serve the demo site."""

import argparse
import os
import sys

from aiohttp import web

from demo import supervisor
from demo.app import create_app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description="Serve the pagews demo site.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("PORT", "8080"),
        help="port to listen on (default: the environment's PORT, else 8080)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(1, supervisor.MOST + 1),
        metavar="N",
        default=1,
        help=f"how many processes serve the site on that port, up to {supervisor.MOST} (default: %(default)s)",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        default=os.environ.get("REDIS_URL"),
        help="the Redis that several workers share (default: the environment's REDIS_URL, else one is started)",
    )
    arguments = parser.parse_args()
    if arguments.workers == 1:
        web.run_app(create_app(), host=arguments.host, port=arguments.port, shutdown_timeout=5)
        return
    try:
        supervisor.run(arguments.workers, arguments.host, arguments.port, arguments.redis)
    except supervisor.Failed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
