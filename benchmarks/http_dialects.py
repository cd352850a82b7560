"""How pages of pagews speak where there is no WebSocket."""

from __future__ import annotations

import json

from benchmarks.dialects import Pagews
from benchmarks.errors import MeasurementFailed
from benchmarks.frames import post_request
from benchmarks.readers import AnswerReader, Reader, StreamReader
from benchmarks.visits import Document, Visit


class PagewsStream(Pagews):
    """One response that goes on; what the page says goes up by requests beside it."""

    transport = "stream"
    answers_apart = True

    def opening(self, document: Document) -> bytes:
        return _post(document.visit, "stream", self.hello(document))

    def reader(self) -> Reader:
        return StreamReader()

    def greeting(self, document: Document) -> bytes:
        return b""

    def answer(self, frame: bytes, document: Document) -> bytes:
        if frame.startswith(b'["ping",'):
            return _post(document.visit, "post", b'[%b,["pong"]]' % self.hello(document))
        return super().answer(frame, document)


class PagewsPoll(Pagews):
    """One request after the other over a kept connection: each says what the page has read, and waits for more."""

    transport = "poll"
    asks_again = True

    def opening(self, document: Document) -> bytes:
        return _post(document.visit, "poll", self.hello(document))

    def reader(self) -> Reader:
        return AnswerReader()

    def completes_attach(self, frame: bytes, document: Document) -> bool:
        if not super().completes_attach(frame, document):
            return False
        document.seq = json.loads(frame)[1]["seq"]
        return True

    def next_request(self, document: Document, last_delivery: bytes) -> bytes:
        document.attempt += 1
        if last_delivery:
            document.seq = json.loads(last_delivery)[1]
        return _post(document.visit, "poll", self.hello(document, wait=True))

    def answer(self, frame: bytes, document: Document) -> bytes:
        if frame.startswith(b'["welcome",'):
            if b'"resumed":true' not in frame or b'"forked":false' not in frame:
                raise MeasurementFailed(f"the page was not taken back: {frame!r}")
            return b""
        if frame.startswith(b'["ping",'):
            return b""  # the next request is a sign of life
        return super().answer(frame, document)


def _post(visit: Visit, path: str, body: bytes) -> bytes:
    return post_request(visit.port, f"/pagews/{path}", {"Cookie": visit.cookie, "Origin": visit.origin}, body)
