"""The scripts that run inside Redis, each in one atomic step."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final


class Script:
    """One script. What it shares with others stands before its own text, for Redis knows no imports.

    Arguments:
        parts: the files it is made of, its own last.
        when_full: it may run when Redis has no memory left: it frees some, or keeps what must not be lost.
    """

    def __init__(self, *parts: str, when_full: bool = False) -> None:
        folder = files("pagews") / "scripts"
        texts = [(folder / f"{part}.lua").read_text("utf-8") for part in parts]
        first_line = "#!lua flags=allow-oom\n" if when_full else "#!lua\n"
        self.name = parts[-1]
        self.text = (first_line + "\n".join(texts)).encode()
        #: By which Redis knows it once it is loaded.
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


PROBE: Final = Script("common", "pages", "probe", when_full=True)
PUBLISH: Final = Script("common", "guard", "publish")
READ: Final = Script("common", "guard", "reading", "read", when_full=True)
ATTACH: Final = Script("common", "guard", "pages", "reading", "attach", when_full=True)
DETACH: Final = Script("common", "guard", "pages", "detach", when_full=True)
TOPICS: Final = Script("common", "guard", "pages", "topics")
LEAVE: Final = Script("common", "guard", "pages", "topics", when_full=True)
RECORD: Final = Script("common", "guard", "pages", "record", when_full=True)
KEEP: Final = Script("common", "guard", "pages", "keep")
END: Final = Script("common", "guard", "pages", "end", when_full=True)
STORE: Final = Script("common", "guard", "pages", "store")
FORGET: Final = Script("common", "guard", "pages", "store", when_full=True)
REVOKE: Final = Script("common", "guard", "revoke", when_full=True)
CLAIM: Final = Script("common", "guard", "pages", "sends", "claim")
FIND: Final = Script("common", "guard", "pages", "sends", "claim", when_full=True)
COMPLETE: Final = Script("common", "guard", "pages", "sends", "complete", when_full=True)
ANSWER: Final = Script("common", "guard", "answer")
HERE: Final = Script("common", "guard", "pages", "here", when_full=True)

ALL: Final = (
    *(PROBE, PUBLISH, READ, ATTACH, DETACH, TOPICS, LEAVE, RECORD, KEEP, END, STORE, FORGET, REVOKE),
    *(CLAIM, FIND, COMPLETE, ANSWER, HERE),
)
