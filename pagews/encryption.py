"""Encryption of what browsers keep for the server: page tokens and the session cookie."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Random bytes in front of each text. Four thousand million texts may be written with one key (NIST SP 800-38D, 8.3).
_NONCE: Final = 12


class Encryption:
    """AES-256-GCM with several keys: the first encrypts, all decrypt.

    What Fernet promises, in a shorter text, and read in a twentieth of the time: each attach reads two of them. Each
    purpose has keys of its own (HKDF, RFC 5869), so that what was written for one is worth nothing for another.

    Arguments:
        keys: 32 bytes each in URL-safe base64.
        purpose: what the texts are for.
    """

    def __init__(self, keys: Sequence[bytes], purpose: str) -> None:
        self._ciphers = [AESGCM(_derive(key, purpose)) for key in keys]

    def encrypt(self, data: bytes) -> str:
        """Encrypt with the first key, into URL-safe base64."""
        nonce = os.urandom(_NONCE)
        return base64.urlsafe_b64encode(nonce + self._ciphers[0].encrypt(nonce, data, None)).decode()

    def decrypt(self, text: str) -> bytes | None:
        """What was encrypted with one of the keys; None for anything else, from whatever it differs."""
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
        except ValueError:
            return None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(raw[:_NONCE], raw[_NONCE:], None)
            except (InvalidTag, ValueError):
                continue
        return None


def _derive(key: bytes, purpose: str) -> bytes:
    raw = base64.urlsafe_b64decode(key)
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pagews " + purpose.encode()).derive(raw)
