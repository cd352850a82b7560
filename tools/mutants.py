"""Puts named faults into the program, one at a time; the tests must catch each: `make mutants`.

`python -m tools.mutants [part of a name …]` tries those alone.
"""

from __future__ import annotations

import enum
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tools.mutant import Mutant
from tools.mutants_limits import LIMIT_MUTANTS
from tools.mutants_redis import REDIS_MUTANTS
from tools.mutants_security import SECURITY_MUTANTS

ROOT: Final = Path(__file__).resolve().parent.parent

#: The state machine alone.
MACHINE: Final = "test_machine"

#: Histories that the state machine has to catch a fault.
HISTORIES: Final = 1000
#: With a seed that is given, all shares have the same histories: the first stands for them.
OTHER_SHARES: Final = ("TestSecondShare", "TestThirdShare", "TestLastShare")

#: Seconds that a run may take. One that takes more has caught nothing.
PATIENCE: Final = 400
#: Bytes of memory that a run may take.
MEMORY: Final = 4 << 30

CORE_MUTANTS: Final = (
    Mutant("rule 1: the epoch is ignored", "pagews/log.py", "if epoch != self.epoch or any(", "if any(", "test_log"),
    Mutant(
        "rule 1: the watermark is not looked at",
        "pagews/log.py",
        "if any(cursor < self.watermark for cursor in cursors.values()):",
        "if False:",
        "test_log",
    ),
    Mutant(
        "rule 1: the chain of predecessors is not looked at",
        "pagews/log.py",
        "if first is not None and first.prev > cursor:",
        "if False:",
        MACHINE,
    ),
    Mutant(
        "rule 2: a channel can lose its last entry",
        "pagews/log.py",
        "while len(entries) > 1 and (",
        "while entries and (",
        "test_log",
    ),
    Mutant(
        "rule 2: the bound of all does not raise the watermark",
        "pagews/log.py",
        "        self.trimmed += before - self.count\n",
        "        self.trimmed += before - self.count\n        self.watermark = 0\n",
        "test_log",
    ),
    Mutant(
        "rule 3: the watermark stays when age takes",
        "pagews/log.py",
        "        self.watermark = tick.seq\n"
        "        for channel in tick.channels:\n            filed = self._channels.get(channel)\n"
        "            if filed is None:\n                continue\n"
        "            while filed.entries and filed.entries[0].seq <= self.watermark:\n",
        "        for channel in tick.channels:\n            filed = self._channels.get(channel)\n"
        "            if filed is None:\n                continue\n"
        "            while filed.entries and filed.entries[0].seq <= tick.seq:\n",
        "test_log",
    ),
    Mutant(
        "rule 5: a limited read claims to reach the head",
        "pagews/log.py",
        "found[index - 1].seq, True)",
        "self.head, True)",
        "test_log",
    ),
    Mutant(
        "rule 5: the chunk is cut before it is sorted",
        "pagews/log.py",
        "        found.sort(key=lambda entry: entry.seq)\n",
        "",
        "test_log",
    ),
    Mutant(
        "rule 6: time takes no numbers",
        "pagews/log.py",
        "    def _mark(self, now: float) -> None:\n        self.head += 1\n",
        "    def _mark(self, now: float) -> None:\n",
        "test_log",
    ),
    Mutant(
        "rule 6: a record ends by time alone",
        "pagews/memory_broker.py",
        "            if may_resume:\n",
        "            if False:\n",
        "test_broker",
    ),
    Mutant(
        "rule 6: the record of a page that was ended has an old head",
        "pagews/memory_broker.py",
        "record.attached, record.head = False, self._log.head\n        if",
        "record.attached = False\n        if",
        "test_broker",
    ),
    Mutant(
        "rule 7: a loss on a live connection costs the outcomes of sends",
        "static/page.js",
        '(lost === "expired" && fresh)',
        'lost === "expired"',
        "test_javascript",
    ),
    Mutant(
        "rule 7: a loss on a live connection is not told",
        "pagews/node.py",
        "            page.socket.send(self.welcome(page, replay))\n",
        "",
        "test_node",
    ),
    Mutant(
        "rule 8: a ping runs ahead of what was handed out",
        "pagews/node.py",
        "        seq = self.broker.position.seq\n",
        "        seq = self.broker.position.seq + 1\n",
        MACHINE,
    ),
    Mutant(
        "rule 9: a page that lags is pinged with a number",
        "pagews/node.py",
        "page.socket.send(still)",
        "page.socket.send(moving)",
        "test_node",
    ),
    Mutant(
        "rule 9: a ping overtakes what waits in the mailbox",
        "pagews/node.py",
        "page.socket.send(moving)",
        "page.socket.write(moving)",
        "test_node",
    ),
    Mutant(
        "rule 11: nothing is held while a page attaches",
        "pagews/page.py",
        "or not (self.state is State.HOLDING or self.state is State.REPLAYING):",
        "or True:",
        "test_page",
    ),
    Mutant(
        "rule 11: what is held has no bound",
        "pagews/page.py",
        "if self._held_size > self._held_limit:",
        "if False:",
        "test_page",
    ),
    Mutant(
        "rule 11: a hello is answered after its page has ended",
        "pagews/node.py",
        "        _check_holding(page)\n        self._replace(page)\n",
        "        self._replace(page)\n",
        "test_node",
    ),
    Mutant(
        "rule 14: a fresh token takes the new position",
        "pagews/tokens.py",
        "page=page or token.page, issued=",
        "page=page or token.page, seq=token.seq + 1, issued=",
        "test_tokens",
    ),
    Mutant(
        "rule 15: a superseded page stays in the hub",
        "pagews/node.py",
        "            self._remove(previous, Event.CUT)\n",
        "",
        "test_node",
    ),
    Mutant(
        "rule 16: the last attempt wins, not the highest",
        "pagews/page.py",
        "if attempt >= owner.attempt",
        "if attempt",
        "test_page",
    ),
    Mutant(
        "rule 16: a late answer replaces a newer socket",
        "pagews/node.py",
        "        _check_holding(page)\n        self._replace(page)\n",
        "        _check_holding(page)\n        page.socket.flush()\n",
        "test_node",
    ),
    Mutant(
        "rule 17: any other document takes the page over",
        "pagews/page.py",
        "        return Claim.FORKED\n",
        "        return Claim.GRANTED\n",
        "test_page",
    ),
    Mutant(
        "rule 17: a fork hears what is for the other page",
        "pagews/node.py",
        "other = arrival._replace(page_id=self._new_page_id(), topics=topics)",
        "other = arrival._replace(topics=topics, document=arrival.document + arrival.document)",
        "test_node",
    ),
    Mutant(
        "rule 17: a fork hears a topic from before its page did",
        "pagews/node.py",
        "topics = arrival.topics if recorded is None else recorded",
        "topics = arrival.topics if recorded is None else dict.fromkeys(recorded, 0)",
        MACHINE,
    ),
    Mutant(
        "rule 17: a fork hears a topic that its page has left",
        "pagews/node.py",
        "topics = arrival.topics if recorded is None else recorded",
        "topics = {**arrival.topics, **(recorded or {})}",
        MACHINE,
    ),
    Mutant("rule 21: a joined topic is read from the cursor", "pagews/page.py", "max(seq, since)", "seq", "test_page"),
    Mutant(
        "rule 21: a read goes on behind a control entry",
        "pagews/node.py",
        "                page.relearn = True\n                return False\n",
        "                page.relearn = True\n",
        "test_node",
    ),
    Mutant(
        "rule 21: a page whose asking was interrupted does not ask again",
        "pagews/node.py",
        "page.relearn = page.relearn or not learned",
        "page.relearn = page.relearn or False",
        "test_node",
    ),
    Mutant(
        "rule 21: a topic that was left is heard while its page attaches",
        "pagews/node.py",
        "        return True\n\n    def _spawn",
        "        return bool(new)\n\n    def _spawn",
        "test_node",
    ),
    Mutant(
        "two tasks read on for one page",
        "pagews/node.py",
        "return page.state is State.REPLAYING and page.task is asyncio.current_task()",
        "return page.state is State.REPLAYING",
        "test_node",
    ),
    Mutant(
        "rule 21: a join is not announced",
        "pagews/memory_broker.py",
        'Control("topics", seq)',
        'Control("nothing", seq)',
        "test_node",
    ),
    Mutant(
        "rule 22: revocation is not looked up at attach",
        "pagews/memory_broker.py",
        "revoked = self._is_revoked(hello)",
        "revoked = False",
        "test_broker",
    ),
    Mutant(
        "rule 22: a revocation does not close pages",
        "pagews/node.py",
        'if message.kind == "revoked":\n            self._end',
        "if False:\n            self._end",
        "test_node",
    ),
    Mutant(
        "rule 23: a key does not stop a repeat",
        "pagews/memory_broker.py",
        "if filed is None:\n            seq",
        "if True:\n            seq",
        "test_broker",
    ),
    Mutant(
        "rule 24: an answer counts twice",
        "pagews/receipts.py",
        "or answer.document in self._documents:",
        "or False:",
        MACHINE,
    ),
    Mutant(
        "rule 24: anybody can answer",
        "pagews/receipts.py",
        "if self.channel not in answer.channels or ",
        "if ",
        MACHINE,
    ),
    Mutant(
        "rule 25: a repeat of a send runs again",
        "pagews/sends.py",
        "send_id in self.results or ",
        "",
        "test_broker",
    ),
    Mutant(
        "rule 25: a forgotten send runs again",
        "pagews/sends.py",
        " or send_id <= self.forgotten",
        "",
        "test_broker",
    ),
    Mutant(
        "rule 25: a send runs unclaimed",
        "pagews/page_handler.py",
        "        if message.qos == 2:\n            claim =",
        "        if message.qos > 2:\n            claim =",
        "test_protocol",
    ),
    Mutant(
        "rule 25: a page that was ended forgets its claims",
        "pagews/memory_broker.py",
        "        self._expect(page_id, record, self._resumable)\n\n    async def close_page",
        "        del self._records[page_id]\n\n    async def close_page",
        "test_broker",
    ),
    Mutant(
        "rule 27: gone comes for pages that never attached",
        "pagews/memory_broker.py",
        "        if record.owner is not None:\n            self._receiver.gone",
        "        if True:\n            self._receiver.gone",
        "test_broker",
    ),
    Mutant(
        "rule 27: an old socket ends the page of a new one",
        "pagews/memory_broker.py",
        "or not record.owner.is_claim_of(owner)",
        "or False",
        MACHINE,
    ),
    Mutant(
        "rule 28: a welcome resets the back-off",
        "static/link.js",
        '(news || frame.kind === "ping")',
        '(news || frame.kind !== "result")',
        "test_javascript",
    ),
    Mutant(
        "rule 29: what overflows is dropped in silence",
        "static/delegates.js",
        "      this.#host.overflowed();\n",
        "",
        "test_javascript",
    ),
    Mutant(
        "a page that is gone keeps its variables",
        "pagews/memory_broker.py",
        "            record.variables = None\n",
        "",
        "test_broker",
    ),
    Mutant(
        "a page that is gone is given variables",
        "pagews/memory_broker.py",
        "if page_id in self._gone or (record is not None and record.gone):",
        "if False:",
        "test_broker",
    ),
    Mutant(
        "the task of a page outlives it",
        "pagews/node.py",
        "        self.tasks.end(page_id)\n",
        "        pass\n",
        "test_page_tasks",
    ),
    Mutant(
        "a drain throws away the results that it waits for",
        "pagews/drain.py",
        "            if socket in at_work:\n",
        "            if False:\n",
        MACHINE,
    ),
    Mutant(
        "a time limit is for the oldest alone",
        "pagews/time_limit.py",
        "            watched.stop()\n        self._look()\n",
        "            watched.stop()\n",
        "test_time_limit",
    ),
    Mutant(
        "a loop that stood still makes time limits shorter",
        "pagews/time_limit.py",
        "return now + RESPITE if now - deadline > LATE else now",
        "return now",
        "test_time_limit",
    ),
    Mutant(
        "a time limit is judged before what lies there is looked at",
        "pagews/time_limit.py",
        "self._timer = loop.call_at(_last_look(oldest.deadline), self._stop, loop.time())",
        "self._stop(loop.time())",
        "test_time_limit",
    ),
    Mutant(
        "a page that never attaches is kept for ever",
        "pagews/memory_broker.py",
        "_Record(head=self._log.head)\n        self._expect(page_id, record, self._resumable)\n",
        "_Record(head=self._log.head)\n",
        "test_broker",
    ),
    Mutant(
        "a page is written what it has",
        "pagews/page.py",
        "            elif seq > page.position:",
        "            else:",
        "test_page",
    ),
    Mutant(
        "a replay repeats what was written",
        "pagews/page.py",
        "        if seq <= self.position:\n            return False\n        self.position = seq\n        return True",
        "        self.position = seq\n        return True",
        "test_page",
    ),
    Mutant(
        "a channel keeps one entry too few",
        "pagews/log.py",
        "len(entries) > self._channel_entries",
        "len(entries) >= self._channel_entries",
        "test_log",
    ),
    Mutant(
        "what the bounds take at once is not handed out",
        "pagews/log.py",
        "            self._shrink(now)\n        return message",
        "            self._shrink(now)\n        return entry.message  # type: ignore",
        "test_log",
    ),
    Mutant(
        "the hub forgets a channel too early",
        "pagews/hub.py",
        "            if not pages:\n",
        "            if len(pages) < 2:\n",
        "test_hub",
    ),
    Mutant(
        "a page that lags is written to",
        "pagews/page.py",
        "        if page.state is _LIVE:",
        "        if page.state in (State.LIVE, State.LAGGING):",
        "test_page",
    ),
    Mutant(
        "a page that was ended by the server is not detached",
        "pagews/node.py",
        "Event.BYE if left else Event.CUT)\n",
        "Event.BYE if left else Event.CUT)\n        else:\n            return\n",
        MACHINE,
    ),
    Mutant("an expired message is delivered", "pagews/log.py", "and not entry.expired(now)]", "]", "test_log"),
    Mutant(
        "an emptied message keeps its bytes",
        "pagews/log.py",
        "                self._release(filed, entry)\n",
        "                entry.message = None\n",
        "test_log",
    ),
)

MUTANTS: Final = (*CORE_MUTANTS, *REDIS_MUTANTS, *LIMIT_MUTANTS, *SECURITY_MUTANTS)


class Verdict(enum.Enum):
    """What the tests say."""

    PASSED = "SURVIVED"
    FAILED = "killed"
    TIMEOUT = "TIMEOUT"


def run(mutant: Mutant, place: Path) -> Verdict:
    """What the tests say to a mutant."""
    target = place / mutant.file
    source = target.read_text()
    target.write_text(source.replace(mutant.before, mutant.after))
    try:
        return try_tests([mutant.test], place)
    finally:
        target.write_text(source)


def check_table() -> None:
    """Every mutant says what to change, and where: in one place."""
    for mutant in MUTANTS:
        places = (ROOT / mutant.file).read_text().count(mutant.before)
        if places != 1:
            raise SystemExit(f"{mutant.name}: {mutant.file} has {mutant.before!r} {places} times: mend the table")


def try_tests(tests: Iterable[str], place: Path) -> Verdict:
    """Run the tests on the tree at `place`."""
    command = [
        # A fault may make the tests grow without end.
        *("sh", "-c", f'ulimit -d {MEMORY // 1024} && exec "$@"', "sh"),
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        # It would end a run that hangs as if a test had failed.
        "-o",
        "faulthandler_timeout=0",
        "-p",
        "tools.unshrunk",
        "--numprocesses=0",
        "--hypothesis-seed=0",
        *(f"--deselect=tests/{MACHINE}.py::{share}" for share in OTHER_SHARES),
        *(f"tests/{test}.py" for test in tests),
    ]
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PAGEWS_HISTORIES"] = str(HISTORIES * (1 + len(OTHER_SHARES)))
    try:
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return Verdict.TIMEOUT
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}")
    return Verdict.FAILED if done.returncode else Verdict.PASSED


def copy(place: Path) -> None:
    """Make a tree that faults can be put into."""
    for name in ("pagews", "tests", "tools", "static", "templates", "setup.cfg", "pyproject.toml", "package.json"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "browser", "packaging"))
        else:
            shutil.copy(source, place / name)


def main(wanted: list[str]) -> None:
    """Try every mutant, or those whose name has one of the words; as many at a time as there are processors."""
    check_table()
    chosen = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.name for word in wanted)]
    killed = 0
    with tempfile.TemporaryDirectory() as folder:
        places: queue.Queue[Path] = queue.Queue()
        for number in range(os.cpu_count() or 1):
            copy(Path(folder, str(number)))
            places.put(Path(folder, str(number)))

        def judge(mutant: Mutant) -> Verdict:
            place = places.get()
            try:
                return run(mutant, place)
            finally:
                places.put(place)

        if try_tests(sorted({mutant.test for mutant in chosen}), Path(folder, "0")) is not Verdict.PASSED:
            raise SystemExit("the tests fail without any mutant: mend that first")
        with ThreadPoolExecutor(places.qsize()) as pool:
            for mutant, verdict in zip(chosen, pool.map(judge, chosen), strict=True):
                print(f"{verdict.value:8} {mutant.name}", flush=True)
                killed += verdict is Verdict.FAILED
    print(f"killed {killed} of {len(chosen)}")
    raise SystemExit(0 if killed == len(chosen) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
