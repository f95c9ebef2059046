"""Times of a timing run's ``summary.csv``, and their ratios with intervals.

The standard error of a median is 1.25 σ/√n, and the quartiles are 1.35 σ apart, for what is
about normal near its middle (McGill, Tukey, Larsen, Variations of box plots, The American
Statistician 32, 1978). Repetitions of one run: how another run would differ is not in it.
"""

import math
from typing import TYPE_CHECKING, Any

from svdbench.reproduce.numbers import Measured, Point
from svdbench.statistics.intervals import Interval

if TYPE_CHECKING:
    import pandas as pd

OF = "ratio of medians, in one run"
_ERROR, _QUANTILE = 1.25 / 1.35, 1.959964


def steps(summary: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of whole steps that have a number."""
    return summary[(summary["pass"] == "step") & (summary["status"] == "ok")]


def ratio(over: Any, under: Any) -> Interval:
    """Of two rows, the time of the one over that of the other."""
    middle = over["median_s"] / under["median_s"]
    error = math.hypot(_relative_error(over), _relative_error(under))
    return Interval(
        middle,
        middle * math.exp(-_QUANTILE * error),
        middle * math.exp(_QUANTILE * error),
        int(min(over["reps"], under["reps"])),
    )


def _relative_error(row: Any) -> float:
    spread = (row["q75_s"] - row["q25_s"]) / row["median_s"]
    return float(_ERROR * spread / math.sqrt(row["reps"]))


def row_of(rows: "pd.DataFrame", **where: Any) -> Any:
    """The row whose columns have these values; None where there is none."""
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return None if rows.empty else rows.iloc[0]


def put_ratio(found: Measured, name: str, over: Any, under: Any) -> None:
    """Put the ratio of two rows among the numbers, if both are there."""
    if over is not None and under is not None:
        found.interval(name, ratio(over, under), OF)


def put_curves(found: Measured, figure: str, rows: "pd.DataFrame", x: str, series: str) -> None:
    """Put the times of a step among the curves, with quartiles: a curve for each series."""
    for row in rows.sort_values([series, x]).to_dict("records"):
        point = Point(
            figure,
            str(row[series]),
            float(row[x]),
            float(row["median_s"]),
            float(row["q25_s"]),
            float(row["q75_s"]),
        )
        found.curves.append(point)
