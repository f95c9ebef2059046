"""Trainings of ``svdbench train`` side by side: who is further, after as many steps or seconds."""

from typing import TYPE_CHECKING

from svdbench.quantities import quantity
from svdbench.reproduce.numbers import Measured, Point
from svdbench.statistics.intervals import Interval, paired_ratio

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 60
STEP, SECONDS = "step", "elapsed_s"


def further(samples: "pd.DataFrame", ours: str, rival: str, by: str = STEP) -> Interval | None:
    """The loss of ``ours`` over that of ``rival`` where the first of them ended, seed by seed.

    A training that ended, at its target or its last step, is compared with what the other
    had come to by then; ``by``: steps or seconds of training. The geometric mean of the
    seeds that both have; None where there are none.
    """
    pairs = []
    for seed in sorted(set(_of(samples, ours)["seed"]) & set(_of(samples, rival)["seed"])):
        both = [rows[rows["seed"] == seed] for rows in (_of(samples, ours), _of(samples, rival))]
        end = min(rows[by].max() for rows in both)
        known = [rows[rows[by] <= end].sort_values(by)["relative_loss"] for rows in both]
        if all(len(losses) for losses in known):
            pairs.append([float(losses.iloc[-1]) for losses in known])
    if not pairs:
        return None
    return paired_ratio([a for a, _ in pairs], [b for _, b in pairs])


def put_further(
    found: Measured, name: str, samples: "pd.DataFrame", ours: str, rival: str, by: str = STEP
) -> None:
    """Put it among the numbers, if both have been trained."""
    ratio = further(samples, ours, rival, by)
    if ratio is not None:
        unit = {STEP: "steps", SECONDS: "seconds"}[by]
        found.interval(
            name, ratio, f"mean of {quantity(ratio.count, 'paired seed')}, at equal {unit}"
        )


def put_curves(found: Measured, figure: str, samples: "pd.DataFrame", column: str) -> None:
    """A curve for each model: the median over its seeds at each evaluation, and their range."""
    for model, rows in samples.groupby("model", sort=False):
        by_step = rows.dropna(subset=[column]).groupby("step")[column]
        table = by_step.agg(["median", "min", "max"]).reset_index()
        every = max(1, len(table) // MOST_POINTS)
        for row in table.iloc[::-1][::every].iloc[::-1].to_dict("records"):
            values = (row["step"], row["median"], row["min"], row["max"])
            found.curves.append(Point(figure, str(model), *map(float, values)))


def _of(samples: "pd.DataFrame", model: str) -> "pd.DataFrame":
    rows = samples[samples["model"] == model]
    return rows[rows["relative_loss"] > 0]
