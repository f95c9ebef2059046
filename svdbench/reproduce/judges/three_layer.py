"""The three-layer network under rSVD and truncSVD: accuracy, loss and time, epoch by epoch."""

from typing import TYPE_CHECKING

from svdbench.quantities import quantity
from svdbench.reproduce.numbers import Measured, Point
from svdbench.reproduce.runs import Runs
from svdbench.statistics.intervals import mean_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("stock", "rsvd", "truncsvd")


def measure(runs: Runs) -> Measured:
    """Scores at the first and the last epoch, times over stock's, and paired differences."""
    found = Measured()
    published = runs.table("three-layer-published", "samples")
    for method in METHODS:
        own = published[published["method"] == method]
        for epoch, at in ((1, "first"), (10, "last")):
            rows = own[own["epoch"] == epoch]
            for column in ("accuracy", "loss"):
                found.one_more(f"{method}_{column}_{at}", rows[column])
    for prefix, run in (("", "three-layer-published"), ("corrected_", "three-layer-corrected")):
        _differences(found, prefix, runs.table(run, "samples"))
    for column in ("accuracy", "loss"):
        _curves(found, column, published)
    return found


def _differences(found: Measured, prefix: str, rows: "pd.DataFrame") -> None:
    """Of the last epoch, to stock, seed by seed."""
    last = rows[rows["epoch"] == rows["epoch"].max()]
    scores = last.pivot_table(index="seed", columns="method", values="accuracy")
    seconds = rows.pivot_table(index="seed", columns="method", values="epoch_s", aggfunc="sum")
    for method in METHODS[1:]:
        lost = paired_difference(list(scores["stock"]), list(scores[method]))
        found.interval(
            f"{prefix}{method}_lost", lost, f"mean of {quantity(lost.count, 'paired seed')}"
        )
        found.mean(f"{prefix}{method}_time", seconds[method] / seconds["stock"])


def _curves(found: Measured, column: str, rows: "pd.DataFrame") -> None:
    for (method, epoch), own in rows.groupby(["method", "epoch"], sort=False):
        at = mean_interval(list(own[column]))
        band = (at.low, at.high) if at.count > 1 else (None, None)
        found.curves.append(Point(column, str(method), float(epoch), at.mean, *band))
