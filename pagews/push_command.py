"""`python -m pagews push`: one push from a shell, a cron job or another program."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Final

from .broker import Broker
from .errors import BrokerUnavailable, ConfigurationError, EncodingError, MessageTooLarge
from .limits import check_seconds
from .publisher import Publisher
from .push_targets import Qos, Target
from .receipts import Receipt

#: Exit codes. 2 is what argparse exits with.
ACCEPTED, UNAVAILABLE, WRONG, UNANSWERED = 0, 1, 2, 3

#: The environment variable that has the broker, which may hold a password that the command line would show to everyone.
ENVIRONMENT: Final = "REDIS_URL"

EPILOG: Final = f"""\
exit codes:
  {ACCEPTED}  the push was accepted; with --qos 2: and answered
  {UNAVAILABLE}  the broker is away, or its reply was lost; with --key it is safe to push again
  {WRONG}  the arguments are wrong
  {UNANSWERED}  --qos 2: nobody has answered in time

examples:
  python -m pagews push --broker redis://localhost topic:news headline '{{"title": "It works"}}'
  python -m pagews push user:ann note - < note.json"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those there are."""
    parser = commands.add_parser(
        "push",
        help="push to the pages of a running site",
        description="Push to the pages of a running site that shares its Redis.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", help="page:ID, session:ID, user:ID or topic:NAME")
    parser.add_argument("delegate", help="the receiver in the browser")
    parser.add_argument("data", nargs="?", default="null", metavar="JSON", help="its data; '-': from standard input")
    parser.add_argument(
        "--broker",
        metavar="URL",
        default=os.environ.get(ENVIRONMENT),
        help=f"the Redis of the site, redis://HOST:PORT/DB (default: {ENVIRONMENT} of the environment)",
    )
    parser.add_argument("--prefix", help="what the site has given its RedisBroker as prefix")
    parser.add_argument(
        "--qos", type=int, choices=(0, 1, 2), default=1, help="2: wait for answers (default: %(default)s)"
    )
    parser.add_argument("--ttl", type=float, metavar="SECONDS", help="after which it is not worth delivering any more")
    parser.add_argument("--key", help="idempotency key: however often it is pushed, it is filed once")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        default=10.0,
        help="to wait for the first answer of --qos 2, which is printed as JSON (default: %(default)g)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Push; returns the exit code."""
    try:
        return asyncio.run(push(options))
    except BrokerUnavailable as error:
        return _fail(UNAVAILABLE, error)
    except (ConfigurationError, EncodingError, MessageTooLarge, TypeError, ValueError) as error:
        return _fail(WRONG, error)


async def push(options: argparse.Namespace) -> int:
    check_seconds("--timeout", options.timeout)
    if not options.broker:
        raise ConfigurationError(f"give --broker redis://HOST:PORT, or set {ENVIRONMENT}")
    try:
        data = json.loads(sys.stdin.read() if options.data == "-" else options.data)
    except ValueError as error:
        raise ValueError(f"the data is no JSON: {error}") from error
    async with Publisher(_broker(options.broker, options.prefix)) as publisher:
        qos: Qos = options.qos
        target = _target(publisher, options.target)
        receipt: Receipt | None = await target.push(options.delegate, data, qos=qos, ttl=options.ttl, key=options.key)
        return ACCEPTED if receipt is None else await _print_answer(receipt, options.timeout)


async def _print_answer(receipt: Receipt, timeout: float) -> int:
    for ack in await receipt.wait(1, timeout):
        value = ack.value if ack.ok else {"code": ack.value.code, "message": ack.value.message}
        print(json.dumps({"page": ack.page_id, "ok": ack.ok, "value": value}))
        return ACCEPTED
    return _fail(UNANSWERED, f"nobody has answered in {timeout:g} s")


def _broker(url: str, prefix: str | None) -> str | Broker:
    if prefix is None:
        return url
    from .redis_broker import RedisBroker

    return RedisBroker(url, prefix=prefix)


def _target(publisher: Publisher, written: str) -> Target:
    kind, _, name = written.partition(":")
    targets = {
        "page": publisher.page,
        "session": publisher.session,
        "user": publisher.user,
        "topic": publisher.topic,
    }
    if kind not in targets:
        raise ValueError(f"target {written!r}: give page:ID, session:ID, user:ID or topic:NAME")
    return targets[kind](name)


def _fail(code: int, why: object) -> int:
    print(f"python -m pagews push: {why}", file=sys.stderr)
    return code
