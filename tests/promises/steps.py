"""``make bench``: measures the figures this project promises, and judges them.

Runs ``time-fasth`` twice (every method up to d = 1024, the fast ones at 2048) and
writes ``figures.csv`` beside the runs: what was promised, what was measured.
"""

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from promises.figures import BASELINE, Promise, at_least, finish, ratios
from svdbench.measure import voids_floor
from svdbench.record.reader import RecordedRun
from svdbench.running.start import launch
from svdbench.timings.report import read_summary

if TYPE_CHECKING:
    import pandas as pd

BUILDS_Q = ("torch_cayley", "torch_matrix_exp", "torch_householder_map")
PEERS = ("geotorch", "torch_householder")
FAST = ("fasth", "cayley", "sequential", "fasthpp", "torch_cayley")
HELP = "import svdbench.cli as c, sys; c.main(['--help'])"
LATE = (
    "import sys, svdbench.cli; print([m for m in ('torch', 'hydra', 'pandas') if m in sys.modules])"
)


def main() -> None:
    """Measure everything, write ``results/bench/<time>/figures.csv``, print the verdicts."""
    folder = Path("results") / "bench" / datetime.now().strftime("%Y%m%d-%H%M%S")
    common = [f"results={folder}", "measure.budget_s=200", "measure.max_reps=400"]
    launch("time_fasth", [*common, "name=to-1024"])
    methods = f"methods=[{','.join(FAST)}]"
    launch("time_fasth", [*common, "name=2048", "sizes.d=[2048]", "measure.budget_s=60", methods])
    import pandas as pd

    runs = [read_summary(RecordedRun(folder / "time-fasth" / name)) for name in ("to-1024", "2048")]
    finish([*speed_figures(pd.concat(runs)), *start_figures()], folder)


def speed_figures(summary: "pd.DataFrame") -> list[Promise]:
    """Ratios of step times to FastH's, FastH's to the floor, and its memory."""
    rows = summary[(summary["pass"] == "step") & (summary["status"] == "ok")]
    ratio = ratios(rows)
    ratio["rivals"] = ratio[[m for m in (*BUILDS_Q, *PEERS) if m in ratio]].min(axis=1)
    promised: list[tuple[str, str, dict[int, float]]] = [
        ("sequential / fasth", "sequential", {512: 15, 1024: 15}),
        ("matrix_exp / fasth", "matrix_exp", {512: 100}),
        ("cayley / fasth", "cayley", {64: 0.95, 128: 0.95, 512: 3, 1024: 3, 2048: 3}),
        ("best of torch's maps and peers / fasth", "rivals", {256: 4, 512: 12, 1024: 12, 2048: 12}),
        ("fasthpp / fasth", "fasthpp", dict.fromkeys(ratio.index, 3)),
    ]
    figures = [f for promise in promised for f in at_least(promise[0], ratio, *promise[1:])]
    ours = rows[rows["method"] == BASELINE].set_index("d")
    for d in (1024, 2048):
        if d in ours.index:
            share = float(ours.loc[d, "of_floor"])
            times = None if voids_floor([share]) else 1 / share  # its rate was disturbed
            figures.append(Promise("fasth / floor", d, times, False, 2.5))
    if 1024 in ours.index:
        share = float(ours.loc[1024, "peak_bytes"]) / (1024 * 1024 * 4)
        figures.append(Promise("memory of a step / bytes of V", 1024, share, False, 4))
    return figures


def start_figures() -> list[Promise]:
    """How long ``svdbench --help`` takes, and what it imports that it should not."""
    times = []
    for _ in range(7):
        start = perf_counter()
        subprocess.run([sys.executable, "-c", HELP], check=True, capture_output=True)
        times.append(perf_counter() - start)
    late = subprocess.run([sys.executable, "-c", LATE], check=True, capture_output=True, text=True)
    heavy = len(late.stdout.strip("[]\n").split(",")) if late.stdout.strip() != "[]" else 0
    return [
        Promise("seconds of svdbench --help", None, median(times), False, 0.3),
        Promise("heavy modules it imports", None, heavy, False, 0),
    ]


if __name__ == "__main__":
    main()
