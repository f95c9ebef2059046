"""``make bench-trust``: whether results survive what happens to machines, and what that costs.

Writes ``figures.csv``. Parts can be named, as in ``python -m svdbench.jobs.bench_trust kills``.
"""

import csv
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svdbench.jobs.promises import Figure, measure_parts
from svdbench.jobs.report import pages
from svdbench.jobs.train_models import train
from svdbench.record.journal import Journal
from svdbench.record.lines import read_rows
from svdbench.record.schema import SAMPLES, SUMMARY
from svdbench.record.store import Run
from svdbench.training import checkpoint

KILLS = 300
SWEEP = (
    *("seed=range(0,8)", "model.hidden_size=8", "task.length=10", "task.test_size=32"),
    *("trainer.steps=150", "trainer.batch_size=8", "trainer.evaluate_every=5"),
    *("trainer.target=0", "trainer.threads=1"),
)
CELLS, REPS = 300, 30
ROWS = 100_000


def main(parts: Sequence[str]) -> None:
    """Measure the parts, all by default; write the figures and print the verdicts.

    Raises:
        UserError: a part that there is none of.
    """
    measure_parts("bench-trust", PARTS, parts)


# ------------------------------------------------------------------ kill -9


@dataclass
class Wounds:
    """What was found wrong after kills.

    Attributes:
        lost: rows that had been on disk as finished and were not at the end, or not the same.
        torn: lines that are no rows at the end.
        repeated: cells with more than one summary.
        different: tables that differ from those of the sweep that nobody killed, times apart.
    """

    kills: int = 0
    lost: int = 0
    torn: int = 0
    repeated: int = 0
    different: int = 0
    kept: dict[Path, bytes] = field(default_factory=dict)

    def look(self, folder: Path) -> None:
        """Note what must never change again."""
        for run in folder.glob("[0-9]*"):
            for name, size in _kept(run).items():
                data = (run / name).read_bytes()[:size]
                before = self.kept.get(run / name, b"")
                self.lost += _lines_lost(before, data) if len(data) >= len(before) else 0
                self.kept[run / name] = max(before, data, key=len)

    def judge(self, folder: Path, whole: Path) -> None:
        """Compare what came of the sweep with what would have come of it."""
        for path, data in self.kept.items():
            self.lost += _lines_lost(data, path.read_bytes())
        self.kept.clear()
        for run in sorted(whole.glob("[0-9]*")):
            for name in ("samples.csv", "summary.csv"):
                found = folder / run.name / name
                lines = found.read_text().splitlines()
                width = len(next(csv.reader(lines)))
                self.torn += sum(len(line) != width for line in csv.reader(lines))
                self.different += without_times(found) != without_times(run / name)
            cells = [row["cell"] for row in read_rows(folder / run.name / "summary.csv")]
            self.repeated += len(cells) - len(set(cells))


def kills(folder: Path) -> list[Figure]:
    """Kill a sweep of trainings at random moments, start it again, until it is done; and anew."""
    home = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        found = _killed(random.Random(0))
    finally:
        os.chdir(home)
    return [
        Figure("kill -9 during sweeps of trainings", None, found.kills, True, KILLS),
        Figure("rows lost", None, found.lost, False, 0),
        Figure("rows torn", None, found.torn, False, 0),
        Figure("cells repeated", None, found.repeated, False, 0),
        Figure("tables different from the sweep without kills", None, found.different, False, 0),
    ]


def _killed(moments: random.Random) -> Wounds:
    import torch

    torch.set_num_threads(1)  # a fork takes no threads along
    found, place = Wounds(), Path("results/train")
    with open("log.txt", "w") as log, redirect_stdout(log):
        train("lstm", "addition", SWEEP, name="whole", multirun=True)
    start = time.perf_counter()
    _end(_started("timed"))  # all is imported by now
    longest = (time.perf_counter() - start) / 2  # many kills a sweep, and yet it gets on
    for sweep in range(10**6):
        name = f"killed-{sweep}"
        while True:
            child = _started(name)
            if not _ends_within(child, moments.uniform(0, longest)):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                found.kills += 1
                found.look(place / name)
                continue
            break
        found.judge(place / name, place / "whole")
        if found.kills >= KILLS:
            return found
    raise AssertionError


def _started(name: str) -> int:
    """The sweep in a process of its own, which needs not import everything anew."""
    child = os.fork()
    if child == 0:
        with open("log.txt", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            with suppress(Exception):
                os._exit(not train("lstm", "addition", SWEEP, name=name, multirun=True))
        os._exit(1)
    return child


def _ends_within(child: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, "a sweep failed: see log.txt"
            return True
        time.sleep(0.005)
    return False


def _end(child: int) -> None:
    assert os.waitpid(child, 0)[1] == 0, "a sweep failed: see log.txt"


def _kept(run: Path) -> dict[str, int]:
    """The bytes of each table that are of finished seeds, or before the last checkpoint."""
    if not (run / "config.yaml").exists():
        return {}
    with closing(Journal(run)) as journal:
        mark, done = journal.mark, journal.units
    for path in run.glob("seed-*/last.pt"):
        if path.parent.name.replace("-", " ") not in done:
            mark = checkpoint.load(path)["tables"]
    return mark


def _lines_lost(before: bytes, after: bytes) -> int:
    """Lines of ``before`` that ``after`` doesn't begin with."""
    if after.startswith(before):
        return 0
    now = after.split(b"\n")
    return sum(line != other for line, other in zip(before.split(b"\n"), now, strict=False)) or 1


def without_times(path: Path) -> list[dict[str, str]]:
    """The rows of a table, with all that is the same in every repetition of a training."""
    return [
        {
            key: value
            for key, value in row.items()
            if not key.endswith("_s") and key not in ("run_id", "seconds_to_target")
        }
        for row in read_rows(path)
    ]


# ------------------------------------------------------------------ what it costs


def recording(folder: Path) -> list[Figure]:
    """What a cell of a timing costs, beyond its timing: its rows, on the disk, and the journal."""
    times = []
    with Run.create(folder, "time-fasth", "recording", env={}) as record:
        common: dict[str, Any] = {"cell": "0" * 12, "status": "ok", "method": "fasth"}
        sizes = {key: 0.00123456789 for key in SUMMARY.own if key not in common}
        sample = common | {key: 0.00123456789 for key in SAMPLES.own if key not in common}
        for cell in range(CELLS):
            start = time.perf_counter()
            for _ in range(REPS):
                record.append(SAMPLES, sample)
            for of_pass in ("fwd", "bwd", "step"):
                record.append(SUMMARY, common | sizes | {"pass": of_pass})
            record.finish(f"cell {cell}")
            times.append(time.perf_counter() - start)
    return [
        Figure("recording a cell of 33 rows: seconds", None, statistics.median(times), False, 1e-3)
    ]


def report(folder: Path) -> list[Figure]:
    """The report of a run with many rows."""
    with Run.create(folder, "time-fasth", "many", config="seed: 0\n", env={}) as record:
        for number in range(ROWS // 2):
            common: dict[str, Any] = {
                "cell": f"{number:012x}",
                "status": "ok",
                "method": f"method_{number % 9}",
            }
            common |= {"d": 1 << number % 11, "n": 64, "m": 32, "device": "cpu"}
            record.append(SAMPLES, common | {"round": number, "step_s": 1e-3 + 1e-9 * number})
            row = common | {"pass": "step", "median_s": 1e-3 + 1e-9 * number, "reps": 30}
            record.append(SUMMARY, row)
        record.finish("all")
    start = time.perf_counter()
    pages([record.folder])
    seconds = time.perf_counter() - start
    return [Figure(f"the report of {ROWS:,} rows: seconds", None, seconds, False, 5)]


PARTS: dict[str, Callable[[Path], list[Figure]]] = {
    "recording": recording,
    "report": report,
    "kills": kills,
}

if __name__ == "__main__":
    main(sys.argv[1:])
