"""The same bytes get the same verdict from every transport, and bad tokens of every kind the same bytes from each."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

from hypothesis import assume, example, given
from hypothesis import strategies as st

from pagews.tokens import new_key
from tests.bad_tokens import expired, of_another_content, of_another_key, of_another_purpose, tampered
from tests.down_frames import read_down
from tests.fuzz_site import JSON, MESSAGES, Bench, frame, tries
from tests.test_fuzz import GOODBYE, gained
from tests.test_routes import JSON as JSON_TYPE
from tests.test_routes import URLENCODED
from tests.text_wires import as_item, from_item
from tests.wire_client import POLLS, TRANSPORTS, Closed, SocketClosed, Transport, Visitor, Wire, new_document

# --- the same verdict -------------------------------------------------------------------------------------------------

#: The id of a send behind each message: when it is answered, so is the message, if it ever is.
MARK: Final = 2**53 - 5

MARKER: Final = json.dumps(["send", MARK, 1, "echo", None])


class Speaker:
    """A page that says one thing after the other over one transport, and hears what comes of it."""

    def __init__(self, visitor: Visitor, token: str, transport: Transport) -> None:
        self.transport = transport
        self._visitor = visitor
        self._token = token
        self._document = new_document()
        self._attempt = 0
        self._wire: Wire | None = None

    async def say(self, message: str | bytes) -> list[Any]:
        """Say something; returns the frames that come of it, or the close code."""
        wire = await self._attached()
        heard: list[Any] = []
        try:
            async for frame in self._hear(wire, message):
                if frame[:2] == ["result", MARK]:
                    return heard
                heard.append(frame)
        except SocketClosed as end:
            self._wire = None
            wire.cut()
            if end.code == 1000:
                self._document = new_document()
            return [*heard, ["close", end.code]]
        raise AssertionError(f"no end came behind {heard!r}")

    async def _attached(self) -> Wire:
        if self._wire is None:
            self._attempt += 1
            self._visitor.transport = self.transport
            hello = {"document": self._document, "attempt": self._attempt}
            self._wire = await self._visitor.attach(self._token, **hello)
        return self._wire

    async def _hear(self, wire: Wire, message: str | bytes) -> Any:
        if self.transport == "websocket":
            await wire.send_raw(message)
            await wire.send_raw(MARKER)
            while True:
                yield await wire.receive()
        fields = {"token": self._token, "document": self._document, "attempt": self._attempt * POLLS}
        items = [json.dumps(["hello", fields]), as_item(message), MARKER]
        # Not over one of the wire's own, which end with it.
        line = self._visitor.line()
        answer = await line.request("/pagews/post", f"[{','.join(items)}]".encode())
        line.cut()
        assert answer.status == 200, answer
        for item in json.loads(answer.body):
            if item[0] == "close":
                raise SocketClosed(Closed(*item[1:]))
            yield read_down(from_item(item))


def is_one_item(text: str) -> bool:
    """Whether a text is one item of an array, or breaks it. A script of pagews puts in nothing else."""
    if text.lstrip().startswith('"'):
        return False  # which is how bytes are written there
    for written in (text, f"[{text}]"):
        try:
            json.loads(written)
        except RecursionError:
            return True
        except ValueError:
            continue
        return written is text
    return True


TEXTS: Final = MESSAGES.map(lambda message: message.decode(errors="replace"))


def test_the_same_message_gets_the_same_verdict_from_every_transport() -> None:
    with Bench() as bench:
        speakers = [Speaker(bench.visitor, bench.run(bench.visitor.token()), transport) for transport in TRANSPORTS]

        @given(TEXTS | MESSAGES)
        @example('["send",1,1,"echo","' + "x" * 65_536 + '"]')
        @example(b"x" * 65_537)
        @example('["bye"]')
        @example('["send",1,1,"echo","\u2028\\u2028"]')
        @tries(200)
        def say(message: str | bytes) -> None:
            assume(isinstance(message, bytes) or is_one_item(message))
            verdicts = []
            for speaker in speakers:
                before = bench.refused()
                heard = bench.run(speaker.say(message))
                verdicts.append((heard, gained(before, bench.refused())))
            assert verdicts == [verdicts[0]] * len(speakers)

        say()
        for speaker in speakers:
            bench.run(speaker.say('["bye"]'))


async def first_verdicts(bench: Bench, message: str) -> dict[str, int]:
    """The close code that a message gets which comes first, from every carrier."""
    codes = {"socket": (await bench.talk_after_upgrade(frame(message.encode()) + GOODBYE))[0]}
    for path, body in (("stream", message), ("poll", message), ("post", f"[{message}]")):
        answer = await bench.request(
            "POST", f"/pagews/{path}", body.encode(), kind=JSON_TYPE, to_its_end=path == "stream"
        )
        assert answer.status == 200
        if path == "stream":
            said = json.loads(answer.body.rpartition(b"data: ")[2].partition(b"\n")[0])
        else:
            [said] = json.loads(answer.body)
        assert said[0] == "close"
        assert said[1] == await bench.ends.get()
        codes[path] = said[1]
    return codes


HELLOS: Final = st.fixed_dictionaries(
    {"token": st.just("t") | JSON},
    optional={"document": st.just("d" * 32) | JSON, "attempt": st.integers(0, 2) | JSON, "seq": JSON, "epoch": JSON},
).map(lambda fields: json.dumps(["hello", fields]))


def test_the_same_first_message_gets_the_same_verdict_from_every_carrier() -> None:
    with Bench() as bench:

        @given(TEXTS | HELLOS)
        @example('["bye"]')
        @example('["hello",{"token":"t","document":"dddddddddddddddddddddddddddddddd","attempt":1}]')
        @tries(100)
        def say(message: str) -> None:
            assume(is_one_item(message))
            codes = bench.run(first_verdicts(bench, message))
            assert set(codes.values()) in ({4500}, {4501})

        say()


# --- the same refusal -------------------------------------------------------------------------------------------------

#: What a token is made of: one that is good, and the key. None of these can be read.
FORGED: Final[dict[str, Callable[[str, str], str]]] = {
    "of another key": of_another_key,
    "of another purpose": of_another_purpose,
    "of another content": of_another_content,
    "tampered": tampered,
    "cut": lambda token, key: token[: len(token) // 2],
    "longer": lambda token, key: token + "AAAA",
    "no base64": lambda token, key: "\u2028",
    "of an unknown site": lambda token, key: of_another_key(token, key)[::-1],
    "a key": lambda token, key: new_key(),
}


class Refusal:
    """How a browser was turned away everywhere: what it was answered, byte for byte, what was counted, and logged."""

    def __init__(self, bench: Bench, token: str, cookie: bytes | None = None) -> None:
        self._bench = bench
        self._cookie = cookie
        before = bench.refused()
        with logged() as self.logged:
            hello = bench.hello(token=token)
            _, said = bench.run(bench.talk_after_upgrade(frame(hello.encode()) + GOODBYE, cookie=cookie))
            renewal = json.dumps({"token": token})
            form = urlencode({"pagews.token": token, "pagews.delegate": "echo", "pagews.back": "/"})
            self.answers = {
                "socket": said,
                "stream": self._post("stream", hello),
                "poll": self._post("poll", hello),
                "post": self._post("post", f"[{hello},{MARKER}]"),
                "form": self._post("form", form, URLENCODED),
            }
            self.counted = gained(before, bench.refused())
            self.renewal = self._post("renew", renewal)

    def _post(self, path: str, body: str, kind: str = JSON_TYPE) -> object:
        status, headers, rest = self._bench.run(
            self._bench.request(
                "POST", f"/pagews/{path}", body.encode(), cookie=self._cookie, kind=kind, to_its_end=path == "stream"
            )
        )
        return status, {name: value for name, value in headers.items() if name != "date"}, rest


@contextmanager
def logged() -> Iterator[list[str]]:
    """What any logger says, at any level."""
    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(f"{record.name} {record.levelname} {record.getMessage()}")

    root, listener = logging.getLogger(), Listener()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    try:
        yield told
    finally:
        root.setLevel(level)
        root.removeHandler(listener)


def test_threat_5_a_bad_token_of_any_kind_is_refused_in_the_same_way() -> None:
    with Bench() as bench:
        key = bench.key
        refusals = {kind: Refusal(bench, forge(bench.token, key)) for kind, forge in FORGED.items()}
        refusals["of no browser session"] = Refusal(bench, bench.token, b"none=1")
        first = refusals["tampered"]

        for kind, refusal in refusals.items():
            assert refusal.answers == first.answers, kind
            assert refusal.counted == first.counted == {"token": 5}, kind
            assert refusal.renewal == first.renewal, kind
            assert refusal.logged == first.logged, kind


async def token_of_another(url: str) -> str:
    async with Visitor(url) as visitor:
        return await visitor.token()


def test_threat_5_a_token_that_is_over_or_anothers_is_refused_as_one_that_is_forged() -> None:
    with Bench() as bench:
        stolen = bench.run(token_of_another(bench.site.url))
        forged = Refusal(bench, tampered(bench.token, bench.key))

        # /renew tells more of them: a page that was asleep may come back, one whose session is another's may not.
        for token in (expired(bench.token, bench.key), stolen):
            refusal = Refusal(bench, token)
            assert refusal.answers == forged.answers
            assert refusal.counted == forged.counted
            assert refusal.logged == forged.logged
