"""Anything at all that comes over the network: a documented close code or status, no error, and the next is served."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pagews.errors import CLOSE_CODES
from tests.fuzz_site import JSON, MESSAGES, Bench, frame, tries
from tests.test_routes import JSON as JSON_TYPE
from tests.test_routes import MULTIPART, ROUTES, URLENCODED

#: How a request for pagews may be answered: well, with a way back, or with a refusal.
STATUSES: Final = {200, 303, 400, 403, 408, 413, 415, 503}

# --- bytes after the upgrade ------------------------------------------------------------------------------------------

MASKS: Final = st.none() | st.binary(min_size=4, max_size=4)

#: Frames that are what they say, of any kind and with anything in them.
WHOLE: Final = st.builds(
    frame,
    MESSAGES | st.binary(max_size=140),
    st.sampled_from([1, 1, 1, 2, 2, 0, 8, 9, 10, 3, 11, 15]),
    last=st.sampled_from([True, True, True, False]),
    reserved=st.sampled_from([0, 0, 0, 0, 1, 2, 4, 7]),
    mask=st.sampled_from([b"\1\2\3\4", b"\0\0\0\0", b"\1\2\3\4", None]),
    width=st.sampled_from([0, 0, 0, 8]),
)

#: Frames that need not be.
LYING: Final = st.builds(
    frame,
    MESSAGES,
    st.integers(0, 15),
    last=st.booleans(),
    mask=MASKS,
    size=st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 2**31, 2**63 - 1, 2**63, 2**64 - 1]),
    width=st.sampled_from([0, 2, 8]),
)

#: Close frames, by which a browser ends what nothing else has ended.
GOODBYE: Final = frame(b"\x03\xe8", 8)


def close_codes(said: bytes) -> list[int]:
    """The codes of the close frames among all that a server has said."""
    found, start = [], 0
    while start + 2 <= len(said):
        size, head = said[start + 1], start + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, head = int.from_bytes(said[head : head + width], "big"), head + width
        if said[start] & 0x0F == 8:
            found.append(int.from_bytes(said[head : head + 2], "big"))
        start = head + size
    return found


def is_documented(code: int, sent: bytes) -> bool:
    """Whether a close code is in the table, or was the browser's own word, which is for it to choose."""
    return code in CLOSE_CODES or code.to_bytes(2, "big") in sent or b"\x88" in sent


@pytest.mark.parametrize("says_hello", [False, True])
def test_threat_32_any_bytes_after_the_upgrade(says_hello: bool) -> None:
    with Bench() as bench:

        @given(st.binary(max_size=300) | st.lists(LYING | WHOLE, max_size=5).map(b"".join))
        @example(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        @example(b"\x81\xff" + b"\xff" * 12)
        @tries(200)
        def send(data: bytes) -> None:
            hello = frame(bench.hello().encode()) if says_hello else b""
            code, said = bench.run(bench.send_after_upgrade(hello + data))
            for one in (code, *close_codes(said)):
                assert is_documented(one, data), one

        send()


@pytest.mark.parametrize("says_hello", [False, True])
def test_threat_32_any_frames_are_answered_with_a_documented_close_code(says_hello: bool) -> None:
    with Bench() as bench:

        @given(st.lists(WHOLE, max_size=5).map(b"".join))
        @tries(150)
        def talk(data: bytes) -> None:
            hello = frame(bench.hello().encode()) if says_hello else b""
            code, said = bench.run(bench.talk_after_upgrade(hello + data + GOODBYE))
            assert is_documented(code, data)
            assert len(close_codes(said)) == 1
            assert is_documented(close_codes(said)[0], data)

        talk()


def test_threat_12_a_message_that_is_too_big_ends_only_its_socket() -> None:
    with Bench() as bench:
        for opcode in (0, 1, 2, 8, 9, 15):
            code, _ = bench.run(bench.send_after_upgrade(frame(b"x" * 65_537, opcode)))
            assert code == (1009 if opcode < 3 else 1002)


# --- bodies -----------------------------------------------------------------------------------------------------------

#: What stands for the page's hello, in a body that is drawn before there is one.
PLACE: Final = "the page's hello"


def with_hello(data: object, hello: str) -> bytes:
    return json.dumps(data).replace(json.dumps(PLACE), hello).encode()


BODIES: Final = st.one_of(
    st.binary(max_size=200),
    MESSAGES,
    st.lists(MESSAGES, max_size=4).map(lambda items: b"[" + b",".join(items) + b"]"),
    JSON.map(lambda data: json.dumps(data).encode()),
    st.fixed_dictionaries({"token": JSON}).map(lambda data: json.dumps(data).encode()),
    st.fixed_dictionaries({"token": JSON}, optional={"document": JSON, "attempt": JSON, "seq": JSON, "wait": JSON}).map(
        lambda fields: json.dumps(["hello", fields]).encode()
    ),
)


@pytest.mark.parametrize("path", [path for path, route in ROUTES.items() if JSON_TYPE in route.kinds])
def test_threat_22_any_body_is_answered_with_no_error_of_the_server(path: str) -> None:
    with Bench() as bench:

        @given(BODIES, st.lists(JSON, max_size=3), st.booleans())
        @example(b"[" * 60_000, [], False)
        @example(b'{"token":"' + b"x" * 60_000 + b'"}', [], False)
        @tries(100)
        def post(body: bytes, items: list[Any], says_hello: bool) -> None:
            if says_hello:  # of a post also what comes behind it
                body = with_hello([PLACE, *items] if path == "post" else PLACE, bench.hello(topics=items))
            answer = bench.run(bench.request("POST", f"/pagews/{path}", body, kind=JSON_TYPE))
            assert answer.status in STATUSES
            assert "content-type" in answer.headers

        post()


NAMES: Final = st.sampled_from(
    [
        "pagews.token",
        "pagews.delegate",
        "pagews.back",
        "pagews.document",
        "pagews.id",
        "pagews.",
        "name",
        "",
        '"',
        "\xe9",
    ]
)
HEADERS: Final = st.sampled_from(
    [
        *(
            "Content-Disposition: form-data",
            "Content-Disposition: attachment",
            "Content-Disposition:",
            "Content-Type: a",
        ),
        *("Content-Type: multipart/mixed; boundary=b", "Content-Transfer-Encoding: base64", "Content-Length: 9"),
        *("Content-Transfer-Encoding: quoted-printable", "Content-Transfer-Encoding: x", "Content-Encoding: gzip"),
        *("Content-Type: text/plain; charset=x", "Content-Length: -1", "Content-Encoding: deflate", "no header", ":"),
    ]
)
PARTS: Final = st.builds(
    lambda name, filename, headers, content: (
        f'Content-Disposition: form-data; name="{name}"{filename}\r\n'.encode()
        + "".join(f"{header}\r\n" for header in headers).encode()
        + b"\r\n"
        + content
    ),
    NAMES,
    st.sampled_from(["", '; filename=""', '; filename="a"', "; filename*=utf-8''%ff", "; filename*=x''y", ";"]),
    st.lists(HEADERS, max_size=2),
    MESSAGES,
)
MULTIPARTS: Final = st.builds(
    lambda parts, end: b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end,
    st.lists(PARTS | st.binary(max_size=60), max_size=4),
    st.sampled_from([b"--b--\r\n", b"--b--", b"--b", b"", b"\r\n--b--\r\n"]),
)
PAIRS: Final = st.builds(
    lambda pairs: b"&".join(name.encode() + b"=" + value for name, value in pairs),
    st.lists(st.tuples(NAMES, MESSAGES | st.binary(max_size=30)), max_size=6),
)


@pytest.mark.parametrize(("kind", "bodies"), [(URLENCODED, PAIRS), (MULTIPART, MULTIPARTS)], ids=["pairs", "parts"])
def test_threat_22_any_form_is_answered_with_no_error_of_the_server(
    kind: str, bodies: st.SearchStrategy[bytes]
) -> None:
    with Bench() as bench:

        @given(bodies | st.binary(max_size=200), st.booleans())
        @tries(150)
        def post(body: bytes, is_ours: bool) -> None:
            if is_ours:
                body = own_fields(kind, bench.token) + body
            answer = bench.run(bench.request("POST", "/pagews/form", body, kind=kind))
            assert answer.status in STATUSES

        post()
        # What is drawn is spoiled no sooner than it should be.
        good = own_fields(kind, bench.token) + (b"" if kind == URLENCODED else b"--b--\r\n")
        assert bench.run(bench.request("POST", "/pagews/form", good, kind=kind)).status == 303


def own_fields(kind: str, token: str) -> bytes:
    """What a form of this site begins with."""
    fields = {"pagews.token": token, "pagews.delegate": "echo", "pagews.back": "/"}
    if kind == URLENCODED:
        return "".join(f"{name}={value}&" for name, value in fields.items()).encode()
    return "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ).encode()


# --- cookies and tokens -----------------------------------------------------------------------------------------------

#: What a header may have in it; any other control character is for aiohttp to refuse.
HEADER_BYTES: Final = st.lists(st.sampled_from([9, *range(32, 127), *range(128, 256)]), max_size=60).map(bytes)


def test_any_cookie_is_no_session() -> None:
    with Bench() as bench:
        ours = bench.cookie
        fuzzed = st.tuples(HEADER_BYTES, st.integers(0, len(ours))).map(lambda pair: ours[: pair[1]] + pair[0])

        @given(HEADER_BYTES | HEADER_BYTES.map(lambda data: b"PAGEWS=" + data) | fuzzed)
        @example(b"PAGEWS=\xff")
        @example(b"PAGEWS=")
        @tries(150)
        def visit(cookie: bytes) -> None:
            if ours in cookie:
                return
            before = bench.refused()
            page = bench.run(bench.request("GET", "/", cookie=cookie))
            body = bench.hello(wait=True).encode()
            poll = bench.run(bench.request("POST", "/pagews/poll", body, cookie=cookie, kind=JSON_TYPE))
            body = json.dumps({"token": bench.token}).encode()
            renew = bench.run(bench.request("POST", "/pagews/renew", body, cookie=cookie, kind=JSON_TYPE))

            assert page.status == 200
            assert "set-cookie" in page.headers  # of a fresh session
            assert json.loads(poll.body) == [["close", 4500, "the token is not good for this browser session"]]
            assert (renew.status, json.loads(renew.body)) == (403, {"code": 4500, "reason": "the token is not good"})
            assert gained(before, bench.refused()) == {"token": 1, "renewal": 1}

        visit()


def test_threat_5_any_token_is_refused_in_the_same_way() -> None:
    with Bench() as bench:
        cut = st.integers(0, len(bench.token)).map(lambda place: bench.token[:place])

        @given(st.text(min_size=1) | st.tuples(cut, st.text(min_size=1)).map("".join))
        @tries(150)
        def say(token: str) -> None:
            if token == bench.token:
                return
            before = bench.refused()
            body = bench.hello(token=token, wait=True).encode()
            poll = bench.run(bench.request("POST", "/pagews/poll", body, kind=JSON_TYPE))
            body = json.dumps({"token": token}).encode()
            renew = bench.run(bench.request("POST", "/pagews/renew", body, kind=JSON_TYPE))

            assert json.loads(poll.body) == [["close", 4500, "the token is not good for this browser session"]]
            assert (renew.status, json.loads(renew.body)) == (403, {"code": 4500, "reason": "the token is not good"})
            assert gained(before, bench.refused()) == {"token": 1, "renewal": 1}

        say()


def gained(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What a counter has counted meanwhile."""
    return {reason: count - before.get(reason, 0) for reason, count in after.items() if count > before.get(reason, 0)}
