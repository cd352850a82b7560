"""The exception tree and the table of close codes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pagews import errors
from pagews.errors import CLOSE_CODES, CloseCode, Return, returns


def test_every_error_is_a_pagews_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    assert all(issubclass(kind, errors.PagewsError) for kind in kinds)


def test_errors_keep_what_they_know() -> None:
    assert errors.BrokerUnavailable("gone", unknown=True).unknown
    assert not errors.BrokerUnavailable("gone").unknown
    assert str(errors.RemoteError("no", "because")) == "no: because"
    assert str(errors.DelegateError("no")) == "no"
    assert errors.ProtocolError("why").code == 4501
    assert isinstance(errors.AskTimeout(), TimeoutError)


def test_every_code_that_is_sent_is_in_the_table() -> None:
    assert {int(code) for code in CloseCode} <= set(CLOSE_CODES)


@pytest.mark.parametrize(
    ("code", "then"),
    [
        (1000, Return.BACK),
        (1002, Return.AWAY),
        (4002, Return.BACK),
        (4499, Return.BACK),
        (4500, Return.RENEW),
        (4501, Return.AWAY),
        (4777, Return.AWAY),
        (3000, Return.BACK),
    ],
)
def test_what_a_page_does_after_a_code(code: int, then: Return) -> None:
    assert returns(code) is then


def test_the_client_has_the_same_table(root: Path, node: Path) -> None:
    codes = [*range(1000, 1016), 3000, *range(4000, 5000)]
    program = """
        import { afterClose } from "./static/codes.js";
        console.log(JSON.stringify(process.argv.slice(1).map((code) => afterClose(Number(code)))));
    """
    asked = [str(node), "--input-type=module", "--eval", program, *map(str, codes)]
    answer = subprocess.run(asked, cwd=root, capture_output=True, check=True, timeout=60).stdout
    assert json.loads(answer) == [returns(code).value for code in codes]
