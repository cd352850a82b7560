"""What browsers keep for the server: nobody else reads or changes it."""

from __future__ import annotations

import base64

import pytest

from pagews.encryption import Encryption
from pagews.tokens import new_key

KEY = new_key().encode()


def test_what_is_encrypted_is_decrypted_and_never_looks_the_same() -> None:
    encryption = Encryption([KEY], "page token")
    texts = {encryption.encrypt(b"secret") for _ in range(20)}
    assert len(texts) == 20
    assert {encryption.decrypt(text) for text in texts} == {b"secret"}
    assert not any(b"secret" in base64.urlsafe_b64decode(text) for text in texts)


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    other = new_key().encode()
    both = Encryption([other, KEY], "page token")
    assert both.decrypt(Encryption([KEY], "page token").encrypt(b"x")) == b"x"
    assert Encryption([other], "page token").decrypt(both.encrypt(b"x")) == b"x"
    assert Encryption([KEY], "page token").decrypt(both.encrypt(b"x")) is None


def test_each_purpose_has_its_own_key() -> None:
    text = Encryption([KEY], "session cookie").encrypt(b"x")
    assert Encryption([KEY], "page token").decrypt(text) is None


def test_every_changed_bit_is_noticed() -> None:
    encryption = Encryption([KEY], "page token")
    raw = base64.urlsafe_b64decode(encryption.encrypt(b"secret"))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert encryption.decrypt(base64.urlsafe_b64encode(changed).decode()) is None


@pytest.mark.parametrize("text", ["", "A", "AAAA", "A" * 16, "A" * 64, "\0", "é", "\u2028", "a b", "====", "x" * 9000])
def test_what_was_never_encrypted(text: str) -> None:
    assert Encryption([KEY], "page token").decrypt(text) is None
