"""``make bench-sweep``: how much faster two processes are with a sweep than one.

Forty trainings of five seconds, each on one thread, by ``hydra/launcher=joblib`` and without;
on two idle cores. Writes ``figures.csv`` beside the runs.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from promises.figures import Promise, measure_parts
from svdbench.running.sweeps import Sweep, SweepSource, run_sweep
from svdbench.training.build import overrides_of

CELLS, PROCESSES, AT_LEAST = 40, 2, 1.8
CELL = (
    *("task.length=100", "model.hidden_size=64", "trainer.batch_size=50", "trainer.steps=400"),
    *("trainer.threads=1", "trainer.target=0", "trainer.checkpoint=false"),
)
JOBLIB = ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={PROCESSES}")


def main(parts: Sequence[str]) -> None:
    """Measure; write the figures and print the verdicts."""
    measure_parts("bench-sweep", PARTS, parts)


def speedup(folder: Path, cells: int = CELLS, cell: Sequence[str] = CELL) -> list[Promise]:
    """The time of a sweep in one process over that in two, all that belongs to it included."""
    seconds = {}
    for name, engine in (("one", ()), ("two", JOBLIB)):
        own = [*cell, f"seed=range({cells})", f"results={folder}", f"name={name}", *engine]
        (overrides,) = overrides_of("lstm", "addition", own, presets=True).values()
        start = time.perf_counter()
        run_sweep(Sweep("train", (SweepSource(tuple(overrides)),))).check()
        seconds[name] = time.perf_counter() - start
    ratio = seconds["one"] / seconds["two"]
    what = f"{cells} trainings, one process's time over that of {PROCESSES}"
    return [Promise(what, None, ratio, True, AT_LEAST)]


PARTS: dict[str, Callable[[Path], list[Promise]]] = {"speedup": speedup}

if __name__ == "__main__":
    main(sys.argv[1:])
