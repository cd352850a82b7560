"""Puts named faults into the core, one at a time; the tests must catch each: `make mutants`.

`python -m tools.mutants [part of a name …]` tries those alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent

#: The tests that must catch them, the quick ones first.
TESTS: Final = (
    *("test_log", "test_page", "test_hub", "test_broker", "test_node", "test_tokens", "test_delegates"),
    *("test_publisher", "test_renew", "test_identity", "test_protocol_resume", "test_machine"),
)
MACHINE: Final = ("test_machine",)

#: Seconds after which a run counts as caught: it hangs.
PATIENCE: Final = 400


class Mutant(NamedTuple):
    """A fault: in `file`, `before` becomes `after`. `tests` must fail then."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...] = TESTS


MUTANTS: Final = (
    Mutant("rule 1: the epoch is ignored", "log.py", "if epoch != self.epoch or any(", "if any("),
    Mutant(
        "rule 1: the watermark is not looked at",
        "log.py",
        "if any(cursor < self.watermark for cursor in cursors.values()):",
        "if False:",
    ),
    Mutant(
        "rule 1: the chain of predecessors is not looked at",
        "log.py",
        "if first is not None and first.prev > cursor:",
        "if False:",
        MACHINE,
    ),
    Mutant(
        "rule 2: a channel can lose its last entry", "log.py", "while len(entries) > 1 and (", "while entries and ("
    ),
    Mutant(
        "rule 2: the bound of all does not raise the watermark",
        "log.py",
        "        self.watermark = tick.seq\n",
        "        self.watermark = tick.seq if self.size <= self._total_bytes else self.watermark\n",
    ),
    Mutant("rule 3: the watermark stays when age takes", "log.py", "        self.watermark = tick.seq\n", ""),
    Mutant(
        "rule 5: a limited read claims to reach the head", "log.py", "found[index - 1].seq, True)", "self.head, True)"
    ),
    Mutant(
        "rule 5: the chunk is cut before it is sorted",
        "log.py",
        "        found.sort(key=lambda entry: entry.seq)\n",
        "",
    ),
    Mutant(
        "rule 6: time takes no numbers",
        "log.py",
        "    def _mark(self, now: float) -> None:\n        self.head += 1\n",
        "    def _mark(self, now: float) -> None:\n",
    ),
    Mutant("rule 6: a record ends by time alone", "broker.py", "if self._may_resume(record):", "if False:"),
    Mutant(
        "rule 7: a loss on a live connection is not told",
        "node.py",
        "                page.socket.send(self.welcome(page, replay))\n",
        "",
        MACHINE,
    ),
    Mutant(
        "rule 9: a page that lags is pinged with a number",
        "node.py",
        "page.socket.send(still)",
        "page.socket.send(moving)",
        MACHINE,
    ),
    Mutant(
        "rule 9: a ping overtakes what waits in the mailbox",
        "node.py",
        "page.socket.send(moving)",
        "page.socket.write(moving)",
    ),
    Mutant(
        "rule 11: nothing is held while a page attaches",
        "page.py",
        "or not (self.state is State.HOLDING or self.state is State.REPLAYING):",
        "or True:",
        MACHINE,
    ),
    Mutant("rule 11: what is held has no bound", "page.py", "if self._held_size > self._held_limit:", "if False:"),
    Mutant(
        "rule 14: a fresh token takes the new position",
        "tokens.py",
        "                issued=self._clock(),\n",
        "                issued=self._clock(),\n                seq=token.seq + 1,\n",
    ),
    Mutant(
        "rule 15: a superseded page stays in the hub", "node.py", "            self._remove(previous, Event.CUT)\n", ""
    ),
    Mutant("rule 16: the last attempt wins, not the highest", "page.py", "if attempt > owner.attempt", "if attempt"),
    Mutant(
        "rule 17: any other document takes the page over",
        "page.py",
        "        return Claim.FORKED\n",
        "        return Claim.GRANTED\n",
    ),
    Mutant(
        "rule 17: a fork hears what is for the other page",
        "node.py",
        "other = arrival._replace(page_id=self._new_page_id(), topics=topics)",
        "other = arrival._replace(topics=topics, document=arrival.document + arrival.document)",
    ),
    Mutant("rule 21: a joined topic is read from the cursor", "page.py", "max(seq, since)", "seq"),
    Mutant(
        "rule 21: a read goes on behind a control entry",
        "node.py",
        "                page.relearn = True\n                return False\n",
        "                page.relearn = True\n",
        MACHINE,
    ),
    Mutant("rule 21: a join is not announced", "broker.py", 'Control("topics", seq)', 'Control("nothing", seq)'),
    Mutant(
        "rule 22: revocation is not looked up at attach",
        "broker.py",
        "revoked = self._is_revoked(hello)",
        "revoked = False",
    ),
    Mutant(
        "rule 22: a revocation does not close pages", "node.py", 'message.kind == "revoked"', 'message.kind == "never"'
    ),
    Mutant(
        "rule 23: a key does not stop a repeat",
        "broker.py",
        "if filed is None:\n            seq",
        "if True:\n            seq",
    ),
    Mutant(
        "rule 24: an answer counts twice",
        "publisher.py",
        "or answer.document in self._documents:",
        "or False:",
    ),
    Mutant("rule 24: anybody can answer", "publisher.py", "if self.channel not in answer.channels or ", "if "),
    Mutant("rule 25: a repeat of a send runs again", "broker.py", "if send_id in sends:", "if False:"),
    Mutant(
        "rule 25: a forgotten send runs again", "broker.py", "if sends and send_id < next(iter(sends)):", "if False:"
    ),
    Mutant(
        "rule 27: gone comes for pages that never attached",
        "broker.py",
        "if record.owner is not None and not record.gone:",
        "if True:",
    ),
    Mutant(
        "rule 27: an old socket ends the page of a new one", "broker.py", "or record.owner[:2] != owner[:2]", "or False"
    ),
    Mutant(
        "a page is written what it has",
        "page.py",
        "            elif seq > page.position:",
        "            else:",
    ),
    Mutant(
        "a replay repeats what was written",
        "page.py",
        "        if seq <= self.position:\n            return False\n        self.position = seq\n        return True",
        "        self.position = seq\n        return True",
    ),
    Mutant(
        "a channel keeps one entry too few",
        "log.py",
        "len(entries) > self._channel_entries",
        "len(entries) >= self._channel_entries",
    ),
    Mutant(
        "what the bounds take at once is not handed out",
        "log.py",
        "            self._shrink(now)\n        return message",
        "            self._shrink(now)\n        return entry.message  # type: ignore",
    ),
    Mutant(
        "the hub forgets a channel too early",
        "hub.py",
        "            if not pages:\n",
        "            if len(pages) < 2:\n",
    ),
    Mutant(
        "a page that lags is written to",
        "page.py",
        "        if page.state is _LIVE:",
        "        if page.state in (State.LIVE, State.LAGGING):",
    ),
    Mutant(
        "a page that was ended by the server is not detached",
        "node.py",
        "Event.BYE if left else Event.CUT)\n",
        "Event.BYE if left else Event.CUT)\n        else:\n            return\n",
    ),
    Mutant("an expired message is delivered", "log.py", "and not entry.expired(now)]", "]"),
    Mutant("an emptied message keeps its bytes", "log.py", "        self.size -= entry.size\n", "", TESTS),
)


def run(mutant: Mutant, place: Path) -> bool:
    """Whether the tests catch it."""
    target = place / "pagews" / mutant.file
    source = target.read_text()
    if source.count(mutant.before) < 1:
        raise SystemExit(f"{mutant.name}: {mutant.file} has no {mutant.before!r} any more: mend the table")
    target.write_text(source.replace(mutant.before, mutant.after, 1))
    try:
        return not passes(mutant.tests, place)
    finally:
        target.write_text(source)


def passes(tests: tuple[str, ...], place: Path) -> bool:
    """Whether all the tests pass on the tree at `place`."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *(f"tests/{test}.py" for test in tests),
    ]
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1, 2):
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.returncode == 0


def main(wanted: list[str]) -> None:
    """Try every mutant, or those whose name has one of the words."""
    chosen = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.name for word in wanted)]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("pagews", "tests", "tools", "static", "templates", "setup.cfg", "pyproject.toml"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source, place / name, ignore=shutil.ignore_patterns("__pycache__", "browser", "packaging")
                )
            else:
                shutil.copy(source, place / name)
        if not passes(tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests)), place):
            raise SystemExit("the tests fail without any mutant: mend that first")
        for mutant in chosen:
            caught = run(mutant, place)
            print(f"{'killed  ' if caught else 'SURVIVED'} {mutant.name}", flush=True)
            if not caught:
                survivors.append(mutant.name)
    print(f"killed {len(chosen) - len(survivors)} of {len(chosen)}")
    raise SystemExit(1 if survivors else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
