"""The running time of a gradient-descent step: FastH against its rivals, size by size."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.times import put_curves, put_ratio, ratio, row_of, steps

OURS = "fasth"
SHOWN = ("fasth", "cayley", "cayley_dense", "sequential", "matrix_exp", "parallel")
# Whose output Q·X is computed without Q, and those that build it, as the published figure did.
RIVALS = {"sequential": "sequential", "dense_cayley": "cayley_dense", "exp": "matrix_exp"}


def measure(runs: Runs) -> Measured:
    """Ratios to FastH's time at every d, and the least and the largest of them."""
    found, timed = Measured(), steps(runs.table("step"))
    sizes = sorted(set(timed.loc[timed["method"] == OURS, "d"]))
    for d in sizes:
        at = timed[timed["d"] == d]
        ours = row_of(at, method=OURS)
        for name, method in {**RIVALS, "parallel": "parallel", "cayley": "cayley"}.items():
            put_ratio(found, f"{name}_{d:.0f}", row_of(at, method=method), ours)
        others = at[at["kind"] != ours["kind"]]
        if len(others):
            best = others.loc[others["median_s"].idxmin()]
            put_ratio(found, f"best_{d:.0f}", best, ours)
    for name, method in RIVALS.items():
        rows = [row_of(timed, method=method, d=d) for d in sizes]
        pairs = [
            (row, row_of(timed, method=OURS, d=d))
            for row, d in zip(rows, sizes, strict=True)
            if row is not None
        ]
        if pairs:
            put_ratio(found, f"{name}_least", *min(pairs, key=lambda pair: ratio(*pair).mean))
            put_ratio(found, f"{name}_largest", *max(pairs, key=lambda pair: ratio(*pair).mean))
    put_curves(found, "step_time", timed[timed["method"].isin(SHOWN)], "d", "method")
    return found
