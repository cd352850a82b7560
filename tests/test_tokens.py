"""Page tokens and keys."""

from __future__ import annotations

import base64

import pytest
from cryptography.fernet import Fernet

from pagews import ConfigurationError
from pagews.encryption import Encryption
from pagews.tokens import ENVIRONMENT, EXAMPLE_KEY, Token, Tokens, new_id, new_key, read_keys

LIFE = 3600.0


class Clock:
    """Wall-clock time that the test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def token(clock: Clock) -> Token:
    return Token("p", "s", None, ["t"], "e", 7, clock.now, clock.now)


def test_what_is_written_is_read() -> None:
    clock = Clock()
    tokens = Tokens([Fernet.generate_key()], LIFE, clock)
    text = tokens.write(token(clock))
    assert tokens.read(text) == token(clock)
    assert text.isascii()
    assert "p" not in {text}


def test_threat_11_a_new_key_first_and_the_old_one_still_read() -> None:
    clock, old, new = Clock(), Fernet.generate_key(), Fernet.generate_key()
    text = Tokens([old], LIFE, clock).write(token(clock))
    assert Tokens([new, old], LIFE, clock).read(text) == token(clock)
    assert Tokens([new], LIFE, clock).read(text) is None


def test_threat_11_life_skew_and_half_life() -> None:
    clock = Clock()
    tokens = Tokens([Fernet.generate_key()], LIFE, clock)
    written = token(clock)
    text = tokens.write(written)
    clock.now -= 59
    assert tokens.read(text) is not None
    clock.now -= 10
    assert tokens.read(text) is None
    clock.now += 69 + LIFE / 2
    assert not tokens.is_old(written)
    clock.now += 1
    assert tokens.is_old(written)
    clock.now += LIFE / 2
    assert tokens.read(text) is None
    assert tokens.read(text, expired=True) == written


def test_rule_14_a_renewed_token_keeps_its_cursor() -> None:
    clock = Clock()
    tokens = Tokens([Fernet.generate_key()], LIFE, clock)
    old = token(clock)
    clock.now += 1000
    fresh = tokens.read(tokens.renewed(old, page="q"))
    assert fresh is not None
    assert (fresh.page, fresh.topics, fresh.seq, fresh.epoch) == ("q", old.topics, 7, "e")
    assert fresh.issued == clock.now
    assert fresh.since == old.since


@pytest.mark.parametrize("text", ["", "x", "\xff", "gAAAAA", "{}", "a" * 5000])
def test_what_is_no_token(text: str) -> None:
    tokens = Tokens([Fernet.generate_key()], LIFE)
    assert tokens.read(text) is None
    assert tokens.read(text, expired=True) is None


def test_something_else_that_was_encrypted_with_the_same_key() -> None:
    key = Fernet.generate_key()
    for other in (b'{"created":1,"session":{}}', b'["page2","p","s",null,[],"e",7,1,1]', b"\xff"):
        assert Tokens([key], LIFE).read(Encryption([key], "page token").encrypt(other)) is None


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = new_key(), new_key()
    assert read_keys(one) == [one.encode()]
    assert read_keys([one, two.encode()]) == [one.encode(), two.encode()]
    monkeypatch.setenv(ENVIRONMENT, f"{one}, {two}")
    assert read_keys(None) == [one.encode(), two.encode()]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (None, "no secret key"),
        ("", "must have 32"),
        ([], "no secret key"),
        ("short", "base64"),
        (base64.urlsafe_b64encode(b"x" * 16), "16 bytes, and must have 32"),
        ("é" * 44, "base64"),
        (EXAMPLE_KEY, "from the documentation"),
    ],
)
def test_threat_36_keys_that_are_refused(key: str | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(ConfigurationError, match=why) as caught:
        read_keys(key)
    assert "python -m pagews key" in str(caught.value)


def test_threat_10_ids_are_128_random_bits() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert len(base64.urlsafe_b64decode(new_id() + "==")) == 16
