"""Encrypted page tokens: the identity of a page travels in them, so that rendering one stores nothing."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from cryptography.fernet import Fernet
from msgspec import Struct

from .encryption import Encryption
from .errors import ConfigurationError
from .private import private

ENVIRONMENT: Final = "PAGEWS_SECRET_KEY"

#: The key that the documentation shows; nobody may use it.
EXAMPLE_KEY: Final = "cGFnZXdzLWV4YW1wbGUta2V5LW5ldmVyLXVzZS1pdCE="

HOW_TO: Final = f"make one with 'python -m pagews key' and give it as secret_key= or in {ENVIRONMENT}"

#: Seconds by which the clocks of two hosts may differ.
CLOCK_SKEW: Final = 60.0

SecretKey = str | bytes | Sequence[str | bytes] | None


def new_id() -> str:
    """A page or session id: 128 random bits."""
    return secrets.token_urlsafe(16)


def new_key() -> str:
    """A new secret key: a Fernet key, 32 random bytes in URL-safe base64."""
    return Fernet.generate_key().decode()


def read_keys(secret_key: SecretKey) -> list[bytes]:
    """The keys to use, the first of which encrypts; from the environment when `secret_key` is None.

    Raises:
        ConfigurationError: there is none, or one is short, malformed or the documentation's example.
    """
    if secret_key is None:
        given: Sequence[str | bytes] = os.environ.get(ENVIRONMENT, "").replace(",", " ").split()
    else:
        given = [secret_key] if isinstance(secret_key, str | bytes) else secret_key
    if not isinstance(given, list | tuple) or not all(isinstance(key, str | bytes) for key in given):
        raise ConfigurationError(f"a secret key is a string, and several are a list of such: {HOW_TO}")
    if not given:
        raise ConfigurationError(f"there is no secret key: {HOW_TO}")
    keys = [key.encode() if isinstance(key, str) else key for key in given]
    for key in keys:
        try:
            raw = base64.b64decode(key, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ConfigurationError(f"a secret key is not URL-safe base64; several are a list: {HOW_TO}") from error
        if len(raw) != 32:
            raise ConfigurationError(f"a secret key has {len(raw)} bytes, and must have 32: {HOW_TO}")
        if key.decode() == EXAMPLE_KEY:
            raise ConfigurationError(f"a secret key is the one from the documentation: {HOW_TO}")
    return keys


@private
class Token(Struct, frozen=True, array_like=True, tag="page1"):
    """What a page token says. `since`: when the session or login began; `issued`: both in wall-clock seconds."""

    page: str
    session: str
    user: str | None
    topics: list[str]
    epoch: str
    seq: int
    since: float
    issued: float


_decoder = msgspec.json.Decoder(Token)


class Tokens:
    """Writes and reads page tokens, encrypted with several keys.

    Arguments:
        life: seconds that a token is good for.
        clock: seconds since the epoch.
    """

    def __init__(self, keys: Sequence[bytes], life: float, clock: Callable[[], float] = time.time) -> None:
        self._encryption = Encryption(keys, "page token")
        self._life = life
        self._clock = clock

    def write(self, token: Token) -> str:
        """Encrypt a token with the first key."""
        return self._encryption.encrypt(msgspec.json.encode(token))

    def read(self, text: str, *, expired: bool = False) -> Token | None:
        """What a token says; None, for whatever reason, when it is not good.

        Arguments:
            expired: also read one whose life is over, or, since a clock was set back, has not begun.
        """
        raw = self._encryption.decrypt(text)
        if raw is None:
            return None
        try:
            token = _decoder.decode(raw)
        except (msgspec.DecodeError, ValueError):
            return None
        age = self._clock() - token.issued
        return token if expired or -CLOCK_SKEW <= age <= self._life else None

    def is_old(self, token: Token) -> bool:
        """Whether it has passed half of its life, and should be replaced."""
        return self._clock() - token.issued > self._life / 2

    def renewed(self, token: Token, *, page: str | None = None) -> str:
        """The same token with a new life. Its cursor stays (rule 14), and so do the topics it was rendered with."""
        return self.write(msgspec.structs.replace(token, page=page or token.page, issued=self._clock()))
