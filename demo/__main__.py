"""``python -m demo``: serve the demo site."""

import argparse
import os

from aiohttp import web

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
    arguments = parser.parse_args()
    web.run_app(create_app(), host=arguments.host, port=arguments.port, shutdown_timeout=5)


main()
