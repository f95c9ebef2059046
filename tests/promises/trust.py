"""``make bench-trust``: whether results survive what happens to machines, and what that costs.

Writes ``figures.csv``. Parts can be named, as in ``python -m promises.trust kills``;
``KILLS=60`` in the environment makes fewer kills.
"""

import csv
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from promises.commands import commands, write_model
from promises.figures import Promise, measure_parts
from promises.kills import COUNTED, Wounds, killed, total
from svdbench.jobs.report.run import pages
from svdbench.record.run import RunWriter
from svdbench.record.schema import SAMPLES, SUMMARY

KILLS = 300
CELLS, REPS = 300, 30
ROWS = 100_000


def main(parts: Sequence[str]) -> None:
    """Measure the parts, all by default; write the figures and print the verdicts.

    Raises:
        UserError: a part that there is none of.
    """
    measure_parts("bench-trust", PARTS, parts)


# ------------------------------------------------------------------ kill -9


def kills(folder: Path) -> list[Promise]:
    """Kill small runs of every job at random moments, and give their commands again."""
    home, folder = Path.cwd(), folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        write_model(folder)
        found = _of_all_commands(int(os.environ.get("KILLS", KILLS)))
    finally:
        os.chdir(home)
    return [
        Promise("kill -9 during runs of all jobs", None, found.kills, True, KILLS),
        Promise("rows lost", None, found.lost, False, 0),
        Promise("rows torn", None, found.torn, False, 0),
        Promise("rows repeated", None, found.repeated, False, 0),
        Promise("tables different from the run without kills", None, found.different, False, 0),
        Promise("commands refused after a kill", None, found.refused, False, 0),
        Promise("processes left running", None, found.left, False, 0),
    ]


def _of_all_commands(count: int) -> Wounds:
    """Kill all commands, so many times together; ``kills.csv`` has what was found by each."""
    found = []
    with open("kills.csv", "w", newline="", encoding="utf-8", buffering=1) as file:
        table = csv.DictWriter(file, ["command", *COUNTED], lineterminator="\n")
        table.writeheader()
        for title, wounds in killed(commands(), count):
            found.append(wounds)
            counts = {name: getattr(wounds, name) for name in COUNTED}
            table.writerow({"command": title, **counts})
            print(title, *(f"{name} {number}" for name, number in counts.items()), flush=True)
    return total(found)


# ------------------------------------------------------------------ what it costs


def recording(folder: Path) -> list[Promise]:
    """What a cell of a timing costs, beyond its timing: its rows, on the disk, and the journal."""
    times = []
    with RunWriter.create(folder, "time-fasth", "recording", env={}) as record:
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
        Promise("recording a cell of 33 rows: seconds", None, statistics.median(times), False, 1e-3)
    ]


def report(folder: Path) -> list[Promise]:
    """The report of a run with many rows."""
    with RunWriter.create(folder, "time-fasth", "many", config="seed: 0\n", env={}) as record:
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
    return [Promise(f"the report of {ROWS:,} rows: seconds", None, seconds, False, 5)]


PARTS: dict[str, Callable[[Path], list[Promise]]] = {
    "recording": recording,
    "report": report,
    "kills": kills,
}

if __name__ == "__main__":
    main(sys.argv[1:])
