"""Page tokens that are not good, and what the server says to them."""

from __future__ import annotations

import time

from pagews.encryption import Encryption
from pagews.tokens import Tokens, new_key
from tests.wire_client import Closed, Visitor

BAD_TOKEN = Closed(4500, "the token is not good for this browser session")


async def answer(visitor: Visitor, token: str) -> Closed:
    """How the server closes a socket that says hello with `token`."""
    wire = await visitor.open()
    await wire.hello(token)
    return await wire.closed()


def tampered(token: str, key: str) -> str:
    middle = len(token) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


def expired(token: str, key: str) -> str:
    read = Tokens([key.encode()], 1).read(token)
    assert read is not None
    return Tokens([key.encode()], 1, lambda: time.time() - 13 * 3600).renewed(read)


def of_another_key(token: str, key: str) -> str:
    return encryption(new_key()).encrypt(decrypted(token, key))


def of_another_content(token: str, key: str) -> str:
    return encryption(key).encrypt(b'["page2"]')


def of_another_purpose(token: str, key: str) -> str:
    return Encryption([key.encode()], "session cookie").encrypt(decrypted(token, key))


def encryption(key: str) -> Encryption:
    return Encryption([key.encode()], "page token")


def decrypted(token: str, key: str) -> bytes:
    raw = encryption(key).decrypt(token)
    assert raw is not None
    return raw
