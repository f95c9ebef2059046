"""Kill -9 at random moments during small runs of every job, and what is wrong afterwards.

A run is killed, and begun again by the same command, until that ends by itself; then its tables
are compared with those of a run that nobody killed. Another run follows, until the command has
had its share of the kills.
"""

import csv
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from promises.commands import Command
from svdbench.record.journal import NAME as JOURNAL
from svdbench.record.journal import read_finished
from svdbench.record.lines import RecordError, read_rows
from svdbench.training import checkpoint

WHOLE = "whole"  # the name of the run that nobody kills
LOG = "log.txt"
POLL_S = 0.005
# A moment may come after the end, so that each attempt may be the one that ends by itself.
LATEST = 1.1
# How long what a killed process has started may take to end, too.
GRACE_S = 5.0

# Columns of which nothing is the same in two runs: places, and times with what is made of them.
OWN = {"run_id", "file", "folder"}
TIMES = {"seconds_to_target", "steps_per_s", "speedup", "added", "foreign_cores"}
# Of timings, what tells one row from another.
IDENTITY = {
    *("schema_version", "job", "cell", "status", "version", "pass", "round", "method", "operation"),
    *("d", "n", "m", "k", "hidden", "length", "spectrum", "block_size", "panels", "plan_threads"),
    *("sweep", "sizes.m", "term", "device", "dtype", "threads", "l2", "kind", "reps"),
}

Row = dict[str, str]


# Those attributes of Wounds that are counts.
COUNTED = ("kills", "lost", "torn", "repeated", "different", "refused", "left")


@dataclass
class Wounds:
    """What was found wrong after kills.

    Attributes:
        lost: rows that had been on disk as finished and were not at the end, or not the same.
        torn: lines that are no rows at the end.
        repeated: rows more than once.
        different: tables and sets of files that differ from those of the run that nobody killed.
        refused: commands that, given again after a kill, did not end well.
        left: processes that went on after the one that had begun them was killed.
    """

    kills: int = 0
    lost: int = 0
    torn: int = 0
    repeated: int = 0
    different: int = 0
    refused: int = 0
    left: int = 0
    kept: dict[Path, bytes] = field(default_factory=dict)

    def look(self, folder: Path) -> None:
        """Note what must never change again."""
        for run in _runs(folder):
            for name, size in _finished(run).items():
                data = (run / name).read_bytes()[:size]
                before = self.kept.get(run / name, b"")
                self.lost += _lines_lost(before, data) if len(data) >= len(before) else 0
                self.kept[run / name] = max(before, data, key=len)

    def judge(self, command: Command, name: str) -> None:
        """Compare what came of a run with what would have come of it."""
        for path, data in self.kept.items():
            self.lost += _lines_lost(data, path.read_bytes()) if path.exists() else 1
        self.kept.clear()
        folder, whole = command.folder(name), command.folder(WHOLE)
        self.different += _files(folder) != _files(whole)
        for path in sorted(whole.rglob("*.csv")):
            found = folder / path.relative_to(whole)
            if not found.exists():
                continue  # which is one of the files that differ
            if torn := _lines_torn(found):
                self.torn += torn  # which can't be compared
                self.different += 1
                continue
            if not _is_table(path):
                continue
            ours, theirs = (_rows(table, command.timed) for table in (found, path))
            self.different += ours != theirs
            counted, once = (Counter(tuple(row.items()) for row in rows) for rows in (ours, theirs))
            self.repeated += sum(n - once[row] for row, n in counted.items() if n > once[row] > 0)


def killed(commands: Sequence[Command], kills: int, seed: int = 0) -> Iterator[tuple[str, Wounds]]:
    """Kill each command so often that ``kills`` is reached; what was found, one after the other.

    Everything is imported once: the commands are run in copies of this process.
    """
    import torch

    torch.set_num_threads(1)  # a copy takes no threads along
    os.environ["OMP_NUM_THREADS"] = "1"  # those that reproduce begins are no copies
    for number, command in enumerate(commands):
        with _logged():
            first = command.run("first")  # by which all is imported
        start = time.perf_counter()
        ended = (first, _ended(_started(command, WHOLE)))
        longest = LATEST * (time.perf_counter() - start)
        assert ended == (0, 0), f"{command.title} failed: see {LOG}"
        share = kills * (number + 1) // len(commands) - kills * number // len(commands)
        yield command.title, _killed(command, share, longest, random.Random(seed + number))


def total(wounds: Iterable[Wounds]) -> Wounds:
    """The sum of all."""
    found = Wounds()
    for each in wounds:
        for name in COUNTED:
            setattr(found, name, getattr(found, name) + getattr(each, name))
    return found


def _killed(command: Command, kills: int, longest: float, moments: random.Random) -> Wounds:
    found, number = Wounds(), 0
    while found.kills < kills:
        name = f"killed-{number}"
        number += 1
        while True:
            # The last run is left to end once the kills are done.
            last = found.kills == kills
            child = _started(command, name)
            code = _ended(child, None if last else moments.uniform(0, longest))
            if code is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                found.kills += 1
                found.left += _left(child)
                found.look(command.folder(name))
                continue
            if code == 0:
                found.judge(command, name)
            else:
                found.refused += 1
                found.kept.clear()
            break
    return found


def _started(command: Command, name: str) -> int:
    """The command in a copy of this process, which leads a group of processes of its own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with suppress(BaseException), _logged():
            os._exit(command.run(name))
        os._exit(1)
    return child


class _logged:
    """Both streams go into the log, those of the processes begun meanwhile, too."""

    def __enter__(self) -> None:
        sys.stdout.flush()
        self.before = [os.dup(stream) for stream in (1, 2)]
        with open(LOG, "a") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        for stream, kept in zip((1, 2), self.before, strict=True):
            os.dup2(kept, stream)
            os.close(kept)


def _ended(child: int, seconds: float | None = None) -> int | None:
    """The exit code of a process; None if it runs for longer."""
    until = None if seconds is None else time.monotonic() + seconds
    while until is None or time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL_S)
    return None


def _left(group: int) -> int:
    """Whether a process of a group still runs when its leader is gone; it is ended."""
    until = time.monotonic() + GRACE_S
    while _running(group):
        if time.monotonic() >= until:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
                time.sleep(0.1)
            return 1
        time.sleep(POLL_S)
    return 0


def _running(group: int) -> bool:
    """Whether a group has a process that is no zombie, which nobody has waited for yet."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            state, _, own_group = path.read_text().rpartition(")")[2].split()[:3]
            if own_group == str(group) and state not in "ZX":
                return True
    return False


def _runs(folder: Path) -> list[Path]:
    """Those in a folder that have begun, itself among them."""
    return sorted(path.parent for path in folder.rglob(JOURNAL))


def _finished(run: Path) -> dict[str, int]:
    """The bytes of each table that are of finished units, or before the last checkpoint."""
    done, mark = read_finished(run)
    for path in run.glob("seed-*/last.pt"):
        if path.parent.name.replace("-", " ") not in done:
            mark = checkpoint.load(path)["tables"]
    return mark


def _files(folder: Path) -> set[str]:
    """The names of all files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _lines_lost(before: bytes, after: bytes) -> int:
    """Lines of ``before`` that ``after`` doesn't begin with."""
    if after.startswith(before):
        return 0
    now = after.split(b"\n")
    return sum(line != other for line, other in zip(before.split(b"\n"), now, strict=False)) or 1


def _lines_torn(path: Path) -> int:
    text = path.read_text()
    lines = list(csv.reader(text.splitlines()))
    torn = sum(len(line) != len(lines[0]) for line in lines)
    return torn + (not text.endswith("\n"))


def _is_table(path: Path) -> bool:
    with suppress(RecordError):
        return bool(read_rows(path)) or True
    return False


def _rows(path: Path, timed: bool) -> list[Row]:
    """The rows of a table, with all that must be the same whenever it is written."""
    return [
        {key: value for key, value in row.items() if not timed or key in IDENTITY}
        for row in without_times(path)
    ]


def without_times(path: Path) -> list[Row]:
    """The rows of a table, with all that is the same in every repetition of a training."""
    return [
        {
            key: value
            for key, value in row.items()
            if not key.endswith("_s") and key not in OWN | TIMES
        }
        for row in read_rows(path)
    ]
