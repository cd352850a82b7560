"""The checker: what the pages were shown, against what was pushed to them.

It knows the logs of the publishers and of the pages, and nothing of brokers, workers and faults.

* What a document was shown was pushed to its channels, and was not refused; nothing twice in one epoch, and the pushes
  of one publisher in their order.
* All documents agree on the number of each push, and the numbers rise.
* From a welcome on, no push is missing below a later one that was shown, below a ping, or at the end, unless the
  document was told `lost` in between. A push whose outcome its publisher does not know may be missing, and one with a
  time to live.
* A topic that a page has joined is one of its channels from the result on until it asks to leave it; from the result of
  that on it is none. (What was asked for twice, because of a cut, may be done late: then it may be one for good.)
* A document is shown nothing that was pushed after its session or the login of its user has ended, by the word of a
  server: that is as good as the log that it was filed in, and forgotten when the document is told `lost` for its epoch.
* A send of qos 2 and an upload have run once at most, and exactly once if they have a result. A page that was asked has
  answered that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

Entry = dict[str, Any]

#: Violations that are told of at most.
MOST: Final = 50


@dataclass(slots=True)
class Pushed:
    """A push, as its publisher has logged it."""

    id: str
    channel: str
    publisher: str
    place: int
    began: float
    outcome: str = "unknown"
    may_expire: bool = False
    ended: float = inf

    @property
    def must_come(self) -> bool:
        return self.outcome == "accepted" and not self.may_expire


@dataclass(slots=True)
class Run:
    """What a document was shown between two losses, of one epoch."""

    since: float
    epoch: str
    start: int
    upto: int
    shown: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Joined:
    """What a document has done about a topic, which it joins once and leaves once.

    `asked` and `begins`: when it asked to join, and had the result; `left`: when it had that of leaving it.
    `is_certain`: whether it asked to join once, in a log that still is. `upto`: up to where it was shown everything
    when it asked to leave, and of which epoch.
    """

    asked: float
    is_certain: bool = True
    begins: float = inf
    left: float = inf
    upto: tuple[str, int] | None = None

    def may_show(self, pushed: Pushed) -> bool:
        left = self.left if self.is_certain else inf
        return pushed.ended > self.asked and pushed.began < left

    def must_show(self, pushed: Pushed, epoch: str, seq: float) -> bool:
        if self.upto is not None and (epoch != self.upto[0] or seq > self.upto[1]):
            return False  # it may have been left before that was read
        return self.begins < pushed.began


@dataclass(slots=True)
class Shown:
    """A document. `channels`: those that it has from its begin on."""

    name: str
    channels: set[str] = field(default_factory=set)
    joined: dict[str, Joined] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    opened: float = 0.0
    rotated: float = inf
    ended: bool = False

    def may_show(self, pushed: Pushed) -> bool:
        joined = self.joined.get(pushed.channel)
        return pushed.channel in self.channels or (joined is not None and joined.may_show(pushed))

    def must_show(self, pushed: Pushed, epoch: str, seq: float = inf) -> bool:
        """Whether a push is for it, by its number where that is known."""
        joined = self.joined.get(pushed.channel)
        return pushed.channel in self.channels or (joined is not None and joined.must_show(pushed, epoch, seq))

    def asks(self, kind: str, channel: str, time: float) -> None:
        """It asks to join or to leave a topic."""
        joined = self.joined.get(channel)
        if joined is None:
            self.joined[channel] = Joined(time)
        elif kind == "join":
            joined.is_certain = False
        else:
            self._stops(joined)

    def is_answered(self, kind: str, channel: str, time: float) -> None:
        """What it has asked for is done."""
        joined = self.joined[channel]
        if kind == "join":
            joined.begins = time
        else:
            joined.left = time

    def forget(self) -> None:
        """Its record is gone, with what it has joined and left: it begins anew with what its worker has known last."""
        for joined in self.joined.values():
            self._stops(joined)
            joined.is_certain = False

    def _stops(self, joined: Joined) -> None:
        if joined.upto is None:
            joined.upto = (self.runs[-1].epoch, self.runs[-1].upto)


class Checker:
    """Reads the logs once, and says what is wrong.

    Arguments:
        publishers, pages: the logs, each the lines of one file in their order.
        may_lose: whether a page may have been told that it has lost something.
        complete: whether all that was accepted has had the time to be shown.

    Attributes:
        violations: in words. `counts`: how much there was.
    """

    def __init__(
        self,
        publishers: Iterable[list[Entry]],
        pages: Iterable[list[Entry]],
        *,
        may_lose: bool = True,
        complete: bool = True,
    ) -> None:
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self._pushed: dict[str, Pushed] = {}
        self._lines: dict[tuple[str, str], list[Pushed]] = defaultdict(list)
        #: By channel, when somebody was told that it has ended, and when that was asked for.
        self._revoked: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._effects: Counter[tuple[str, int]] = Counter()
        self._numbers: dict[tuple[str, str], int] = {}
        self._ids: dict[str, dict[int, str]] = defaultdict(dict)
        self._may_lose = may_lose
        for log in publishers:
            self._read_publisher(log)
        documents = [document for log in pages for document in self._read_pages(log)]
        for document in documents:
            for run in document.runs:
                self._check_numbers(document, run)
            self._check_order(document, complete=complete)

    def _wrong(self, what: str) -> None:
        if len(self.violations) < MOST:
            self.violations.append(what)

    # --- publishers ---------------------------------------------------------------------------------------------------

    def _read_publisher(self, log: list[Entry]) -> None:
        revoking: dict[str, float] = {}
        for entry in log:
            match entry:
                case {"push": push, "channel": channel, "publisher": publisher, "time": time}:
                    line = self._lines[publisher, channel]
                    pushed = Pushed(push, channel, publisher, entry["place"], time, may_expire=entry["expires"])
                    self._pushed[push] = pushed
                    line.append(pushed)
                case {"pushed": push, "outcome": outcome}:
                    self._pushed[push].outcome = outcome
                    if outcome == "accepted":
                        self._pushed[push].ended = entry["time"]
                    self.counts[outcome] += 1
                case {"revoking": channel, "time": time}:
                    revoking[channel] = time
                case {"revoked": channel, "time": time}:
                    self.counts["revocations"] += 1
                    self._revoked[channel].append((revoking[channel], time))
                case {"effect": [document, number]}:
                    self._effects[document, number] += 1
                    if self._effects[document, number] > 1:
                        self._wrong(f"send {number} of {document} has run {self._effects[document, number]} times")
                case {"asked": question, "answer": answer}:
                    self.counts["answered"] += 1
                    if answer != question:
                        self._wrong(f"question {question} was answered {answer!r}")

    # --- pages --------------------------------------------------------------------------------------------------------

    def _read_pages(self, log: list[Entry]) -> list[Shown]:
        documents: dict[str, Shown] = {}
        for entry in log:
            name = entry["document"]
            document = documents.get(name)
            if document is None:
                document = documents[name] = Shown(name)
                self.counts["documents"] += 1
            self._read(document, entry)
        return list(documents.values())

    def _read(self, document: Shown, entry: Entry) -> None:
        match entry:
            case {"opened": channels, "time": time}:
                document.opened = time
                document.channels |= set(channels)
            case {"welcome": said, "time": time}:
                self._read_welcome(document, said, time)
            case {"shown": push, "seq": seq}:
                self._read_push(document, push, seq)
            case {"ping": seq}:
                document.runs[-1].upto = max(document.runs[-1].upto, seq)
            case {"asks": kind, "topic": topic, "time": time}:
                document.asks(kind, f"topic:{topic}", time)
            case {"answered": kind, "topic": topic, "ok": ok, "time": time}:
                self.counts[f"{kind}s" if ok else f"{kind}s that failed"] += 1
                if ok:
                    document.is_answered(kind, f"topic:{topic}", time)
            case {"rotated": _, "time": time}:
                self.counts["logins and logouts"] += 1
                document.rotated = min(document.rotated, time)
            case {"sent": number, "ok": ok} | {"uploaded": number, "ok": ok}:
                what = "sends" if "sent" in entry else "uploads"
                self.counts[f"{what} with a result" if ok else f"{what} without"] += 1
                ran = self._effects[document.name, number]
                if ok and ran != 1:
                    self._wrong(f"send {number} of {document.name} has a result, and has run {ran} times")
            case {"ended": _}:
                document.ended = True

    def _read_welcome(self, document: Shown, said: Entry, time: float) -> None:
        self.counts["welcomes"] += 1
        document.channels.add(f"page:{said['page']}")
        lost = said["lost"]
        if lost:
            self.counts[f"lost: {lost}"] += 1
            if not self._may_lose:
                self._wrong(f"{document.name} was told that it has lost something ({lost})")
        if lost == "epoch" and document.runs:
            document.forget()
        if lost or not document.runs:
            since = time if lost else document.opened
            document.runs.append(Run(since, said["epoch"], said["seq"], said["seq"]))
        elif document.runs[-1].epoch != said["epoch"]:
            self._wrong(f"{document.name} has moved to another epoch and was told that nothing is lost")

    def _read_push(self, document: Shown, push: str, seq: int) -> None:
        self.counts["shown"] += 1
        pushed, run = self._pushed.get(push), document.runs[-1]
        if pushed is None or pushed.outcome == "refused":
            self._wrong(f"{document.name} was shown {push}, which was {'refused' if pushed else 'never pushed'}")
            return
        if self._ended_at(document, run) < pushed.began:
            self._wrong(f"{document.name} was shown {push}, which was pushed after its session or login had ended")
        if not document.may_show(pushed):
            self._wrong(f"{document.name} was shown {push}, which was for {pushed.channel}")
        if seq <= run.upto:
            self._wrong(f"{document.name} was shown {push} as {seq}, behind {run.upto}")
        for before in document.runs:
            if before.epoch == run.epoch and push in before.shown:
                self._wrong(f"{document.name} was shown {push} twice")
        known = self._numbers.setdefault((run.epoch, push), seq)
        if known != seq or self._ids[run.epoch].setdefault(seq, push) != push:
            self._wrong(f"{document.name} was shown {push} as {seq}, which is not what others were shown")
        run.upto = max(run.upto, seq)
        run.shown[push] = seq

    def _ended_at(self, document: Shown, run: Run) -> float:
        """When it was certain that the identity of a document has ended, in the log of a run."""
        begun = min(other.since for other in document.runs if other.epoch == run.epoch)
        ends = [document.rotated]
        for channel in document.channels & self._revoked.keys():
            # One that began while a user's logins were ended may be one of them or not.
            is_user = channel.startswith("user:")
            ends += [end for asked, end in self._revoked[channel] if not is_user or document.opened < asked]
        return min((end for end in ends if end > begun), default=inf)

    # --- what is missing ----------------------------------------------------------------------------------------------

    def _check_numbers(self, document: Shown, run: Run) -> None:
        """What others were shown shows what is missing here, below what was shown here."""
        for seq, push in self._ids[run.epoch].items():
            pushed = self._pushed[push]
            if (
                run.start < seq <= run.upto
                and document.must_show(pushed, run.epoch, seq)
                and push not in run.shown
                and not pushed.may_expire
            ):
                self._wrong(f"{document.name} was not shown {push} ({seq}) between {run.start} and {run.upto}")

    def _check_order(self, document: Shown, *, complete: bool) -> None:
        """A publisher pushes one after the other: what is shown of it has no holes, and in the end nothing lacks."""
        lines: dict[str, list[Pushed]] = defaultdict(list)
        for (publisher, channel), line in self._lines.items():
            if channel in document.channels or channel in document.joined:
                lines[publisher] += line
        for line in lines.values():
            line.sort(key=lambda pushed: pushed.place)
            for run in document.runs:
                is_last = run is document.runs[-1] and complete and not document.ended
                self._check_line(document, run, line, to_the_end=is_last)

    def _check_line(self, document: Shown, run: Run, line: list[Pushed], *, to_the_end: bool) -> None:
        # What is not known to be accepted may have waited on a dead connection, and be filed late.
        shown = [run.shown[pushed.id] for pushed in line if pushed.id in run.shown and pushed.outcome == "accepted"]
        if shown != sorted(shown):
            self._wrong(f"{document.name} was shown pushes of {line[0].publisher} in another order")
        places = [pushed.place for pushed in line if pushed.id in run.shown and pushed.outcome == "accepted"]
        last = max(places, default=-1)
        for pushed in line:
            if (
                pushed.must_come
                and document.must_show(pushed, run.epoch)
                and pushed.began > run.since
                and pushed.id not in run.shown
                and (pushed.place < last or to_the_end)
            ):
                self._wrong(f"{document.name} was never shown {pushed.id} ({pushed.channel})")
